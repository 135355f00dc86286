"""Made-up abdomens with known truth: CT volumes of 13 organs and tumors, and a corpus split like FLARE23.

    phantom = make_phantom(0, 17, tumors=2)
    phantom.hu, phantom.labels, phantom.geometry
    for case in corpus(0): case.annotated(case.make())

The same seed and case give the same voxels in every process. A case takes about a second on one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pwsseg.arrays import phantom_body as body
from pwsseg.arrays import phantom_organs as organs
from pwsseg.arrays.phantom_body import Part, Vary
from pwsseg.arrays.phantom_shapes import Points, Shape, blended, ellipsoid
from pwsseg.values import FLARE23, Geometry

FloatGrid = NDArray[np.float32]  # (z, y, x)


class Phantom(NamedTuple):
    """A scan and its truth, arrays (z, y, x).

    `hu` int16; `labels` uint8 with the tumor over its organ; `organs` uint8 with the organ through it.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    organs: NDArray[np.uint8]
    geometry: Geometry


@dataclass(frozen=True)
class Person:
    """What is painted for one case: organs by class, all parts in order, how many tumors."""

    parts: list[Part]
    shapes: dict[int, Shape]
    tissue: dict[int, float]


def make_phantom(seed: int, case: int = 0, *, tumors: int | None = None, gallbladder: bool = True) -> Phantom:
    """The phantom of one case: about 45 x 85 x 115 voxels of 4-6 x 2.7-3.7 x 2.7-3.7 mm.

    `tumors` None draws 0 to 3 of them; `gallbladder` False resects it.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, case)))
    vary = Vary(rng)
    person = _person(vary, gallbladder=gallbladder)
    geometry = _geometry(vary)
    canvas = Canvas(geometry, _into_anatomy(rng, geometry), _texture(rng, geometry))
    for part in person.parts:
        canvas.paint(part)
    plain = canvas.labels.copy()
    for _ in range(int(rng.integers(0, 4)) if tumors is None else tumors):
        _add_tumor(vary, canvas, person)
    shape = geometry.shape
    hu = _scanned(rng, canvas.hu.reshape(shape), geometry)
    return Phantom(hu, canvas.labels.reshape(shape), plain.reshape(shape), geometry)


class Canvas:
    """A grid that parts are painted on, later over earlier, edges as soft as a voxel."""

    def __init__(self, geometry: Geometry, points: Points, texture: NDArray[np.float32]) -> None:
        self.points = points
        self.texture = texture
        self.softness = np.float32(float(np.mean(geometry.spacing)))
        self.hu = np.full(points.shape[1], body.AIR, np.float32)
        self.labels = np.zeros(points.shape[1], np.uint8)

    def paint(self, part: Part) -> None:
        """Fill the part's shape; its label, 0 included, replaces what was there."""
        near, distance = self.distances(part.shape)
        self._fill(near, distance, hu=part.hu, rough=part.rough)
        if part.core:
            self._fill(
                near, distance + np.float32(part.core.depth_mm), hu=part.core.hu, rough=part.core.rough
            )
        self.labels[near[distance < 0]] = part.label

    def _fill(
        self, near: NDArray[np.intp], distance: NDArray[np.float32], *, hu: float, rough: float
    ) -> None:
        cover = np.clip(0.5 - distance / self.softness, 0, 1)
        value = np.float32(hu) + np.float32(rough) * self.texture[near]
        self.hu[near] += cover * (value - self.hu[near])

    def distances(self, shape: Shape) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The flat indices of the voxels in the shape's box and their distances from its surface, mm."""
        inside = np.ones(self.points.shape[1], bool)
        for axis, low, high in zip(self.points, shape.low, shape.high, strict=True):
            if np.isfinite(low) or np.isfinite(high):
                inside &= (axis > low - self.softness) & (axis < high + self.softness)
        near = np.flatnonzero(inside)
        return near, shape.distance(self.points[:, near])


def _person(vary: Vary, *, gallbladder: bool) -> Person:
    trunk = body.vary_trunk(vary)
    shapes = organs.organ_shapes(vary, trunk)
    tissue = organs.vary_enhancement(vary)
    parts = body.table(vary, trunk) + body.outer_parts(vary, trunk) + body.bones(vary, trunk)
    parts += body.bowel(vary, trunk) + organs.organ_parts(vary, shapes, tissue)
    if not gallbladder:
        parts = [p for p in parts if p.label != organs.GALLBLADDER]
    return Person(
        parts,
        shapes,
        {
            organs.LIVER: tissue.liver,
            organs.SPLEEN: tissue.spleen,
            organs.PANCREAS: tissue.pancreas,
            organs.RIGHT_KIDNEY: tissue.cortex,
            organs.LEFT_KIDNEY: tissue.cortex,
            organs.STOMACH: tissue.gut_wall,
            organs.DUODENUM: tissue.gut_wall,
        },
    )


def _geometry(vary: Vary) -> Geometry:
    spacing = (round(vary.between(4.0, 6.0), 3), *[round(vary.between(2.7, 3.7), 3)] * 2)
    low, high = vary.between(-125, -80), vary.between(95, 135)
    extent = (high - low, vary.between(250, 285), vary.between(335, 385))
    shape = tuple(round(e / s) for e, s in zip(extent, spacing, strict=True))
    columns = np.eye(3)[:, ::-1]  # steps along z, y, x in the world: array axes run up, back, left
    if vary.chance(0.3):
        columns = columns * [1, -1, -1]
    if vary.chance(0.25):
        columns = Rotation.from_rotvec(vary.rng.uniform(-6, 6, 3), degrees=True).as_matrix() @ columns
    middle = np.asarray(vary.at(0, -18, (low + high) / 2, by_mm=6))
    half = (np.asarray(shape) - 1) / 2 * spacing
    origin = np.round(middle - columns @ half, 3)
    return Geometry(
        shape=shape,
        spacing=spacing,
        origin=tuple(map(float, origin)),
        direction=tuple(map(float, columns.ravel())),
    )


def _into_anatomy(rng: np.random.Generator, geometry: Geometry) -> Points:
    """Where in the anatomy's frame every voxel lies: turned, scaled, bent smoothly."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij")).reshape(3, -1)
    pose = Rotation.from_rotvec(rng.uniform(-5, 5, 3), degrees=True).as_matrix()
    matrix = pose / rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, (3, 1))
    step = matrix @ geometry.direction_matrix * geometry.spacing
    start = matrix @ np.asarray(geometry.origin)
    points = (np.einsum("ij,jn->in", step, index) + start[:, None]).astype(np.float32)
    for node_mm, amplitude in ((75, 5.0), (28, 1.3)):
        for axis in range(3):
            points[axis] += np.float32(amplitude) * _smooth_field(rng, geometry, node_mm).ravel()
    return np.asarray(points, np.float32)


def _smooth_field(rng: np.random.Generator, geometry: Geometry, node_mm: float) -> FloatGrid:
    """Noise of unit deviation that changes over about `node_mm`, on the geometry's grid."""
    nodes = [int(e / node_mm) + 4 for e in geometry.extent_mm]
    field = rng.standard_normal(nodes).astype(np.float32)
    for axis, (count, spacing) in enumerate(zip(geometry.shape, geometry.spacing, strict=True)):
        place = np.arange(count)[:, None] * spacing / node_mm + 1 - np.arange(nodes[axis])
        weight = np.exp(-0.5 * np.square(place / 0.7)).astype(np.float32)
        weight /= np.sqrt(np.square(weight).sum(1, keepdims=True))
        # einsum, not @: BLAS may sum in another order on another number of threads.
        field = np.moveaxis(np.einsum("ij,j...->i...", weight, np.moveaxis(field, axis, 0)), 0, axis)
    return np.ascontiguousarray(field)


def _texture(rng: np.random.Generator, geometry: Geometry) -> NDArray[np.float32]:
    return _smooth_field(rng, geometry, 9.0).ravel()


def _add_tumor(vary: Vary, canvas: Canvas, person: Person) -> None:
    hosts = {
        organs.LIVER: 0.36,
        organs.RIGHT_KIDNEY: 0.13,
        organs.LEFT_KIDNEY: 0.13,
        organs.PANCREAS: 0.16,
        organs.SPLEEN: 0.08,
        organs.STOMACH: 0.09,
        organs.DUODENUM: 0.05,
    }
    counts = np.bincount(canvas.labels, minlength=15)
    weights = np.asarray([share if counts[i] > 150 else 0.0 for i, share in hosts.items()])
    host = int(vary.rng.choice(list(hosts), p=weights / weights.sum()))
    near, distance = canvas.distances(person.shapes[host])
    own = canvas.labels[near] == host
    near, depth = near[own], -distance[own]
    radius = min(vary.between(11, 30), float(depth.max()) + 3)
    # Growths of a hollow organ sit in its wall, others may lie anywhere.
    hollow = host in (organs.STOMACH, organs.DUODENUM)
    fits = depth < 6 if hollow else depth >= min(0.5 * radius, 0.7 * float(depth.max()))
    x, y, z = (float(v) for v in canvas.points[:, vary.rng.choice(near[fits])])
    lumps = [
        ellipsoid(
            vary.at(x, y, z, by_mm=0.2 * radius * k),
            (vary.about(radius, share=0.12), vary.about(radius, share=0.12), vary.about(radius, share=0.12)),
        )
        for k in (0, 1)
    ]
    mass = blended(*lumps, over_mm=4)
    _paint_tumor(vary, canvas, mass, host=host, base=person.tissue[host])


def _paint_tumor(vary: Vary, canvas: Canvas, mass: Shape, *, host: int, base: float) -> None:
    contrast = vary.between(60, 110) if vary.chance(0.12) else -vary.between(80, 125)
    if host in (organs.STOMACH, organs.DUODENUM):
        contrast = -vary.between(20, 60)
    near, distance = canvas.distances(mass)
    mine = np.isin(canvas.labels[near], (host, FLARE23.tumor))
    near, distance = near[mine], distance[mine]
    cover = np.clip(0.5 - distance / canvas.softness, 0, 1)
    core = np.clip(-distance / 6 - 1, 0, 1) * (-25 if vary.chance(0.4) else 0)
    value = np.float32(base + contrast) + core + 8 * canvas.texture[near]
    canvas.hu[near] += (cover * (value - canvas.hu[near])).astype(np.float32)
    canvas.labels[near[distance < 0]] = FLARE23.tumor


def _scanned(rng: np.random.Generator, hu: FloatGrid, geometry: Geometry) -> NDArray[np.int16]:
    """What a scanner makes of it: blur, correlated noise that grows with the body, a slight drift."""
    blurred = ndimage.gaussian_filter(hu, (0.45, 0.55, 0.55))
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, np.float32), (0.3, 0.75, 0.75))
    noise *= np.float32(rng.uniform(11, 22)) / noise.std()
    drift = np.float32(rng.uniform(2, 6)) * _smooth_field(rng, geometry, 120)
    return np.asarray(np.clip(np.rint(blurred + noise + drift), -1024, 3071), np.int16)


@dataclass(frozen=True)
class CorpusPlan:
    """How many cases of each kind; the kinds are FLARE23's."""

    organs: int = 10
    five_organs: int = 2
    five_organs_and_tumor: int = 12
    tumor_only: int = 6
    unannotated: int = 5
    validation: int = 10


@dataclass(frozen=True)
class PhantomCase:
    """One case of a corpus, not made yet: make it where it is needed."""

    case: str
    split: str
    annotated_classes: frozenset[int]
    seed: int
    number: int
    tumors: int
    gallbladder: bool

    def make(self) -> Phantom:
        """Scan and full truth."""
        return make_phantom(self.seed, self.number, tumors=self.tumors, gallbladder=self.gallbladder)

    def annotated(self, phantom: Phantom) -> NDArray[np.uint8]:
        """Labels uint8 (z, y, x) as this case's annotators wrote them: 0 outside the annotated classes.

        Who did not annotate tumors drew the organ through them.
        """
        source = phantom.labels if FLARE23.tumor in self.annotated_classes else phantom.organs
        return np.where(np.isin(source, list(self.annotated_classes)), source, 0).astype(np.uint8)


FIVE_ORGANS = frozenset({1, 2, 3, 4, 13})


def corpus(seed: int, plan: CorpusPlan | None = None) -> list[PhantomCase]:
    """The cases of a corpus: partly annotated training cases and fully annotated validation cases."""
    plan = plan or CorpusPlan()
    tumor, full = frozenset({FLARE23.tumor}), frozenset(FLARE23.ids)
    kinds: list[tuple[int, str, frozenset[int], tuple[int, ...]]] = [
        (plan.organs, "training", frozenset(FLARE23.organs), (0, 0, 0, 1, 0)),
        (plan.five_organs, "training", FIVE_ORGANS, (1, 2)),
        (plan.five_organs_and_tumor, "training", FIVE_ORGANS | tumor, (3, 2, 4)),
        (plan.tumor_only, "training", tumor, (3, 2, 4)),
        (plan.unannotated, "training", frozenset(), (1, 0, 2)),
        (plan.validation, "validation", full, (1, 2, 1, 0, 3, 1)),
    ]
    cases: list[PhantomCase] = []
    for count, split, classes, tumors in kinds:
        for position in range(count):
            number = len(cases)
            cases.append(
                PhantomCase(
                    case=f"phantom_{number + 1:04d}",
                    split=split,
                    annotated_classes=classes,
                    seed=seed,
                    number=number,
                    tumors=tumors[position % len(tumors)],
                    gallbladder=position % 6 != 4,
                )
            )
    return cases

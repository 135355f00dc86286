"""The phantom's body around its organs: skin, wall, bones, lungs, gut, vessels that no class names.

Lengths in mm in a frame of its own: x to the patient's left, y to the back, z to the head; the first
lumbar vertebra is at (0, 12, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pwsseg.arrays.phantom_shapes import (
    Distances,
    Points,
    Shape,
    Vector,
    blended,
    ellipsoid,
    grown,
    slab,
    tube,
    within,
    without,
)

FAR = float("inf")
AIR, LUNG, FAT, MUSCLE, FLUID, GAS = -1000.0, -830.0, -100.0, 58.0, 14.0, -930.0


class Core(NamedTuple):
    """What fills a part from `depth_mm` below its surface inwards."""

    depth_mm: float
    hu: float
    rough: float = 4.0


class Part(NamedTuple):
    """A shape filled with `hu`; `label` 0 where no class names it; `rough` HU of coarse texture."""

    shape: Shape
    hu: float
    label: int = 0
    rough: float = 4.0
    core: Core | None = None


class Vary:
    """What differs from person to person, drawn from one generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def at(self, x: float, y: float, z: float, *, by_mm: float = 3.0) -> Vector:
        """A point near (x, y, z)."""
        dx, dy, dz = self.rng.normal(0, by_mm, 3).clip(-2 * by_mm, 2 * by_mm)
        return float(x + dx), float(y + dy), float(z + dz)

    def about(self, value: float, *, share: float = 0.07) -> float:
        """A number near `value`, usually within `share` of it."""
        return float(value * np.exp(np.clip(self.rng.normal(0, share), -2 * share, 2 * share)))

    def between(self, low: float, high: float) -> float:
        """A number from a range."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Whether something of this probability is so."""
        return bool(self.rng.random() < probability)


@dataclass(frozen=True)
class Trunk:
    """The room for the organs: half widths of the cavity and the domes of the diaphragm."""

    half_x: float
    half_y: float
    middle_y: float
    dome_right: float
    dome_left: float

    def _norm(self, points: Points) -> Distances:
        x, y = np.abs(points[0]) / self.half_x, np.abs(points[1] - self.middle_y) / self.half_y
        return np.asarray((x**2.4 + y**2.4) ** np.float32(1 / 2.4), np.float32)

    def _wall(self, points: Points) -> Distances:
        radius = np.sqrt(points[0] ** 2 + (points[1] - self.middle_y) ** 2)
        return np.asarray(radius * (1 - 1 / np.maximum(self._norm(points), 0.05)), np.float32)

    def _above_diaphragm(self, points: Points) -> Distances:
        norm = np.minimum(self._norm(points), 1.1)
        left = 1 / (1 + np.exp(-points[0] / 22))
        top = self.dome_right + (self.dome_left - self.dome_right) * left
        top -= 9 * np.exp(-np.square(points[0] / 25))
        slope = 700 * norm**9 / self.half_y
        return np.asarray((points[2] - top + 70 * norm**10) / np.sqrt(1 + slope**2), np.float32)

    @property
    def cavity(self) -> Shape:
        """Everything inside ribs and belly wall."""
        return Shape(self._wall, (-FAR, -FAR, -FAR), (FAR, FAR, FAR))

    @property
    def abdomen(self) -> Shape:
        """The cavity below the diaphragm."""
        below = Shape(self._above_diaphragm, (-FAR, -FAR, -FAR), (FAR, FAR, FAR))
        return within(self.cavity, below)

    @property
    def chest(self) -> Shape:
        """The cavity above the diaphragm."""
        lowest = (-FAR, -FAR, min(self.dome_left, self.dome_right) - 110)
        return Shape(
            lambda points: np.maximum(self._wall(points), 3 - self._above_diaphragm(points)),
            lowest,
            (FAR, FAR, FAR),
        )


def vary_trunk(vary: Vary) -> Trunk:
    """The room for the organs of one person."""
    return Trunk(
        half_x=vary.about(131, share=0.03),
        half_y=vary.about(83, share=0.03),
        middle_y=-29,
        dome_right=vary.between(98, 112),
        dome_left=vary.between(88, 100),
    )


def outer_parts(vary: Vary, trunk: Trunk) -> list[Part]:
    """Skin, fat, muscle, lungs, heart: what is painted before any organ."""
    wall = grown(trunk.cavity, vary.between(8, 12))
    fat = vary.between(8, 30)
    back_fat = tube(((0, 44, -400), (0, 44, 400)), (78, 78), flat=(38 + fat) / 78)
    skin = blended(grown(wall, fat), back_fat, over_mm=40)
    mediastinum = tube(((4, -14, 40), (4, -14, 300)), (32, 34), flat=1.3)
    heart = ellipsoid(vary.at(24, -76, 128), (54, 36, 42), turn=(0, 20, 20))
    back = [tube(((s * 36, 58, -300), (s * 34, 56, 300)), (27, 24), flat=0.75) for s in (-1, 1)]
    psoas = [tube(((s * 28, 16, 10), (s * 40, 18, -70), (s * 48, 10, -180)), (9, 20, 26)) for s in (-1, 1)]
    return [
        Part(skin, MUSCLE, core=Core(2.5, FAT - 6)),
        *(Part(within(muscle, skin, gap_mm=6), MUSCLE) for muscle in back),
        Part(wall, MUSCLE),
        Part(trunk.cavity, FAT),
        Part(grown(without(trunk.chest, mediastinum), 2), 40, core=Core(2, LUNG, rough=25)),
        Part(within(heart, grown(trunk.chest, 1)), vary.between(110, 160)),
        *(Part(muscle, MUSCLE) for muscle in psoas),
    ]


def bones(vary: Vary, trunk: Trunk) -> list[Part]:
    """Vertebrae with discs, their processes, and the ribs."""
    marrow, cortex = vary.between(130, 230), vary.between(330, 480)
    column = tube(((0, 12, -400), (0, 12, 0), (0, 14, 400)), (23, 22, 19), flat=0.8)
    first = vary.between(-16, 16)
    parts = [Part(column, cortex, core=Core(2.5, marrow, rough=25))]
    for number in range(-6, 7):
        z = first + 33 * number
        disc = within(slab((0, 12, z + 16), (26, 20, 4)), grown(column, 1))
        wings = tube(((-36, 32, z), (0, 40, z), (36, 32, z)), (4, 6, 4))
        spine = slab((0, 58, z - 8), (3.5, 20, 9))
        parts += [Part(disc, 85), Part(wings, cortex), Part(spine, cortex - 60)]
    canal = tube(((0, 36, -400), (0, 36, 400)), (8.5, 8.5))
    arch = without(grown(canal, 4), column)
    parts += [Part(arch, cortex - 80), Part(canal, 30)]
    return parts + [rib for number in range(8) for rib in _ribs(trunk, first + 16 + 31 * number, number)]


def _ribs(trunk: Trunk, z: float, number: int) -> list[Part]:
    ends = {0: 75, 1: 105}.get(number, 140)
    angles = np.radians(np.linspace(22, ends, 9))
    parts = []
    for side in (-1, 1):
        x = side * (trunk.half_x + 5) * np.sin(angles)
        y = trunk.middle_y + (trunk.half_y + 5) * np.cos(angles) + 3
        line = [(float(a), float(b), float(z - 42 * t)) for a, b, t in zip(x, y, angles, strict=True)]
        rib = tube(line, [5.0] * 9, pieces=1)
        parts.append(Part(rib, 420, core=Core(2, 180)))
    return parts


def hollow(
    shape: Shape,
    *,
    wall: float,
    wall_mm: float,
    content: float,
    gas_above_y: float,
    label: int = 0,
    rough: float = 12.0,
) -> list[Part]:
    """A hollow organ of a lying person: wall, content, and gas where y < `gas_above_y`."""
    front = Shape(lambda points: points[1] - np.float32(gas_above_y), (-FAR, -FAR, -FAR), (FAR, FAR, FAR))
    return [
        Part(shape, wall, label, core=Core(wall_mm, content, rough)),
        Part(within(grown(shape, -wall_mm - 0.5), front), GAS, label),
    ]


def bowel(vary: Vary, trunk: Trunk) -> list[Part]:
    """Colon around and small bowel in the middle of the lower abdomen: what a duodenum is mistaken for."""
    inside = grown(trunk.abdomen, -3)
    parts = []
    for _ in range(7):
        knots = [
            vary.at(vary.between(-75, 75), vary.between(-95, -35), z, by_mm=4)
            for z in np.linspace(vary.between(-70, -35), -150, 5)
        ]
        coil = within(tube(knots, [vary.between(9, 14)] * 5), inside)
        parts += hollow(
            coil,
            wall=vary.about(80),
            wall_mm=2.5,
            content=vary.between(5, 50),
            gas_above_y=vary.between(-140, -90),
        )
    at = vary.at
    for knots in (
        [at(-104, -22, -190), at(-104, -20, -100), at(-98, -28, -62), at(-76, -62, -58)],
        [at(-76, -62, -58), at(-35, -92, -62), at(15, -98, -66), at(62, -88, -40), at(96, -45, 5)],
        [at(96, -45, 5), at(108, -12, -25), at(109, -4, -90), at(104, -8, -190)],
    ):
        radii = [vary.between(13, 20) for _ in knots]
        parts += hollow(
            within(tube(knots, radii), inside),
            wall=70,
            wall_mm=2.5,
            rough=90,
            content=vary.between(-90, 60),
            gas_above_y=float(np.mean(knots, axis=0)[1]) - vary.between(-6, 20),
        )
    return parts


def table(vary: Vary, trunk: Trunk) -> list[Part]:
    """The scanner's table top under the back, in some scans."""
    if not vary.chance(0.5):
        return []
    under = trunk.middle_y + trunk.half_y + 62
    return [Part(slab((0, under, 0), (210, 9, 900)), -820), Part(slab((0, under - 8, 0), (210, 2, 900)), 60)]

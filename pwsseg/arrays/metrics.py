"""How well labels agree with a reference: Dice (DSC) and normalised surface distance (NSD).

    scores = score_case(prediction, reference, spacing=geometry.spacing, classes=annotated)
    scores[14].nsd
    summary = summarise(rows)
    summary.organs.dsc

NSD is DeepMind's definition: surface elements of a marching-cubes-like surface, weighted by their area in
mm2, counted where the other surface lies within the class's tolerance. Its table of surface elements comes
from the package `surface-distance`; the rest is computed here on the box of the class, without that
package's sort of every element, and is equal to it (tests/test_metrics.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from surface_distance import lookup_tables

from pwsseg.values import FLARE23, LabelSet

Mode = Literal["flare", "clean"]

TUBES = frozenset({5, 6, 10})
"""Aorta, inferior vena cava, esophagus: annotators stop them anywhere, so FLARE23 scores some slices."""


class ClassScore(NamedTuple):
    """Agreement of one class, both in [0, 1]."""

    dsc: float
    nsd: float


class Spread(NamedTuple):
    """Mean and standard deviation (over cases, n - 1; 0 for one case) of a class or of a group of classes."""

    cases: int
    dsc: float
    dsc_sd: float
    nsd: float
    nsd_sd: float


class Summary(NamedTuple):
    """One layer's scores. A group that no row speaks of is None."""

    classes: dict[int, Spread]
    organs: Spread | None
    tumor: Spread | None
    mean: Spread | None


def score_case(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    *,
    spacing: tuple[float, float, float],
    classes: Iterable[int],
    mode: Mode = "flare",
    label_set: LabelSet = FLARE23,
) -> dict[int, ClassScore]:
    """Score each of `classes` (those annotated in the reference) of a case.

    `prediction` and `reference` are (z, y, x) on one grid, `spacing` is (z, y, x) in mm. Mode "flare" is the
    FLARE23 organisers' script: NSD is 0 where DSC < 0.2; labels 5, 6, 10 count only on the reference's slices
    (array axis z), the last one dropped; figures are rounded to 4 digits. Mode "clean" has none of these.
    In both, a class absent from both scores 1 and 1, one absent from exactly one of them 0 and 0.

    Where the reference has one of 5, 6, 10 on a single slice their script fails on an empty range; here that
    slice is scored. Raises ValueError when the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    boxes = zip(_boxes(prediction, label_set), _boxes(reference, label_set), strict=True)
    found = dict(enumerate(boxes, start=1))
    scores = {}
    for label in sorted(classes):
        tolerance = label_set[label].nsd_tolerance_mm
        here, there = found[label]
        if here is None or there is None:
            both_empty = float(here is None and there is None)
            scores[label] = ClassScore(both_empty, both_empty)
            continue
        box = _union(here, there)
        if mode == "flare" and label in TUBES:
            box = (_flare_slices(there[0]), *box[1:])
        a, b = prediction[box] == label, reference[box] == label
        score = _score_masks(
            a, b, spacing=spacing, tolerance_mm=tolerance, floor=0.2 if mode == "flare" else 0
        )
        scores[label] = ClassScore(*(round(s, 4) for s in score)) if mode == "flare" else score
    return scores


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """2 |a and b| / (|a| + |b|) of two masks of one shape; 1 when both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def surface_dice(
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    *,
    spacing: tuple[float, float, float],
    tolerance_mm: float,
) -> float:
    """Share of both masks' surface that lies within `tolerance_mm` of the other's surface.

    Masks are (z, y, x), `spacing` in mm. Both empty: 1; exactly one empty: 0. Nikolov et al., "Deep learning
    to achieve clinically applicable segmentation", 2018.
    """
    if not a.any() or not b.any():
        return float(not a.any() and not b.any())
    box = _union(_box(a), _box(b))
    # The table of surface elements is not symmetric in the axes: (x, y, z) is how the organisers read files.
    sampling = spacing[::-1]
    areas = lookup_tables.create_table_neighbour_code_to_surface_area(sampling)
    codes_a, codes_b = (_neighbour_codes(mask[box].transpose()) for mask in (a, b))
    within_a, all_a = _area_within(
        codes_a, codes_b, areas=areas, sampling=sampling, tolerance_mm=tolerance_mm
    )
    within_b, all_b = _area_within(
        codes_b, codes_a, areas=areas, sampling=sampling, tolerance_mm=tolerance_mm
    )
    return (within_a + within_b) / (all_a + all_b)


def summarise(rows: Sequence[Mapping[str, Any]], label_set: LabelSet = FLARE23) -> Summary:
    """Means and spreads of rows {case, class, dsc, nsd}.

    A class counts the cases that were scored for it. A group (organs, all) is the mean of its classes' means,
    as the organisers average; its spread is that of the cases' own means over the group.
    """
    classes = {label: _spread(found) for label in label_set.ids if (found := _of(rows, {label}))}
    return Summary(
        classes=classes,
        organs=_group(rows, classes, set(label_set.organs)),
        tumor=classes.get(label_set.tumor),
        mean=_group(rows, classes, set(label_set.ids)),
    )


Box = tuple[slice, slice, slice]


def _boxes(labels: NDArray[np.uint8], label_set: LabelSet) -> list[Box | None]:
    """Bounding boxes of labels 1, 2, ... of the set, None where a label is absent."""
    found: list[Box | None] = ndimage.find_objects(labels, max_label=max(label_set.ids))
    return found


def _box(mask: NDArray[np.bool_]) -> Box:
    box: Box = ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]
    return box


def _union(a: Box, b: Box) -> Box:
    z, y, x = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return z, y, x


def _flare_slices(reference: slice) -> slice:
    return slice(reference.start, max(reference.stop - 1, reference.start + 1))


def _score_masks(
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    *,
    spacing: tuple[float, float, float],
    tolerance_mm: float,
    floor: float,
) -> ClassScore:
    dsc = dice(a, b)
    if dsc < floor:
        return ClassScore(dsc, 0.0)
    return ClassScore(dsc, surface_dice(a, b, spacing=spacing, tolerance_mm=tolerance_mm))


def _neighbour_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Which of the eight voxels around each corner are inside, one bit each; (x + 1, y + 1, z + 1)."""
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for offset in product((0, 1), repeat=3):
        corner = tuple(slice(o, o + n) for o, n in zip(offset, codes.shape, strict=True))
        codes += padded[corner] * np.uint8(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL[offset])
    return codes


def _area_within(
    codes: NDArray[np.uint8],
    other: NDArray[np.uint8],
    *,
    areas: NDArray[np.float64],
    sampling: tuple[float, ...],
    tolerance_mm: float,
) -> tuple[float, float]:
    """Area in mm2 of the surface near the other surface, and of the whole surface."""
    distance = ndimage.distance_transform_edt(~_is_surface(other), sampling=sampling)
    surface = _is_surface(codes)
    area = areas[codes[surface]]
    return float(area[distance[surface] <= tolerance_mm].sum()), float(area.sum())


def _is_surface(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    surface: NDArray[np.bool_] = (codes != 0) & (codes != 255)
    return surface


def _of(rows: Sequence[Mapping[str, Any]], labels: set[int]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["class"] in labels]


def _spread(rows: Sequence[Mapping[str, Any]]) -> Spread:
    figures = np.array([[row["dsc"], row["nsd"]] for row in rows], dtype=np.float64)
    dsc, nsd = figures.mean(axis=0).tolist()
    dsc_sd, nsd_sd = figures.std(axis=0, ddof=1).tolist() if len(figures) > 1 else (0.0, 0.0)
    return Spread(len(figures), dsc, dsc_sd, nsd, nsd_sd)


def _group(rows: Sequence[Mapping[str, Any]], classes: dict[int, Spread], labels: set[int]) -> Spread | None:
    members = [spread for label, spread in classes.items() if label in labels]
    if not members:
        return None
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in _of(rows, labels):
        by_case.setdefault(row["case"], []).append(row)
    means = [_spread(found) for found in by_case.values()]
    over_cases = _spread([{"dsc": m.dsc, "nsd": m.nsd} for m in means])
    return over_cases._replace(
        dsc=float(np.mean([m.dsc for m in members])), nsd=float(np.mean([m.nsd for m in members]))
    )

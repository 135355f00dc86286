"""How well labels agree with a reference: Dice (DSC) and normalised surface distance (NSD).

    scores = score_case(prediction, reference, spacing=geometry.spacing, classes=annotated)
    scores[14].nsd
    summary = summarise(rows)
    summary.organs.dsc

Each class is looked at in the box of its voxels alone. NSD is DeepMind's definition, see surfaces.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.extents import class_boxes, union
from pwsseg.arrays.surfaces import Mask, Spacing, surface_dice
from pwsseg.values import FLARE23, UNKNOWN, LabelSet

Labels = NDArray[np.uint8]
Mode = Literal["flare", "clean"]

TUBES = frozenset({5, 6, 10})
"""Aorta, inferior vena cava, esophagus: annotators stop them anywhere, so FLARE23 scores some slices."""


WORTH_A_SURFACE = 0.2
"""Below this DSC the organisers give an NSD of 0."""


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
    prediction: Labels,
    reference: Labels,
    *,
    spacing: Spacing,
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
    pairs = _pairs(prediction, reference, classes, label_set)
    if mode == "clean":
        return {pair.label: _score(pair, spacing) for pair in pairs}
    return {pair.label: _ruled(_score(_on_reference_slices(pair), spacing)) for pair in pairs}


def score_in_both_modes(
    prediction: Labels,
    reference: Labels,
    *,
    spacing: Spacing,
    classes: Iterable[int],
    label_set: LabelSet = FLARE23,
) -> dict[Mode, dict[int, ClassScore]]:
    """What `score_case` gives in each mode, for little more than the time of one: tubes alone differ."""
    exact, clean = {}, {}
    for pair in _pairs(prediction, reference, classes, label_set):
        score = clean[pair.label] = _score(pair, spacing)
        if pair.label in TUBES:
            score = _score(_on_reference_slices(pair), spacing)
        exact[pair.label] = _ruled(score)
    return {"flare": exact, "clean": clean}


def where_stated(labels: Labels, reference: Labels) -> Labels:
    """Labels (z, y, x) without those where the reference says nothing: there nothing is right or wrong."""
    return np.where(reference == UNKNOWN, np.uint8(0), labels)


def dice(a: Mask, b: Mask) -> float:
    """2 |a and b| / (|a| + |b|) of two masks of one shape; 1 when both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else 1.0


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


class _Pair(NamedTuple):
    """One class of a case: both masks (z, y, x) in its box, and the reference's slices in that box.

    None for the masks of a class that is absent from one of the two, or from both.
    """

    label: int
    tolerance_mm: float
    masks: tuple[Mask, Mask] | None
    both_absent: bool
    reference_slices: slice


def _pairs(
    prediction: Labels, reference: Labels, classes: Iterable[int], label_set: LabelSet
) -> Iterator[_Pair]:
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    here, there = (class_boxes(labels, label_set) for labels in (prediction, reference))
    for label in sorted(classes):
        tolerance_mm = label_set[label].nsd_tolerance_mm
        mine, theirs = here[label], there[label]
        if mine is None or theirs is None:
            yield _Pair(label, tolerance_mm, None, mine is None and theirs is None, slice(0))
            continue
        box = union(mine, theirs)
        slices = slice(theirs[0].start - box[0].start, theirs[0].stop - box[0].start)
        yield _Pair(label, tolerance_mm, (prediction[box] == label, reference[box] == label), False, slices)


def _on_reference_slices(pair: _Pair) -> _Pair:
    """The organisers score a tube on the reference's slices alone, and drop the last of them."""
    if pair.label not in TUBES or pair.masks is None:
        return pair
    z = slice(
        pair.reference_slices.start, max(pair.reference_slices.stop - 1, pair.reference_slices.start + 1)
    )
    return pair._replace(masks=(pair.masks[0][z], pair.masks[1][z]))


def _score(pair: _Pair, spacing: Spacing) -> ClassScore:
    if pair.masks is None:
        return ClassScore(float(pair.both_absent), float(pair.both_absent))
    a, b = pair.masks
    return ClassScore(dice(a, b), surface_dice(a, b, spacing=spacing, tolerance_mm=pair.tolerance_mm))


def _ruled(score: ClassScore) -> ClassScore:
    """The organisers' NSD of a class that was missed, and their rounding."""
    nsd = score.nsd if score.dsc >= WORTH_A_SURFACE else 0.0
    return ClassScore(round(score.dsc, 4), round(nsd, 4))


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

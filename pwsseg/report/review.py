"""Cases that are worth a person's minute, the most rewarding first, each with the slice to look at.

    for entry in review(store, top=20):
        print(entry.case, entry.points, entry.reasons, entry.slice)

All cases are judged by what stands in the layers' manifests, which count voxels; voxels are read only of the
cases that come out on top (docs/decisions/0032-review-by-volumes.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.report.changes import volume_change
from pwsseg.report.overlays import fullest_slice, orient, slice_height_mm
from pwsseg.report.quality import volume_outliers
from pwsseg.store import Layer, Store
from pwsseg.store.contents import published_layers
from pwsseg.values import LabelSet, StoreError

LEAST_CHANGE = 0.1
"""A case that changed by less from one round to the next is stable enough."""
USUAL = 0.9
"""An organ that so many cases have is missed where it is absent."""
OFF_BY = 1 / 3
"""A volume so far from the annotated one, as a share of the larger, is a disagreement."""
TUMOR_FLIP, ANNOTATION_DIFFERS, ORGAN_MISSING = 1.0, 0.8, 0.6
FAR_OUT_POINTS, FAR_OUT_FULL = 0.5, 10.0
"""A volume gets all of the points from this robust z-score on."""

Rows = dict[str, Mapping[str, Any]]


class Reason(NamedTuple):
    """Why a case should be looked at: points, a few words, the class that it is about if it is one."""

    points: float
    what: str
    label: int | None = None


class Entry(NamedTuple):
    """One case of the queue. `slice` counts from 1 at the feet; `height_mm` is its S in viewers."""

    case: str
    split: str
    layer: str
    points: float
    reasons: tuple[str, ...]
    slice: int
    slices: int
    height_mm: float


class Rounds(NamedTuple):
    """What is compared: the layer in question, the one before it, and the newest annotation."""

    layer: Layer
    before: Layer | None
    annotation: Layer | None


def review(store: Store, *, layer: str | None = None, top: int = 20) -> list[Entry]:
    """The `top` cases of `layer` (the newest prediction) that promise most, with their slices.

    Raises StoreError when nothing is predicted yet, or `layer` is no prediction.
    """
    rounds = _rounds(store, layer)
    reasons = _reasons(rounds, store.label_set)
    points = {case: together(found) for case, found in reasons.items() if found}
    ranked = sorted(points, key=lambda case: (-points[case], case))[:top]
    return [_entry(store, rounds, case, reasons[case]) for case in ranked]


def together(reasons: Sequence[Reason]) -> float:
    """The weightiest counts whole, the next half, and so on: many small ones don't outweigh a large one."""
    return float(sum(reason.points / 2**i for i, reason in enumerate(reasons)))


def _rounds(store: Store, name: str | None) -> Rounds:
    every = sorted(published_layers(store), key=lambda x: (x.state.created, x.record.pins.kind, x.id))
    predictions = [x for x in every if x.record.pins.kind == "prediction"]
    if not predictions:
        raise StoreError(f"{store.location} has no predicted layer to review; run jobs/round.py first")
    layer = store.layer(name) if name else predictions[-1]
    if layer.record.pins.kind != "prediction":
        raise StoreError(f"{layer.id} is no prediction; review looks at what a model made")
    earlier = [x for x in predictions if x.state.created <= layer.state.created and x.id != layer.id]
    annotations = [x for x in every if x.record.pins.kind == "annotation"]
    return Rounds(layer, earlier[-1] if earlier else None, annotations[-1] if annotations else None)


def _reasons(rounds: Rounds, labels: LabelSet) -> dict[str, list[Reason]]:
    """Every case of the layer with its reasons, weightiest first; from manifests alone."""
    now = _by_case(rounds.layer)
    before = _by_case(rounds.before) if rounds.before else {}
    stated = _by_case(rounds.annotation) if rounds.annotation else {}
    classes = rounds.layer.record.pins.classes
    changed = rounds.layer.changes_since(rounds.before, labels.organs) if rounds.before else {}
    outliers = {c: volume_outliers(list(now.values()), c) for c in classes if c != labels.tumor}
    usual = [c for c in classes if c != labels.tumor and _share_with(c, now) >= USUAL]
    found = {}
    for case, row in now.items():
        reasons = [
            *_changes(before.get(case), row, changed.get(case), rounds, labels),
            *_differences(stated.get(case), row, classes, labels),
            *_oddities(case, row, stated.get(case), (outliers, usual), labels),
        ]
        found[case] = sorted(reasons, key=lambda reason: -reason.points)
    return found


def _by_case(layer: Layer) -> Rows:
    return {row["case"]: row for row in layer.manifest()}


def _share_with(label: int, rows: Rows) -> float:
    return sum(bool(row[f"voxels_{label}"]) for row in rows.values()) / max(1, len(rows))


def _changes(
    before: Mapping[str, Any] | None,
    row: Mapping[str, Any],
    voxels: float | None,
    rounds: Rounds,
    labels: LabelSet,
) -> Iterator[Reason]:
    """Unstable labels, and a tumor that came or went; `voxels` is the share that changed, where counted."""
    if before is None or rounds.before is None:
        return
    shared = sorted(set(rounds.layer.record.pins.classes) & set(rounds.before.record.pins.classes))
    change = volume_change(before, row, shared) if voxels is None else voxels
    if change >= LEAST_CHANGE:
        what = "volumes" if voxels is None else "organ voxels"
        yield Reason(min(1.0, change), f"{what} changed by {100 * change:.0f} % since {rounds.before.id}")
    tumor = f"voxels_{labels.tumor}"
    if labels.tumor in shared and bool(before[tumor]) != bool(row[tumor]):
        verb = "appeared" if row[tumor] else "vanished"
        yield Reason(TUMOR_FLIP, f"tumor {verb} since {rounds.before.id}", labels.tumor)


def _differences(
    stated: Mapping[str, Any] | None, row: Mapping[str, Any], classes: Sequence[int], labels: LabelSet
) -> Iterator[Reason]:
    """Volumes that are not those that people annotated."""
    for label in stated["annotated_classes"] if stated else ():
        theirs, ours = stated[f"voxels_{label}"] if stated else 0, row.get(f"voxels_{label}")
        if label not in classes or ours is None or max(theirs, ours) == 0:
            continue
        off = abs(ours - theirs) / max(theirs, ours)
        if off > OFF_BY:
            ml = row["voxel_ml"]
            told = f"{labels[label].name} of {ours * ml:.3g} ml, annotated {theirs * ml:.3g} ml"
            yield Reason(ANNOTATION_DIFFERS * off, told, label)


def _oddities(
    case: str,
    row: Mapping[str, Any],
    stated: Mapping[str, Any] | None,
    known: tuple[dict[int, dict[str, float]], Sequence[int]],
    labels: LabelSet,
) -> Iterator[Reason]:
    """Organs of unusual size, or missing, where people have said nothing about them."""
    outliers, usual = known
    annotated = set(stated["annotated_classes"]) if stated else set()
    for label, scores in outliers.items():
        if case in scores and label not in annotated:
            share = min(1.0, abs(scores[case]) / FAR_OUT_FULL)
            size = "large" if scores[case] > 0 else "small"
            ml = row[f"voxels_{label}"] * row["voxel_ml"]
            told = f"{labels[label].name} of {ml:.3g} ml is unusually {size}"
            yield Reason(FAR_OUT_POINTS * share, told, label)
    for label in usual:
        if row[f"voxels_{label}"] == 0 and label not in annotated:
            yield Reason(ORGAN_MISSING, f"no {labels[label].name}", label)


def _entry(store: Store, rounds: Rounds, case: str, reasons: Sequence[Reason]) -> Entry:
    geometry = store.scan(case).geometry
    volumes = [
        orient(layer.labels(case), geometry).array
        for layer in (rounds.layer, rounds.before, rounds.annotation)
        if layer and case in layer.cases()
    ]
    z = slice_to_look_at(volumes, reasons[0].label)
    return Entry(
        case=case,
        split=store.scan(case).record.split,
        layer=rounds.layer.id,
        points=round(together(reasons), 2),
        reasons=tuple(r.what for r in reasons),
        slice=z + 1,
        slices=len(volumes[0]),
        height_mm=round(slice_height_mm(geometry, z), 1),
    )


def slice_to_look_at(volumes: Sequence[NDArray[np.uint8]], label: int | None) -> int:
    """Index on axis 0 of the slice where consecutive volumes differ most, in one class or in all.

    Volumes are labels (z, y, x) of one grid. Where nothing differs: where there is most of the class, else
    the fullest slice of the first.
    """
    masks = [v if label is None else v == label for v in volumes]
    counts = [np.count_nonzero(a != b, axis=(1, 2)) for a, b in pairwise(masks)]
    if any(count.any() for count in counts):
        return int(np.sum(counts, axis=0).argmax())
    amounts = np.count_nonzero(masks[0], axis=(1, 2))
    return int(amounts.argmax()) if label is not None and amounts.any() else fullest_slice(volumes[0])

"""The gate: labels that drift too far from those before them are not published without a person's word.

    accepted = check_drift(store, draft, sources, resources, accept="new scanner since March")

A round is compared with the layer that it learnt from; a first round with its own last version, if there is
one. Volumes are compared over all cases that both hold, scores and tumor counts over the held-out ones.
Volumes of a class whose held-out DSC has risen are not judged: a second round finds much more of what the
first nearly missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.lesions import amounts
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import DriftLimits
from pwsseg.store import AcceptedDrift, Layer, LayerDraft, Proof, Store
from pwsseg.store.compare import same_voxels
from pwsseg.values import FLARE23, UNKNOWN, StoreError

FEWEST = 3
"""Cases that a class must be found in before its volumes are judged: a median of fewer says little."""


def check_drift(
    store: Store, draft: LayerDraft, sources: Sources, resources: Resources, *, accept: str | None
) -> AcceptedDrift | None:
    """Pass a draft whose labels lie within the round's limits, or whose drift a person accepts with a reason.

    Returns
    -------
    What drifted and why it was accepted, for the record; None when nothing did, or nothing can be compared.

    Raises
    ------
    StoreError
        When it drifted and `accept` is None. The draft stays: with a reason it is published as it is.
    """
    limits = sources.settings.science.drift
    before = sources.pseudo or _last(store, sources.settings.name)
    if limits is None or before is None:
        return None
    cases = sorted(set(before.cases()) & set(sources.predicted))
    items = over_cases(
        [Item(c, {"held_out": c in sources.validation}) for c in cases],
        [Stage(_measure, {"proof": draft.proof(), "before": before, "annotation": sources.annotation})],
        resources=resources,
        progress=Progress(f"{sources.settings.name} · gate", len(cases)),
    )
    if failed := [i for i in items if i.error]:
        raise StoreError(
            f"{failed[0].case} of {draft.id} can't be compared with {before.id}: {failed[0].error}"
        )
    found = tuple(drifts([i.fields["facts"] for i in items], limits))
    if not found:
        return None
    for fact in found:
        say(f"  drift from {before.id}: {fact}")
    if accept is None:
        raise StoreError(
            f"{draft.id} is not published: it drifted from {before.id} beyond the round's [drift] limits "
            f"(listed above); look at the labels, then correct the settings, or publish it as it is with "
            f"--accept-drift 'why'"
        )
    return AcceptedDrift(reason=accept, since=before.pin, found=found)


def drifts(cases: list[dict[str, Any]], limits: DriftLimits) -> Iterator[str]:
    """What lies beyond the limits, in words.

    A case says {"ml": {class: (before, after)}, "dsc": {class: (before, after)}, "tumors": (before, after) or
    None}; "dsc" and "tumors" only where it is held out and annotated.
    """
    yield from _score_drift("mean organ DSC", _pairs(cases, "dsc", FLARE23.organs), limits)
    yield from _score_drift("tumor DSC", _pairs(cases, "dsc", (FLARE23.tumor,)), limits)
    for label in FLARE23.ids:
        if _improved(_pairs(cases, "dsc", (label,))):
            continue  # more of a class that was nearly missed is no drift
        yield from _volume_drift(FLARE23[label].name, _pairs(cases, "ml", (label,)), limits)
    counts = [case["tumors"] for case in cases if case["tumors"] is not None]
    before, after = (sum(side) for side in zip(*counts, strict=True)) if counts else (0, 0)
    if _beyond(before, after, limits.tumor_factor) and max(before, after) >= FEWEST:
        yield (
            f"the held-out cases hold {after} tumors, {before} before "
            f"(limit: a factor of {limits.tumor_factor:g})"
        )


def _score_drift(name: str, pairs: list[tuple[float, float]], limits: DriftLimits) -> Iterator[str]:
    if pairs:
        before, after = (fmean(side) for side in zip(*pairs, strict=True))
        if before - after > limits.dsc_drop:
            yield f"held-out {name} {after:.3f}, {before:.3f} before (limit: {limits.dsc_drop:g} less)"


def _volume_drift(name: str, pairs: list[tuple[float, float]], limits: DriftLimits) -> Iterator[str]:
    both = [(a, b) for a, b in pairs if a > 0 and b > 0]
    if len(both) >= FEWEST:
        ratio = median(b / a for a, b in both)
        if _beyond(1.0, ratio, limits.volume_factor):
            yield (
                f"{name} has {ratio:.2f} times the volume it had, in the median of {len(both)} cases "
                f"(limit: a factor of {limits.volume_factor:g})"
            )
    had, has = (sum(ml > 0 for ml in side) for side in zip(*pairs, strict=True)) if pairs else (0, 0)
    if had >= FEWEST and has * limits.volume_factor < had:
        yield f"{name} is found in {has} cases, in {had} before (limit: a factor of {limits.volume_factor:g})"


def _improved(scores: list[tuple[float, float]]) -> bool:
    return sum(after for _, after in scores) > sum(before for before, _ in scores)


def _beyond(before: float, after: float, factor: float) -> bool:
    return after > before * factor or before > after * factor


def _pairs(
    cases: list[dict[str, Any]], kind: str, classes: tuple[int, ...] | frozenset[int]
) -> list[tuple[float, float]]:
    return [pair for case in cases for label, pair in case[kind].items() if int(label) in classes]


def _last(store: Store, name: str) -> Layer | None:
    try:
        return store.layer(name)
    except StoreError:
        return None


def _measure(item: Item, *, proof: Proof, before: Layer, annotation: Layer) -> Item:
    """The facts of one case in both; its voxels are read only when it is held out and annotated."""
    old, new = before.entry(item.case), proof.entry(item.case)
    spoken = set(old.annotated_classes) & set(new.annotated_classes)
    ml = new.geometry.voxel_ml
    facts: dict[str, Any] = {
        "ml": {c: (old.voxels[str(c)] * ml, new.voxels[str(c)] * ml) for c in spoken},
        "dsc": {},
        "tumors": None,
    }
    stated = annotation.find(item.case) if item.fields["held_out"] else None
    if stated is not None:
        truth = annotation.labels(item.case)
        volumes = [
            _where_known(truth, labels) for labels in (before.labels(item.case), proof.labels(item.case))
        ]
        scores = [_dice(labels, truth) for labels in volumes]
        facts["dsc"] = {c: tuple(s[c] for s in scores) for c in spoken & set(stated.annotated_classes)}
        if FLARE23.tumor in facts["dsc"]:
            facts["tumors"] = [amounts(v, [FLARE23.tumor])[FLARE23.tumor].components for v in volumes]
    return Item(item.case, {"facts": facts})


def _where_known(truth: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(truth == UNKNOWN, np.uint8(0), labels)


def _dice(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[int, float]:
    both = same_voxels(labels, truth)
    ours, theirs = (np.bincount(v.reshape(-1), minlength=256) for v in (labels, truth))
    return {
        c: float(2 * both[c] / (ours[c] + theirs[c])) if ours[c] + theirs[c] else 1.0 for c in FLARE23.ids
    }

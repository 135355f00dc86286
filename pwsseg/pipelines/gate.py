"""The gate: labels that drift too far from those before them are not published without a person's word.

    accepted = check_drift(store, draft, sources, resources, done, accept="new scanner since March")

A round is compared with the layer that it learnt from; a first round with its own last version, if there is
one. Volumes are compared over all cases that both hold, scores and tumor counts over the held-out ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.drift import drifts
from pwsseg.arrays.lesions import amounts
from pwsseg.arrays.metrics import where_stated
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, check_done, over_cases
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.sources import Sources
from pwsseg.store import AcceptedDrift, Layer, LayerDraft, Proof, Store
from pwsseg.store.compare import same_voxels
from pwsseg.values import FLARE23, StoreError


def check_drift(
    store: Store,
    draft: LayerDraft,
    sources: Sources,
    resources: Resources,
    done: Collection[str],
    *,
    accept: str | None,
) -> AcceptedDrift | None:
    """Pass a draft whose labels lie within the round's limits, or whose drift a person accepts with a reason.

    `done` are the cases that are committed.

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
    cases = sorted(set(before.cases()).intersection(done))
    held_out = frozenset(sources.validation)
    items = over_cases(
        [_item(c, sources, held_out=c in held_out) for c in cases],
        [Stage(_measure, {"proof": draft.proof(), "before": before, "annotation": sources.annotation})],
        resources=resources,
        progress=Progress(f"{sources.settings.name} · gate", len(cases)),
    )
    check_done(items, f"{{case}} of {draft.id} can't be compared with {before.id}")
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


def _last(store: Store, name: str) -> Layer | None:
    try:
        return store.layer(name)
    except StoreError:
        return None


def _item(case: str, sources: Sources, *, held_out: bool) -> Item:
    return Item(case, {"held_out": held_out}, voxels=sources.scans[case].geometry.voxels if held_out else 0)


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
        volumes = [where_stated(layer.labels(item.case), truth) for layer in (before, proof)]
        scores = [_dice(labels, truth) for labels in volumes]
        facts["dsc"] = {c: tuple(s[c] for s in scores) for c in spoken & set(stated.annotated_classes)}
        if FLARE23.tumor in facts["dsc"]:
            facts["tumors"] = [amounts(v, [FLARE23.tumor])[FLARE23.tumor].components for v in volumes]
    return Item(item.case, {"facts": facts})


def _dice(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[int, float]:
    both = same_voxels(labels, truth)
    ours, theirs = (np.bincount(v.reshape(-1), minlength=256) for v in (labels, truth))
    return {
        c: float(2 * both[c] / (ours[c] + theirs[c])) if ours[c] + theirs[c] else 1.0 for c in FLARE23.ids
    }

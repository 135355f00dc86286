"""Selection: pseudo labels that still change from round to round are not learnt from (METHOD.md, Selection).

Every prediction says in its manifest how much it differs from the labels that its network learned from, so a
selection reads manifests; only layers from before they said so are compared voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.stability import changed_by_class, changed_voxels, share_changed, where_different
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, check_done, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.pipelines.sources import Sources
from pwsseg.store import Layer
from pwsseg.store.measures import CHANGED, CHANGED_ORGANS
from pwsseg.values import FLARE23


def measured_changes(since: Layer, labels: NDArray[np.uint8], case: str) -> dict[str, float]:
    """What a predicted case's record says of its change since another layer; nothing where that lacks it.

    In voxels: of all organs, and of each class that `since` speaks about in this case.
    """
    entry = since.find(case)
    if entry is None:
        return {}
    before, after = where_different(since.labels(case), labels)
    by_class = changed_by_class(before, after)
    stated = {f"{CHANGED}{c}": float(by_class[c]) for c in entry.annotated_classes}
    return {CHANGED_ORGANS: float(changed_voxels(before, after, organs=FLARE23.organs)), **stated}


def select(sources: Sources, resources: Resources) -> tuple[list[str], tuple[str, ...]]:
    """The cases that targets are made for: all, or without the least stable unlabelled ones; and notes."""
    selection = sources.settings.science.selection
    if selection is None:
        return sources.learnt, ()
    judged = [c for c in sources.learnt if sources.kinds[c] == "unlabelled"]
    shares = [_shares(a, b, judged, sources, resources) for a, b in pairwise(sources.compared)]
    unstable = {case: 0.5 * sum(share[case] for share in shares) for case in judged}
    worst_first = sorted(judged, key=lambda c: (-unstable[c], c))
    dropped = set(worst_first[: len(judged) - round(selection.keep * len(judged))])
    notes = tuple(f"{c} dropped: instability u = {unstable[c]:.3f}" for c in sorted(dropped))
    return [c for c in sources.learnt if c not in dropped], notes


def _shares(
    before: Layer, after: Layer, cases: Sequence[str], sources: Sources, resources: Resources
) -> dict[str, float]:
    """For each case the share of its organ voxels that changed between two layers."""
    stated = after.changes_since(before, FLARE23.organs)
    return stated | _compared(before, after, set(cases) - stated.keys(), sources, resources)


def _compared(
    before: Layer, after: Layer, cases: Collection[str], sources: Sources, resources: Resources
) -> dict[str, float]:
    items = over_cases(
        [Item(c, voxels=sources.scans[c].geometry.voxels) for c in sorted(cases)],
        [Stage(_compare, {"before": before, "after": after})],
        resources=resources,
        progress=Progress(f"{sources.settings.name} · select", len(cases)),
    )
    check_done(items, "the stability of {case} can't be measured")
    return {item.case: item.fields["share"] for item in items}


def _compare(item: Item, *, before: Layer, after: Layer) -> Item:
    first, second = before.labels(item.case), after.labels(item.case)
    item.fields["share"] = share_changed(first, second, organs=FLARE23.organs)
    return item

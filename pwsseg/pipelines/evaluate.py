"""Scores of a published layer against a published annotation, in native geometry, case by case."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pwsseg.arrays.metrics import score_case
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.store import Layer, Store
from pwsseg.values import UNKNOWN, StoreError

Split = Literal["training", "validation"]


def evaluate_layer(
    store: Store, layer: Layer, reference: Layer, *, split: Split, resources: Resources
) -> list[dict[str, Any]]:
    """DSC and NSD of every case of `split` that both layers hold, by the organisers' rules and cleanly.

    Only classes that the layer speaks about and that are annotated in the reference's case are scored;
    voxels that the reference leaves unknown count for neither side. The rows {case, class, dsc, nsd,
    dsc_clean, nsd_clean} are kept in the store, pinned to both layers.

    Raises
    ------
    StoreError
        When the layers share no case of the split, or a case can't be scored.
    """
    wanted = set(store.cases(split=split))
    shared = sorted(wanted & set(layer.cases()) & set(reference.cases()))
    if not shared:
        raise StoreError(
            f"{layer.id} and {reference.id} share no {split} case; evaluate against a layer that annotates "
            f"cases which {layer.id} predicts"
        )
    items = over_cases(
        [Item(c) for c in shared],
        [Stage(_score, {"location": store.location, "layer": layer.id, "reference": reference.id})],
        resources=resources,
        progress=Progress(f"{layer.id} · evaluate", len(shared)),
    )
    if failed := [i for i in items if i.error]:
        raise StoreError(f"{failed[0].case} of {layer.id} can't be scored: {failed[0].error}")
    rows = [row for item in sorted(items, key=lambda i: i.case) for row in item.fields["rows"]]
    store.write_scores(layer.id, reference.id, rows)
    return rows


def _score(item: Item, *, location: str, layer: str, reference: str) -> Item:
    store = Store.open(location)
    predicted, truth = store.layer(layer), store.layer(reference)
    classes = sorted(set(predicted.record.pins.classes) & set(truth.entry(item.case).annotated_classes))
    reference_labels = truth.labels(item.case)
    # where the reference says nothing, nothing is right or wrong
    volumes = np.where(reference_labels == UNKNOWN, 0, predicted.labels(item.case)), reference_labels
    spacing = store.scan(item.case).geometry.spacing
    exact = score_case(*volumes, spacing=spacing, classes=classes, mode="flare")
    clean = score_case(*volumes, spacing=spacing, classes=classes, mode="clean")
    item.fields["rows"] = [
        {
            "case": item.case,
            "class": c,
            "dsc": exact[c].dsc,
            "nsd": exact[c].nsd,
            "dsc_clean": clean[c].dsc,
            "nsd_clean": clean[c].nsd,
        }
        for c in classes
    ]
    return item

"""Scores of a published layer against a published annotation, in native geometry, case by case.

evaluate_layer(store, layer, reference, split="validation", resources=resources)   # rows of every case
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.lesions import amounts, detect
from pwsseg.arrays.metrics import score_in_both_modes, where_stated
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, check_done, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.store import Layer, Store
from pwsseg.values import FLARE23, StoreError

Split = Literal["training", "validation"]


def evaluate_layer(
    store: Store, layer: Layer, reference: Layer, *, split: Split, resources: Resources
) -> list[dict[str, Any]]:
    """DSC, NSD, amounts and found lesions of every case of `split` that both layers hold.

    Only classes that the layer speaks about and that are annotated in the reference's case are scored;
    voxels that the reference leaves unknown count for neither side. The rows (zarr_schema/README.md, Scores)
    of held-out cases are kept in the store, pinned to both layers; those of training cases are not, since
    whoever reads scores takes them for held-out ones.

    Raises
    ------
    StoreError
        When the layers share no case of the split, or a case can't be scored.
    """
    wanted = {scan.case: scan for scan in store.scan_records() if scan.split == split}
    shared = sorted(wanted.keys() & set(layer.cases()) & set(reference.cases()))
    if not shared:
        raise StoreError(
            f"{layer.id} and {reference.id} share no {split} case; evaluate against a layer that annotates "
            f"cases which {layer.id} predicts"
        )
    items = over_cases(
        [Item(c, voxels=wanted[c].geometry.voxels) for c in shared],
        [Stage(_score, {"location": store.location, "layer": layer.id, "reference": reference.id})],
        resources=resources,
        progress=Progress(f"{layer.id} · evaluate", len(shared)),
    )
    check_done(items, f"{{case}} of {layer.id} can't be scored")
    rows = [row for item in sorted(items, key=lambda i: i.case) for row in item.fields["rows"]]
    if split == "validation":
        store.write_scores(layer.id, reference.id, rows)
    return rows


def _score(item: Item, *, location: str, layer: str, reference: str) -> Item:
    store = Store.open(location)
    predicted, truth = store.layer(layer), store.layer(reference)
    classes = sorted(set(predicted.record.pins.classes) & set(truth.entry(item.case).annotated_classes))
    reference_labels = truth.labels(item.case)
    volumes = where_stated(predicted.labels(item.case), reference_labels), reference_labels
    geometry = store.scan(item.case).geometry
    scores = score_in_both_modes(*volumes, spacing=geometry.spacing, classes=classes)
    here, there = (amounts(labels, classes) for labels in volumes)
    item.fields["rows"] = [
        {
            "case": item.case,
            "class": c,
            "dsc": scores["flare"][c].dsc,
            "nsd": scores["flare"][c].nsd,
            "dsc_clean": scores["clean"][c].dsc,
            "nsd_clean": scores["clean"][c].nsd,
            "voxels": here[c].voxels,
            "voxels_reference": there[c].voxels,
            "voxel_ml": geometry.voxel_ml,
            "components": here[c].components,
            "components_reference": there[c].components,
            **(_lesions(*volumes) if c == FLARE23.tumor else {}),
        }
        for c in classes
    ]
    return item


def _lesions(prediction: NDArray[np.uint8], reference: NDArray[np.uint8]) -> dict[str, int]:
    detection = detect(prediction, reference)
    return {
        "lesions": detection.lesions,
        "lesions_found": detection.found,
        "lesions_predicted": detection.predicted,
        "lesions_false": detection.false_positives,
    }

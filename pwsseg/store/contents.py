"""Questions that people ask of a whole store or layer, answered from records and manifests alone."""

from __future__ import annotations

from typing import Any

from pwsseg.store.layer import Layer
from pwsseg.store.records import AnnotationPins, LayerRecord, Published
from pwsseg.store.store import Store


def published_layers(store: Store) -> list[Layer]:
    """Every published layer, by name and version."""
    return [store.layer(r.id) for r in store.layers() if isinstance(r.state, Published)]


def annotated_classes(store: Store) -> dict[str, list[int]]:
    """Case -> the classes that the newest annotation of that case states."""
    stated: dict[str, list[int]] = {}
    for layer in published_layers(store):  # versions come oldest first: the newest has the last word
        if isinstance(layer.record.pins, AnnotationPins):
            stated |= {r["case"]: r["annotated_classes"] for r in layer.manifest("case", "annotated_classes")}
    return stated


def class_amounts(layer: Layer) -> list[dict[str, Any]]:
    """One row a class: cases that it is stated in, and present in; voxels and millilitres in all of them."""
    manifest = layer.manifest()
    rows = []
    for label in layer.record.pins.classes:
        stated = [(n, row["voxel_ml"]) for row in manifest if (n := row[f"voxels_{label}"]) is not None]
        rows.append(
            {
                "class": label,
                "stated_in": len(stated),
                "present_in": sum(n > 0 for n, _ in stated),
                "voxels": sum(n for n, _ in stated),
                "ml": sum(n * ml for n, ml in stated),
            }
        )
    return rows


def layer_record(store: Store, name: str) -> LayerRecord:
    """The version named, or the newest published one of the name; a draft where there is nothing else."""
    named = [r for r in store.layers() if name in (r.id, r.pins.name)]
    drafts = [r for r in named if not isinstance(r.state, Published)]
    return drafts[-1] if drafts and len(drafts) == len(named) else store.layer(name).record

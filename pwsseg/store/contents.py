"""Questions that people ask of a whole store or layer, answered from records and manifests alone."""

from __future__ import annotations

from typing import Any

from pwsseg.store.layer import Layer
from pwsseg.store.records import AnnotationPins, LayerRecord, ModelRecord, Published
from pwsseg.store.store import Store


def published_layers(store: Store) -> list[Layer]:
    """Every published layer that is not retired, by name and version."""
    retired = store.retired("layers")
    kept = [r for r in store.layers() if isinstance(r.state, Published) and r.id not in retired]
    return [Layer(store.objects, r) for r in kept]


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
    """The version named, whatever its state, or the newest published one of the name, else a draft."""
    named = [r for r in store.layers() if name in (r.id, r.pins.name)]
    if any(r.id == name for r in named) or (named and all(r.state.state == "draft" for r in named)):
        return named[-1]
    return store.layer(name).record


def model_record(store: Store, name: str) -> ModelRecord:
    """The same for a model."""
    named = [r for r in store.models() if name in (r.id, r.pins.name)]
    if any(r.id == name for r in named) or (named and all(r.state.state == "draft" for r in named)):
        return named[-1]
    return store.model(name).record

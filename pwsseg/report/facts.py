"""What the report says, read from the store once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pwsseg.arrays.metrics import Summary, summarise
from pwsseg.store import Layer, Model, Store
from pwsseg.store.contents import published_layers
from pwsseg.values import StoreError

Rows = Sequence[Mapping[str, Any]]


class Round(NamedTuple):
    """A published prediction layer and its scores against `reference`; no rows while it is not evaluated."""

    layer: Layer
    model: Model | None
    reference: Layer | None
    rows: Rows
    summary: Summary


class Facts(NamedTuple):
    """Published layers oldest first; of them the newest version of every prediction is a round."""

    layers: list[Layer]
    drafts: list[str]
    rounds: list[Round]
    cases: dict[str, int]

    @property
    def scored(self) -> list[Round]:
        """The rounds that have scores."""
        return [r for r in self.rounds if r.rows]


def by_case(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each case."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return found


def gather(store: Store) -> Facts:
    """Read the store's layers, models and scores; no volume is opened."""
    records = store.layers()
    layers = _oldest_first(published_layers(store))
    references = [layer for layer in reversed(layers) if layer.record.pins.kind == "annotation"]
    newest = {layer.record.pins.name: layer for layer in layers if layer.record.pins.kind == "prediction"}
    rounds = [_round(store, layer, references) for layer in layers if layer in newest.values()]
    return Facts(
        layers=layers,
        drafts=[r.id for r in records if r.state.state == "draft"],
        rounds=rounds,
        cases={split: len(store.cases(split=split)) for split in ("training", "validation")},
    )


def published_at(layer: Layer) -> datetime:
    """When the layer was published, UTC."""
    return datetime.fromisoformat(layer.state.created)


def _oldest_first(layers: Sequence[Layer]) -> list[Layer]:
    """By time, and sources before what was made of them within one second."""
    parents = {layer.id: [p.id for p in layer.record.pins.parents] for layer in layers}

    def depth(layer: str) -> int:
        return 1 + max((depth(p) for p in parents.get(layer, [])), default=0)

    return sorted(layers, key=lambda layer: (published_at(layer), depth(layer.id), layer.id))


def _round(store: Store, layer: Layer, references: Sequence[Layer]) -> Round:
    reference, rows = best_reference(store, layer, references)
    return Round(layer, _model(store, layer), reference, rows, summarise(rows))


def best_reference(store: Store, layer: Layer, references: Sequence[Layer]) -> tuple[Layer | None, Rows]:
    """The first of `references` that the layer was scored against, and the rows; else (None, [])."""
    for reference in references:
        rows = store.scores(layer.id, reference.id)
        if rows:
            return reference, rows
    return None, []


def _model(store: Store, layer: Layer) -> Model | None:
    pin = layer.record.pins.model
    if pin is None:
        return None
    try:
        return store.model(pin.id)
    except StoreError:  # a copied layer keeps its pins, the model may have stayed behind
        return None

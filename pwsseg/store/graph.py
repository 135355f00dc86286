"""What came from what: layers and models, each with the versions that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pwsseg.store.records import Json, LayerRecord, ModelRecord, Pin, RetirementRecord
from pwsseg.store.store import Store


class Key(NamedTuple):
    """A layer or a model: both may be called `os1.v1`."""

    room: str
    id: str


class Node(NamedTuple):
    """One version, and what it was made from."""

    key: Key
    sources: tuple[Key, ...]
    record: LayerRecord | ModelRecord

    @property
    def created(self) -> str | None:
        """When it was published; None while it is a draft."""
        return None if self.record.state.state == "draft" else self.record.state.created


def graph(store: Store) -> list[Node]:
    """Every layer and model, drafts and retired ones too; oldest first, and sources before what they made."""
    layers = [Node(Key("layers", r.id), sources_of(r), r) for r in store.layers()]
    models = [Node(Key("models", r.id), sources_of(r), r) for r in store.models()]
    found = [*layers, *models]
    return _sorted(sorted(found, key=lambda n: (n.created or "draft", n.key.room == "layers", n.key.id)))


def retired_keys(store: Store) -> dict[Key, RetirementRecord]:
    """Every layer and model that was given up."""
    rooms: tuple[Literal["layers", "models"], ...] = ("layers", "models")
    return {Key(room, i): record for room in rooms for i, record in store.retired(room).items()}


def dependents(nodes: Iterable[Node], of: Key) -> list[Node]:
    """The nodes that were made from one."""
    return [n for n in nodes if of in n.sources]


def sources_of(record: LayerRecord | ModelRecord) -> tuple[Key, ...]:
    """What a version was made from: parents and model of a layer, targets and predecessor of a model.

    Both also need the coarse model that finds their box, where their settings name one.
    """
    finder = _finder(record.pins.settings)
    if isinstance(record, LayerRecord):
        model = () if record.pins.model is None else (record.pins.model,)
        return _keys("layers", record.pins.parents) + _keys("models", model) + finder
    start = () if record.pins.starts_from is None else (record.pins.starts_from,)
    return _keys("layers", record.pins.targets) + _keys("models", start) + finder


def _finder(settings: Json) -> tuple[Key, ...]:
    box = settings.get("box")
    return (Key("models", str(box["coarse"])),) if isinstance(box, dict) else ()


def _keys(room: str, pins: Sequence[Pin]) -> tuple[Key, ...]:
    return tuple(Key(room, pin.id) for pin in pins)


def _sorted(nodes: list[Node]) -> list[Node]:
    """The same nodes, none before its sources; where a source is missing it isn't waited for."""
    there = {n.key for n in nodes}
    done: dict[Key, Node] = {}
    waiting = nodes
    while waiting:
        ready = [n for n in waiting if all(s in done or s not in there for s in n.sources)]
        first = ready[0] if ready else waiting[0]  # a circle can't be made, but a damaged store may hold one
        done[first.key] = first
        waiting = [n for n in waiting if n is not first]
    return list(done.values())

"""One scan through the layers: which version said what of it, and how much that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pwsseg.store.contents import published_layers
from pwsseg.store.graph import Key, graph
from pwsseg.store.layer import Layer
from pwsseg.store.records import CaseRecord
from pwsseg.store.store import Store
from pwsseg.values import StoreError


class Event(NamedTuple):
    """A layer that holds the case, and the one it is held against: its own last version, or a source.

    `changed`: voxels with another label than there; None when there is nothing to compare with.
    """

    layer: Layer
    entry: CaseRecord
    against: Layer | None
    changed: int | None

    @property
    def same(self) -> bool:
        """Whether every voxel is as it was."""
        return self.changed == 0


def history(store: Store, case: str) -> list[Event]:
    """Every published layer that holds the case, oldest first; StoreError when there is no such scan.

    A version is held against the one before it of the same name; a first version against the newest of
    the layers it was made from. Retired layers are left out.
    """
    store.scan(case)
    order = {node.key: i for i, node in enumerate(graph(store))}
    layers = sorted(published_layers(store), key=lambda layer: order[Key("layers", layer.id)])
    events: list[Event] = []
    for layer in layers:
        entry = layer.find(case)
        if entry is not None:
            events.append(_event(layer, entry, events))
    return events


def _event(layer: Layer, entry: CaseRecord, earlier: Sequence[Event]) -> Event:
    names = {pin.id for pin in layer.record.pins.parents}
    own = [e for e in earlier if e.layer.record.pins.name == layer.record.pins.name]
    made_from = [e for e in earlier if e.layer.id in names]
    candidates = own or made_from
    if not candidates:
        return Event(layer, entry, None, None)
    before = candidates[-1]
    if before.entry.scan != entry.scan:
        raise StoreError(f"case {entry.case} lies on different scans in {before.layer.id} and {layer.id}")
    if before.entry.digest == entry.digest:
        return Event(layer, entry, before.layer, 0)
    old, new = before.layer.labels(entry.case), layer.labels(entry.case)
    return Event(layer, entry, before.layer, int((old != new).sum()))

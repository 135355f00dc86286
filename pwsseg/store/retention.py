"""Giving layers and models up, in two steps: `retire` can be taken back, `collect` deletes for good.

plan = retire(store, [Key("layers", "os1.v1")])     # refuses what a kept version was made into
collect(store)                                      # deletes what is retired; records stay
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from pwsseg.store.graph import Key, Node, dependents, graph, retired_keys
from pwsseg.store.layer import MANIFEST, layer_path
from pwsseg.store.model import weights_key
from pwsseg.store.objects import Objects
from pwsseg.store.records import LayerRecord, Pin, Published, RetirementRecord, Trained, now
from pwsseg.store.retirements import (
    keep_retirement,
    noun_of,
    refuse_deleted,
    retirement_key,
)
from pwsseg.store.store import Store
from pwsseg.store.volumes import GROUP
from pwsseg.values import StoreError


class Collected(NamedTuple):
    """What `collect` deleted, and what it left because something kept was made from it since."""

    deleted: list[RetirementRecord]
    needed: list[tuple[RetirementRecord, list[Key]]]


def retire(store: Store, wanted: Collection[Key]) -> list[RetirementRecord]:
    """Retire versions, all or none; what is retired already stays as it is.

    StoreError when one is absent, a draft or an annotation, or something that is kept was made from it.
    """
    nodes = {n.key: n for n in graph(store)}
    retired = retired_keys(store)
    going = [n for n in nodes.values() if n.key in wanted]
    for key in wanted:
        _refuse_unfit(key, nodes.get(key))
    gone = {*retired, *wanted}
    for node in going:
        _refuse_needed(node, [n for n in dependents(nodes.values(), node.key) if n.key not in gone])
    for node in reversed(
        going
    ):  # what was made from others first: stopped halfway, nothing kept lacks a source
        if node.key not in retired:
            keep_retirement(store.objects, _retirement(store.objects, node))
    now_retired = retired_keys(store)
    return [now_retired[node.key] for node in going]


def restore(store: Store, wanted: Collection[Key]) -> None:
    """Take retirements back, all or none.

    StoreError when one is not retired or is deleted, or a source of it would still be retired.
    """
    nodes, retired = graph(store), retired_keys(store)
    for key in wanted:
        if key not in retired:
            raise StoreError(f"{noun_of(key.room)} {key.id} is not retired")
        refuse_deleted(retired[key])
    back = [n for n in nodes if n.key in wanted]
    for node in back:
        lacking = [s for s in node.sources if s in retired and s not in wanted]
        if lacking:
            raise StoreError(f"{said(node.key)} was made from {_listed(lacking)}, retired too; name both")
    for node in back:
        store.objects.remove(retirement_key(*node.key))


def collect(store: Store, *, dry_run: bool = False) -> Collected:
    """Delete the voxels and weights of what is retired; nothing at all with `dry_run`.

    Records and manifests stay, so that pins and histories can still be explained. What a kept version was
    made from meanwhile is left alone.
    """
    nodes, retired = graph(store), retired_keys(store)
    collected = Collected([], [])
    for node in reversed(nodes):
        record = retired.get(node.key)
        if record is None or not (keys := _freed(store.objects, node)):
            continue
        if isinstance(node.record, LayerRecord) and node.record.pins.kind == "annotation":
            continue
        needing = [n.key for n in dependents(nodes, node.key) if n.key not in retired]
        if needing:
            collected.needed.append((record, needing))
            continue
        collected.deleted.append(record)
        for key in keys:
            store.objects.check(key)
        if not dry_run:
            keep_retirement(store.objects, record.model_copy(update={"deleted": record.deleted or now()}))
            for key in sorted(keys, key=lambda k: not k.endswith(f"/{GROUP}")):  # commit records first
                store.objects.remove(key)
    return collected


def said(key: Key) -> str:
    """`layer os1.v1`, `model os1.v1`."""
    return f"{noun_of(key.room)} {key.id}"


def _retirement(objects: Objects, node: Node) -> RetirementRecord:
    state = node.record.state
    assert isinstance(state, Published | Trained)
    digest = state.digest if isinstance(state, Published) else state.weights
    return RetirementRecord(
        type="retirement",
        room="layers" if node.key.room == "layers" else "models",
        pin=Pin(id=node.key.id, digest=digest),
        retired=now(),
        frees=sum(_freed(objects, node).values()),
        deleted=None,
    )


def _freed(objects: Objects, node: Node) -> dict[str, int]:
    """What `collect` would delete, with sizes: a layer's cases, a model's weights."""
    if node.key.room == "models":
        weights = weights_key(node.key.id)
        return {k: n for k, n in objects.keys(f"models/{node.key.id}").items() if k == weights}
    path = layer_path(node.key.id)
    stays = {f"{path}/{GROUP}", f"{path}/{MANIFEST}"}
    return {k: n for k, n in objects.keys(path).items() if k not in stays}


def _refuse_unfit(key: Key, node: Node | None) -> None:
    if node is None:
        raise StoreError(f"the store has no {said(key)}; give a full id as `pwsseg layers` lists it")
    if node.record.state.state == "draft":
        raise StoreError(
            f"{said(key)} is an unfinished draft; `pwsseg verify --repair` removes those nobody writes to"
        )
    if isinstance(node.record, LayerRecord) and node.record.pins.kind == "annotation":
        raise StoreError(f"{said(key)} is annotation, which is never given up")


def _refuse_needed(node: Node, needing: Sequence[Node]) -> None:
    if needing:
        names = _listed([n.key for n in needing])
        raise StoreError(
            f"{said(node.key)} can't be retired: {names} came of it and would be kept; name that as well"
        )


def _listed(keys: Sequence[Key]) -> str:
    return ", ".join(said(key) for key in keys)

"""Where things come from: the graph of layers and models, the models, the history of one scan."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.drawing import cases_of, classes_of, drawn, state_of
from pwsseg.cli.text import moment, ranges, size, table

if TYPE_CHECKING:
    from pwsseg.store import LayerRecord, ModelRecord, RetirementRecord
    from pwsseg.store.history import Event


def add_to(commands: Commands) -> None:
    """Add `layers`, `models` and `log`."""
    commands.add(layers, positional_store=True).add_argument(
        "--table", action="store_true", help="one line a layer with all its parents, no graph and no models"
    )
    commands.add(models, positional_store=True)
    commands.add(log).add_argument("case", metavar="CASE", help="as `pwsseg cases` lists it")


def layers(args: argparse.Namespace) -> int:
    """What was made from what: every version of every layer and model, drafts too, oldest first."""
    from pwsseg.store.graph import graph, retired_keys

    store = store_of(args)
    records = store.layers()
    value = [record.model_dump(mode="json") for record in records]
    empty = f"no layers in {store.location}"
    if args.json or args.table or not records:
        gone = store.retired("layers")
        columns = ["layer", "kind", "state", "cases", "size", "classes", "parents", "model", "created"]
        return answer(args, value, table(columns, [_layer_row(r, gone) for r in records], empty=empty))
    return answer(args, value, drawn(graph(store), retired_keys(store)))


def models(args: argparse.Namespace) -> int:
    """Every version of every model, unfinished ones too: what it learned from, and what it began with."""
    store = store_of(args)
    records, gone = store.models(), store.retired("models")
    columns = ["model", "state", "cases", "size", "classes", "learned from", "begun with", "created"]
    text = table(columns, [_model_row(r, gone) for r in records], empty=f"no models in {store.location}")
    return answer(args, [r.model_dump(mode="json") for r in records], text)


def log(args: argparse.Namespace) -> int:
    """The history of one scan: each layer that holds it, and what that changed against the one before."""
    from pwsseg.store.history import history

    store = store_of(args)
    source = store.scan(args.case).record.source
    events = history(store, args.case)
    columns = ["created", "layer", "states", "labelled", "changed", "against", "digest"]
    text = f"{args.case}, from {source.name}\n"
    text += table(columns, [_event_row(e) for e in events], empty="no layer has labels for it")
    return answer(args, {"case": args.case, "layers": [_event_value(e) for e in events]}, text)


def _layer_row(record: LayerRecord, gone: dict[str, RetirementRecord]) -> list[str]:
    pins, state = record.pins, record.state
    done = None if state.state == "draft" else state
    return [
        record.id,
        pins.kind,
        state_of(record, gone.get(record.id)),
        cases_of(record),
        size(done.bytes) if done else "-",
        ranges(pins.classes),
        " ".join(p.id for p in pins.parents) or "-",
        pins.model.id if pins.model else "-",
        moment(done.created) if done else "-",
    ]


def _model_row(record: ModelRecord, gone: dict[str, RetirementRecord]) -> list[str]:
    pins, state = record.pins, record.state
    done = None if state.state == "draft" else state
    return [
        record.id,
        state_of(record, gone.get(record.id)),
        cases_of(record),
        size(done.bytes) if done else "-",
        ranges(classes_of(record)),
        " ".join(p.id for p in pins.targets) or "-",
        pins.starts_from.id if pins.starts_from else "-",
        moment(done.created) if done else "-",
    ]


def _event_row(event: Event) -> list[str]:
    voxels = sum(n for label, n in event.entry.voxels.items() if label != "255")
    changed = "-" if event.changed is None else "same" if event.same else str(event.changed)
    return [
        moment(event.layer.state.created),
        event.layer.id,
        ranges(event.entry.annotated_classes),
        str(voxels),
        changed,
        event.against.id if event.against else "-",
        event.entry.digest[:12],
    ]


def _event_value(event: Event) -> dict[str, Any]:
    return {
        "layer": event.layer.id,
        "created": event.layer.state.created,
        "kind": event.layer.record.pins.kind,
        "annotated_classes": list(event.entry.annotated_classes),
        "voxels": event.entry.voxels,
        "digest": event.entry.digest,
        "against": event.against.id if event.against else None,
        "changed_voxels": event.changed,
    }

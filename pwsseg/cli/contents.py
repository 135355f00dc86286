"""What is in a store: its cases, one layer's or model's record."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.drawing import state_of
from pwsseg.cli.text import moment, ranges, size, table

if TYPE_CHECKING:
    from pwsseg.store import LayerRecord, ModelRecord, RetirementRecord, Store
    from pwsseg.values import LabelSet


def add_to(commands: Commands) -> None:
    """Add `cases` and `show`."""
    commands.add(cases, positional_store=True)
    parser = commands.add(show)
    parser.add_argument("name", metavar="LAYER", help="os1 for its newest version, os1.v1 for that one")
    parser.add_argument("--model", action="store_true", help="show the model of that name, not the layer")


def cases(args: argparse.Namespace) -> int:
    """The scans, what the newest annotation states about them, the layers that have labels for them."""
    from pwsseg.store.contents import annotated_classes, published_layers

    store = store_of(args)
    members = {layer.id: set(layer.cases()) for layer in published_layers(store)}
    annotated = annotated_classes(store)
    rows: list[dict[str, Any]] = []
    for record in store.scan_records():
        rows.append(
            {
                "case": record.case,
                "split": record.split,
                "size": list(record.geometry.shape),
                "spacing": list(record.geometry.spacing),
                "annotated_classes": annotated.get(record.case, []),
                "layers": [layer for layer, has in members.items() if record.case in has],
            }
        )
    return answer(
        args,
        rows,
        table(
            ["case", "split", "size z y x", "spacing mm", "annotated", "layers"],
            [
                [
                    row["case"],
                    row["split"],
                    " ".join(f"{n:d}" for n in row["size"]),
                    " ".join(f"{s:.4g}" for s in row["spacing"]),
                    ranges(row["annotated_classes"]),
                    " ".join(row["layers"]) or "-",
                ]
                for row in rows
            ],
            empty=f"no scans in {store.location}",
        ),
    )


def show(args: argparse.Namespace) -> int:
    """The record of one layer and how much of each class is in it; or the record of a model."""
    from pwsseg.store.contents import layer_record, model_record

    store = store_of(args)
    names = {r.id for r in store.layers()} | {r.pins.name for r in store.layers()}
    others = {r.id for r in store.models()} | {r.pins.name for r in store.models()}
    if args.model or (args.name not in names and args.name in others):
        model = model_record(store, args.name)
        lines = _model_lines(model, store.retired("models").get(model.id))
        return answer(args, model.model_dump(mode="json"), table([], lines))
    record = layer_record(store, args.name)
    retired = store.retired("layers").get(record.id)
    rows = _per_class(store, record)
    text = table([], _record_lines(record, store.label_set, retired))
    if rows:
        columns = ["class", "name", "stated in", "present in", "voxels", "ml"]
        keys = ("class", "name", "stated_in", "present_in", "voxels")
        text += "\n" + table(
            columns, [[*(str(row[key]) for key in keys), f"{row['ml']:.1f}"] for row in rows]
        )
    return answer(args, {**record.model_dump(mode="json"), "per_class": rows}, text)


def _per_class(store: Store, record: LayerRecord) -> list[dict[str, Any]]:
    from pwsseg.store import Layer
    from pwsseg.store.contents import class_amounts

    if record.state.state == "draft":
        return []
    amounts = class_amounts(Layer(store.objects, record))
    return [{**row, "name": store.label_set[row["class"]].name} for row in amounts]


def _record_lines(
    record: LayerRecord, label_set: LabelSet, retired: RetirementRecord | None
) -> list[list[str]]:
    pins, state = record.pins, record.state
    lines = [["layer", record.id], ["kind", pins.kind], *_state_lines(record, retired)]
    if state.state == "published":
        lines += [["digest", state.digest], ["cases", str(state.cases)], ["size", size(state.bytes)]]
    lines.append(["classes", ", ".join(f"{i} {label_set[i].name}" for i in pins.classes)])
    lines += [["parent", f"{p.id}  {p.digest[:12]}"] for p in pins.parents]
    lines += [["model", f"{p.id}  {p.digest[:12]}"] for p in (pins.model,) if p]
    lines += [["rule", rule] for rule in pins.rules]
    return [*lines, *(["setting", said] for said in _said(pins.settings)), ["code", pins.code]]


def _model_lines(record: ModelRecord, retired: RetirementRecord | None) -> list[list[str]]:
    pins, state = record.pins, record.state
    lines = [["model", record.id], *_state_lines(record, retired)]
    if state.state == "published":
        lines += [["weights", state.weights], ["size", size(state.bytes)], ["activation", state.activation]]
        lines += [["classes", " ".join(str(c) for c in state.classes)]]
        lines += [["network", said] for said in _said(state.network)]
    lines += [["learned from", f"{p.id}  {p.digest[:12]}"] for p in pins.targets]
    lines += [["begun with", f"model {p.id}  {p.digest[:12]}"] for p in (pins.starts_from,) if p]
    lines += [["cases", str(len(pins.cases))], *(["setting", said] for said in _said(pins.settings))]
    return [*lines, ["code", pins.code]]


def _state_lines(record: LayerRecord | ModelRecord, retired: RetirementRecord | None) -> list[list[str]]:
    lines = [["state", state_of(record, retired)]]
    if record.state.state == "published":
        lines.append(["created", f"{moment(record.state.created)} UTC"])
    if retired:
        lines.append(["retired", f"{moment(retired.retired)} UTC"])
    if retired and retired.deleted:
        lines.append(["deleted", f"{moment(retired.deleted)} UTC; {size(retired.frees)} freed"])
    return lines


def _said(value: Any, name: str = "") -> Iterator[str]:
    """`name = value` of every setting, in tables by dotted names, in lists of tables by number."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _said(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value, 1):
            yield from _said(inner, f"{name}[{number}]")
    elif name:
        yield f"{name} = {json.dumps(value)}"

"""What is in a store: its cases, its layers, one layer's record."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import ranges, size, table

if TYPE_CHECKING:
    from pwsseg.store import LayerRecord
    from pwsseg.values import LabelSet


def add_to(commands: Commands) -> None:
    """Add `cases`, `layers` and `show`."""
    commands.add(cases, positional_store=True)
    commands.add(layers, positional_store=True)
    commands.add(show).add_argument(
        "layer", metavar="LAYER", help="os1 for its newest version, os1.v1 for that one"
    )


def cases(args: argparse.Namespace) -> int:
    """The scans, what the newest annotation states about them, the layers that have labels for them."""
    from pwsseg.store.contents import annotated_classes, published_layers

    store = store_of(args)
    members = {layer.id: set(layer.cases()) for layer in published_layers(store)}
    annotated = annotated_classes(store)
    rows: list[dict[str, Any]] = []
    for case in store.cases():
        record = store.scan(case).record
        rows.append(
            {
                "case": case,
                "split": record.split,
                "size": list(record.geometry.shape),
                "spacing": list(record.geometry.spacing),
                "annotated_classes": annotated.get(case, []),
                "layers": [layer for layer, has in members.items() if case in has],
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


def layers(args: argparse.Namespace) -> int:
    """Every version of every layer, drafts too."""
    store = store_of(args)
    records = store.layers()
    columns = ["layer", "kind", "state", "cases", "size", "classes", "parents", "model", "created"]
    text = table(columns, [_layer_row(r) for r in records], empty=f"no layers in {store.location}")
    return answer(args, [r.model_dump(mode="json") for r in records], text)


def show(args: argparse.Namespace) -> int:
    """The record of one layer, and how much of each class is in it."""
    from pwsseg.store.contents import class_amounts, layer_record

    store = store_of(args)
    record = layer_record(store, args.layer)
    rows: list[dict[str, Any]] = []
    if record.state.state == "published":
        amounts = class_amounts(store.layer(record.id))
        rows = [{**row, "name": store.label_set[row["class"]].name} for row in amounts]
    text = table([], _record_lines(record, store.label_set))
    if rows:
        columns = ["class", "name", "stated in", "present in", "voxels", "ml"]
        keys = ("class", "name", "stated_in", "present_in", "voxels")
        lines = [[*(str(row[key]) for key in keys), f"{row['ml']:.1f}"] for row in rows]
        text += "\n" + table(columns, lines)
    return answer(args, {**record.model_dump(mode="json"), "per_class": rows}, text)


def _layer_row(record: LayerRecord) -> list[str]:
    pins, state = record.pins, record.state
    done = None if state.state == "draft" else state
    return [
        record.id,
        pins.kind,
        state.state,
        str(done.cases) if done else "-",
        size(done.bytes) if done else "-",
        ranges(pins.classes),
        " ".join(p.id for p in pins.parents) or "-",
        pins.model.id if pins.model else "-",
        done.created.replace("T", " ").rstrip("Z") if done else "-",
    ]


def _record_lines(record: LayerRecord, label_set: LabelSet) -> list[list[str]]:
    pins, state = record.pins, record.state
    lines = [["layer", record.id], ["kind", pins.kind], ["state", state.state]]
    if state.state == "published":
        lines += [["created", f"{state.created.replace('T', ' ').rstrip('Z')} UTC"], ["digest", state.digest]]
        lines += [["cases", str(state.cases)], ["size", size(state.bytes)]]
    lines.append(["classes", ", ".join(f"{i} {label_set[i].name}" for i in pins.classes)])
    lines += [["parent", f"{p.id}  {p.digest[:12]}"] for p in pins.parents]
    lines += [["model", f"{p.id}  {p.digest[:12]}"] for p in (pins.model,) if p]
    lines += [["rule", rule] for rule in pins.rules]
    lines += [["setting", f"{key} = {json.dumps(value)}"] for key, value in pins.settings.items()]
    return [*lines, ["code", pins.code]]

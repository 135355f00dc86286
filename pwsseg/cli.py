"""`pwsseg`: looking at a store. Jobs write, this reads.

    pwsseg cases    [STORE]              the scans, what is annotated in them, the layers that have them
    pwsseg layers   [STORE]              every layer and version
    pwsseg show     LAYER                one layer: its record, and voxels a class
    pwsseg diff     A B [--case C]       what differs between two layers, a class at a time
    pwsseg verify   [STORE]              every byte against every record; exit code 1 if anything is wrong
    pwsseg export   --layer L --out DIR  labels as NIfTI, in each scan's own geometry
    pwsseg report   [STORE] --out FILE   one page of HTML

The store is `--store S`, else the variable PWSSEG_STORE, else ./pwsseg-store. `--json` prints the same for
scripts. Heavy libraries are imported by the command that needs them, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwsseg.store import LayerRecord, Store
    from pwsseg.values import LabelSet

DEFAULT_STORE = "pwsseg-store"
NUMBER = re.compile(r"-|[0-9.]+( [kMGT]?B)?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. What goes wrong for the user is one sentence on stderr and code 1."""
    args = _parser().parse_args(arguments)
    from pwsseg.values import PwssegError

    try:
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except PwssegError as error:
        sys.stderr.write(f"pwsseg: {error}\n")
    except BrokenPipeError:  # `pwsseg cases | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def cases(args: argparse.Namespace) -> int:
    """The scans, what the newest annotation states about them, the layers that have labels for them."""
    from pwsseg.store.contents import annotated_classes, published_layers

    store = _store(args)
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
    return _answer(
        args,
        rows,
        _table(
            ["case", "split", "size z y x", "spacing mm", "annotated", "layers"],
            [
                [
                    row["case"],
                    row["split"],
                    " ".join(f"{n:d}" for n in row["size"]),
                    " ".join(f"{s:.4g}" for s in row["spacing"]),
                    _ranges(row["annotated_classes"]),
                    " ".join(row["layers"]) or "-",
                ]
                for row in rows
            ],
            empty=f"no scans in {store.location}",
        ),
    )


def layers(args: argparse.Namespace) -> int:
    """Every version of every layer, drafts too."""
    store = _store(args)
    records = store.layers()
    columns = ["layer", "kind", "state", "cases", "size", "classes", "parents", "model", "created"]
    text = _table(columns, [_layer_row(r) for r in records], empty=f"no layers in {store.location}")
    return _answer(args, [r.model_dump(mode="json") for r in records], text)


def show(args: argparse.Namespace) -> int:
    """The record of one layer, and how much of each class is in it."""
    from pwsseg.store.contents import class_amounts, layer_record

    store = _store(args)
    record = layer_record(store, args.layer)
    rows: list[dict[str, Any]] = []
    if record.state.state == "published":
        amounts = class_amounts(store.layer(record.id))
        rows = [{**row, "name": store.label_set[row["class"]].name} for row in amounts]
    text = _table([], _record_lines(record, store.label_set))
    if rows:
        columns = ["class", "name", "stated in", "present in", "voxels", "ml"]
        keys = ("class", "name", "stated_in", "present_in", "voxels")
        lines = [[*(str(row[key]) for key in keys), f"{row['ml']:.1f}"] for row in rows]
        text += "\n" + _table(columns, lines)
    return _answer(args, {**record.model_dump(mode="json"), "per_class": rows}, text)


def diff(args: argparse.Namespace) -> int:
    """Per class, what was gained and lost between two layers, and the mean Dice of the cases."""
    from pwsseg.store.compare import compare, summary
    from pwsseg.values import StoreError

    store = _store(args)
    first, second = store.layer(args.first), store.layer(args.second)
    changes = list(compare(first, second, [args.case] if args.case else None))
    if not changes:
        raise StoreError(
            f"{first.id} and {second.id} share no case and class, so there is nothing to compare"
        )
    rows = [{**row, "name": store.label_set[row["class"]].name} for row in summary(changes)]
    columns = ["class", "name", "cases", "before", "after", "gained", "lost", "ml gained", "ml lost", "Dice"]
    lines = [
        [
            *[str(row[key]) for key in ("class", "name", "cases", "before", "after", "gained", "lost")],
            f"{row['gained_ml']:.2f}",
            f"{row['lost_ml']:.2f}",
            "-" if row["dice"] is None else f"{row['dice']:.4f}",
        ]
        for row in rows
    ]
    title = f"{first.id} -> {second.id}, {args.case or f'{len({c.case for c in changes})} cases'}\n"
    text = title + _table(columns, lines)
    each = [{**c._asdict(), "gained": c.gained, "lost": c.lost, "dice": c.dice} for c in changes]
    return _answer(args, {"first": first.id, "second": second.id, "classes": rows, "cases": each}, text)


def verify(args: argparse.Namespace) -> int:
    """Check every object against every record; exit code 1 when anything is wrong."""
    from pwsseg.store.verify import verify as findings_of

    store = _store(args)
    findings = sorted(findings_of(store), key=lambda f: (f.level, f.where))
    errors = sum(f.level == "error" for f in findings)
    text = _table([], [[f.level, f.where, f.what] for f in findings])
    verdict = f"{errors} error{'s' * (errors != 1)}" if errors else "every object is as it was written"
    text += f"{store.location}: {verdict}\n"
    _answer(
        args, {"store": store.location, "errors": errors, "findings": [f._asdict() for f in findings]}, text
    )
    return int(errors > 0)


def export(args: argparse.Namespace) -> int:
    """Write labels as NIfTI, DIR/<case>.nii.gz, voxel for voxel on the scan's grid."""
    from pwsseg.formats.nifti import write_labels
    from pwsseg.formats.volume import Volume
    from pwsseg.values import StoreError

    layer = _store(args).layer(args.layer)
    wanted = sorted(set(args.case)) if args.case else layer.cases()
    missing = sorted(set(wanted).difference(layer.cases()))
    if missing:
        raise StoreError(
            f"layer {layer.id} has no labels for case {missing[0]}; `pwsseg cases` lists who has which"
        )
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; give a folder for the labels")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for case in wanted:
        paths.append(out / f"{case}.nii.gz")
        write_labels(paths[-1], Volume(layer.labels(case), layer.entry(case).geometry))
    text = f"{len(paths)} case{'s' * (len(paths) != 1)} of {layer.id} in {out}\n"
    return _answer(args, {"layer": layer.id, "files": [str(p) for p in paths]}, text)


def report(args: argparse.Namespace) -> int:
    """Write what the store holds as one self-contained page of HTML."""
    from pwsseg.report import write_report

    path = write_report(_store(args), Path(args.out))
    return _answer(args, {"file": str(path)}, f"{path}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pwsseg", description="Look at a store of CT scans and label layers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(function: Any, *, positional_store: bool = False) -> argparse.ArgumentParser:
        text = function.__doc__.splitlines()[0]
        sub = commands.add_parser(
            function.__name__, help=text[0].lower() + text[1:].rstrip("."), description=text
        )
        if positional_store:
            sub.add_argument("location", nargs="?", metavar="STORE", help="the same as --store STORE")
        sub.add_argument("--store", help=f"default: the variable PWSSEG_STORE, then ./{DEFAULT_STORE}")
        sub.add_argument("--json", action="store_true", help="print JSON, for scripts")
        sub.set_defaults(command=function, location=None)
        return sub

    command(cases, positional_store=True)
    command(layers, positional_store=True)
    command(show).add_argument(
        "layer", metavar="LAYER", help="os1 for its newest version, os1.v1 for that one"
    )
    comparing = command(diff)
    comparing.add_argument("first", metavar="A", help="a layer, such as os1 or os1.v1")
    comparing.add_argument("second", metavar="B", help="another, to be compared with it")
    comparing.add_argument("--case", metavar="C", help="compare this case only")
    command(verify, positional_store=True)
    exporting = command(export)
    exporting.add_argument(
        "--layer", required=True, metavar="L", help="os1 for its newest version, or os1.v1"
    )
    exporting.add_argument("--case", nargs="+", metavar="C", help="only these cases")
    exporting.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the files, made if there is none"
    )
    reporting = command(report, positional_store=True)
    reporting.add_argument("--out", default="report.html", metavar="FILE", help="default: report.html")
    return parser


def _store(args: argparse.Namespace) -> Store:
    from pwsseg.store import Store
    from pwsseg.values import SettingsError

    if args.location and args.store and args.location != args.store:
        raise SettingsError(f"two stores were given, {args.location} and {args.store}; give one")
    return Store.open(args.location or args.store or os.environ.get("PWSSEG_STORE") or DEFAULT_STORE)


def _layer_row(record: LayerRecord) -> list[str]:
    pins, state = record.pins, record.state
    done = None if state.state == "draft" else state
    return [
        record.id,
        pins.kind,
        state.state,
        str(done.cases) if done else "-",
        _bytes(done.bytes) if done else "-",
        _ranges(pins.classes),
        " ".join(p.id for p in pins.parents) or "-",
        pins.model.id if pins.model else "-",
        done.created.replace("T", " ").rstrip("Z") if done else "-",
    ]


def _record_lines(record: LayerRecord, label_set: LabelSet) -> list[list[str]]:
    pins, state = record.pins, record.state
    lines = [["layer", record.id], ["kind", pins.kind], ["state", state.state]]
    if state.state == "published":
        lines += [["created", f"{state.created.replace('T', ' ').rstrip('Z')} UTC"], ["digest", state.digest]]
        lines += [["cases", str(state.cases)], ["size", _bytes(state.bytes)]]
    lines.append(["classes", ", ".join(f"{i} {label_set[i].name}" for i in pins.classes)])
    lines += [["parent", f"{p.id}  {p.digest[:12]}"] for p in pins.parents]
    lines += [["model", f"{p.id}  {p.digest[:12]}"] for p in (pins.model,) if p]
    lines += [["rule", rule] for rule in pins.rules]
    lines += [["setting", f"{key} = {json.dumps(value)}"] for key, value in pins.settings.items()]
    return [*lines, ["code", pins.code]]


def _answer(args: argparse.Namespace, value: Any, text: str) -> int:
    sys.stdout.write(json.dumps(value, indent=2) + "\n" if args.json else text)
    return 0


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> str:
    """Aligned text, numbers to the right; `empty` when there is no row."""
    if not rows:
        return f"{empty}\n" if empty else ""
    numeric = [all(NUMBER.fullmatch(cell) for cell in cells) for cells in zip(*rows, strict=True)]
    lines = [columns, *rows] if columns else rows
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def _ranges(ids: Sequence[int]) -> str:
    """Class ids in few characters: 1-4 13."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return " ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs) or "-"


def _bytes(size: int) -> str:
    amount, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


if __name__ == "__main__":
    sys.exit(main())

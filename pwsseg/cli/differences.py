"""What differs between two layers."""

from __future__ import annotations

import argparse
from typing import Any

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table

AMOUNTS = ("before", "after", "gained", "lost", "ml gained", "ml lost", "Dice")


def add_to(commands: Commands) -> None:
    """Add `diff`."""
    parser = commands.add(diff)
    parser.add_argument("first", metavar="A", help="a layer, such as os1 or os1.v1")
    parser.add_argument("second", metavar="B", help="another, to be compared with it")
    parser.add_argument("--case", metavar="C", help="compare this case only")
    parser.add_argument(
        "--most", type=int, default=5, metavar="N", help="list the N cases that changed most; default 5"
    )


def diff(args: argparse.Namespace) -> int:
    """Per class, what was gained and lost between two layers, and which cases changed most."""
    from pwsseg.store.compare import compare, most_changed, summary
    from pwsseg.values import StoreError

    store = store_of(args)
    first, second = store.layer(args.first), store.layer(args.second)
    changes = list(compare(first, second, [args.case] if args.case else None))
    if not changes:
        raise StoreError(
            f"{first.id} and {second.id} share no case and class, so there is nothing to compare"
        )
    rows = [{**row, "name": store.label_set[row["class"]].name} for row in summary(changes)]
    count = len({c.case for c in changes})
    most = [] if args.case else most_changed(changes, args.most)
    text = f"{first.id} -> {second.id}, {args.case or f'{count} cases'}\n"
    text += table(
        ["class", "name", "cases", *AMOUNTS],
        [[str(row["class"]), row["name"], str(row["cases"]), *_amounts(row)] for row in rows],
    )
    if most:
        text += "\nchanged most:\n"
        text += table(["case", *AMOUNTS], [[row["case"], *_amounts(row)] for row in most])
    each = [{**c._asdict(), "gained": c.gained, "lost": c.lost, "dice": c.dice} for c in changes if args.json]
    value = {"first": first.id, "second": second.id, "classes": rows, "most": most, "cases": each}
    return answer(args, value, text)


def _amounts(row: dict[str, Any]) -> list[str]:
    return [
        *[str(row[key]) for key in ("before", "after", "gained", "lost")],
        f"{row['gained_ml']:.2f}",
        f"{row['lost_ml']:.2f}",
        "-" if row["dice"] is None else f"{row['dice']:.4f}",
    ]

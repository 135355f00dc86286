"""What differs between two layers."""

from __future__ import annotations

import argparse

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table


def add_to(commands: Commands) -> None:
    """Add `diff`."""
    parser = commands.add(diff)
    parser.add_argument("first", metavar="A", help="a layer, such as os1 or os1.v1")
    parser.add_argument("second", metavar="B", help="another, to be compared with it")
    parser.add_argument("--case", metavar="C", help="compare this case only")


def diff(args: argparse.Namespace) -> int:
    """Per class, what was gained and lost between two layers, and the mean Dice of the cases."""
    from pwsseg.store.compare import compare, summary
    from pwsseg.values import StoreError

    store = store_of(args)
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
    text = title + table(columns, lines)
    each = [{**c._asdict(), "gained": c.gained, "lost": c.lost, "dice": c.dice} for c in changes]
    return answer(args, {"first": first.id, "second": second.id, "classes": rows, "cases": each}, text)

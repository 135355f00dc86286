"""A store as people look at it: pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.cli.command import Commands, answer, store_of


def add_to(commands: Commands) -> None:
    """Add `report`."""
    parser = commands.add(report, positional_store=True)
    parser.add_argument(
        "--out", metavar="FILE", help="default: report.html; with --tables a folder for files"
    )
    parser.add_argument(
        "--tables",
        action="store_true",
        help="print the paper's Tables 4 to 6; --out DIR writes CSV and Markdown",
    )


def report(args: argparse.Namespace) -> int:
    """Write what the store holds as one self-contained page of HTML, or as the paper's tables."""
    if args.tables:
        return _tables(args)
    from pwsseg.report import write_report

    path = write_report(store_of(args), Path(args.out or "report.html"))
    return answer(args, {"file": str(path)}, f"{path}\n")


def _tables(args: argparse.Namespace) -> int:
    from pwsseg.report.paper_tables import paper_tables, write_tables

    tables = paper_tables(store_of(args))
    files = [str(path) for path in write_tables(tables, Path(args.out))] if args.out else []
    text = "".join(f"{path}\n" for path in files) or "\n".join(table.text() for table in tables)
    return answer(args, {"tables": [table._asdict() for table in tables], "files": files}, text)

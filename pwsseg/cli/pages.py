"""A store as people look at it: pages."""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.cli.command import Commands, answer, store_of


def add_to(commands: Commands) -> None:
    """Add `report`."""
    parser = commands.add(report, positional_store=True)
    parser.add_argument("--out", default="report.html", metavar="FILE", help="default: report.html")


def report(args: argparse.Namespace) -> int:
    """Write what the store holds as one self-contained page of HTML."""
    from pwsseg.report import write_report

    path = write_report(store_of(args), Path(args.out))
    return answer(args, {"file": str(path)}, f"{path}\n")

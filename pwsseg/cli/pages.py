"""A store as people look at it: pages, tables, the queue of cases to look at."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table

if TYPE_CHECKING:
    from pwsseg.report.review import Entry


def add_to(commands: Commands) -> None:
    """Add `report` and `review`."""
    parser = commands.add(report, positional_store=True)
    parser.add_argument(
        "--out", metavar="FILE", help="default: report.html; with --tables a folder for files"
    )
    parser.add_argument(
        "--tables",
        action="store_true",
        help="print the paper's Tables 4 to 6; --out DIR writes CSV and Markdown",
    )
    parser = commands.add(review, positional_store=True)
    parser.add_argument("--layer", metavar="L", help="default: the newest prediction")
    parser.add_argument("--top", type=int, default=20, metavar="N", help="so many cases (default: 20)")
    parser.add_argument("--csv", metavar="FILE", help="write the queue as a table, too")
    parser.add_argument("--out", metavar="DIR", help="write scans and labels for ITK-SNAP and 3D Slicer, too")


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


def review(args: argparse.Namespace) -> int:
    """List the cases that are worth a person's minute, and the slice to look at."""
    from pwsseg.report.review import review as queue
    from pwsseg.report.review_files import write_csv, write_folder

    store = store_of(args)
    entries = queue(store, layer=args.layer, top=args.top)
    files = [str(write_csv(entries, Path(args.csv)))] if args.csv else []
    files += [str(write_folder(store, entries, Path(args.out)))] if args.out else []
    hint = f"what is corrected in {args.out}/labels goes back by jobs/ingest.py --fix\n" if args.out else ""
    columns = ["", "case", "split", "points", "slice", "height mm", "why"]
    lines = [_review_line(rank, entry) for rank, entry in enumerate(entries, start=1)]
    text = table(columns, lines, empty="nothing stands out")
    if entries:
        text = f"{entries[0].layer}, slices counted from the feet\n\n{text}"
    text += "".join(f"{path}\n" for path in files) + hint
    return answer(args, {"cases": [e._asdict() for e in entries], "files": files}, text)


def _review_line(rank: int, entry: Entry) -> list[str]:
    place = f"{entry.slice}/{entry.slices}", f"{entry.height_mm:.1f}"
    return [str(rank), entry.case, entry.split, f"{entry.points:.2f}", *place, entry.reasons[0]]

"""Whether a store is whole."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table

if TYPE_CHECKING:
    from pwsseg.store.check import Finding
    from pwsseg.store.repair import Repair


def add_to(commands: Commands) -> None:
    """Add `verify`."""
    parser = commands.add(verify, positional_store=True)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="remove orphans and unfinished drafts, and nothing that a published record names; "
        "a round that was interrupted goes on in its draft, so finish it first where it is wanted",
    )
    parser.add_argument(
        "--older-than",
        type=float,
        default=1.0,
        metavar="DAYS",
        help="of these, only what was last written so long ago, since a job may be at work; default: 1 day",
    )


def verify(args: argparse.Namespace) -> int:
    """Check every object against every record; exit code 1 when anything is wrong."""
    from pwsseg.store.repair import repair
    from pwsseg.store.verify import verify as findings_of

    store = store_of(args)
    findings = sorted(findings_of(store), key=lambda f: (f.level, f.where))
    done = repair(store, findings, older_than=timedelta(days=args.older_than), dry_run=not args.repair)
    left = [f for f in findings if not (args.repair and f in done.removed)]
    errors = sum(f.level == "error" for f in left)
    text = table([], [[f.level, f.where, f.what] for f in findings])
    text += _repaired(done, args.repair, args.older_than)
    verdict = f"{errors} error{'s' * (errors != 1)}" if errors else "every object is as it was written"
    value = {"store": store.location, "errors": errors, "findings": [_value(f) for f in left]}
    removed = [key for f in done.removed for key in f.loose] if args.repair else []
    answer(args, {**value, "removed": removed}, f"{text}{store.location}: {verdict}\n")
    return int(errors > 0)


def _value(finding: Finding) -> dict[str, Any]:
    fields = ("level", "where", "what", "layer", "case")
    return {name: getattr(finding, name) for name in fields}


def _repaired(done: Repair, real: bool, days: float) -> str:
    """What was or could be removed, and what is too fresh."""
    text = table([], [["removed" if real else "can go", _places(f)] for f in done.removed])
    if done.removed and not real:
        text += "`pwsseg verify --repair` removes what can go\n"
    if done.fresh:
        text += table([], [["fresh", _places(f)] for f in done.fresh])
        text += (
            f"fresh: written to within {days:g} day{'s' * (days != 1)}, perhaps by a job at work; it stays\n"
        )
    return text


def _places(finding: Finding) -> str:
    count = len(finding.loose)
    return finding.where if count == 1 else f"{finding.where}, {count} objects"

"""Whether a store is whole."""

from __future__ import annotations

import argparse

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table


def add_to(commands: Commands) -> None:
    """Add `verify`."""
    commands.add(verify, positional_store=True)


def verify(args: argparse.Namespace) -> int:
    """Check every object against every record; exit code 1 when anything is wrong."""
    from pwsseg.store.verify import verify as findings_of

    store = store_of(args)
    findings = sorted(findings_of(store), key=lambda f: (f.level, f.where))
    errors = sum(f.level == "error" for f in findings)
    text = table([], [[f.level, f.where, f.what] for f in findings])
    verdict = f"{errors} error{'s' * (errors != 1)}" if errors else "every object is as it was written"
    text += f"{store.location}: {verdict}\n"
    answer(
        args, {"store": store.location, "errors": errors, "findings": [f._asdict() for f in findings]}, text
    )
    return int(errors > 0)

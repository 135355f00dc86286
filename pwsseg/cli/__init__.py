"""`pwsseg`: looking at a store. Jobs write, this reads.

    pwsseg cases    [STORE]              the scans, what is annotated in them, the layers that have them
    pwsseg layers   [STORE]              every layer and version
    pwsseg show     LAYER                one layer: its record, and voxels a class
    pwsseg diff     A B [--case C]       what differs between two layers, a class at a time
    pwsseg verify   [STORE]              every byte against every record; exit code 1 if anything is wrong
    pwsseg export   --layer L --out DIR  labels as NIfTI, in each scan's own geometry
    pwsseg report   [STORE] --out FILE   one page of HTML; --tables: the paper's Tables 4 to 6
    pwsseg review   [STORE] [--out DIR]  cases worth a person's minute, and the slice to look at

The store is `--store S`, else the variable PWSSEG_STORE, else ./pwsseg-store. `--json` prints the same for
scripts. Heavy libraries are imported by the command that needs them, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pwsseg.cli import contents, differences, files, integrity, pages
from pwsseg.cli.command import Commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. What goes wrong for the user is one sentence on stderr and code 1."""
    args = parser().parse_args(arguments)
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


def parser() -> argparse.ArgumentParser:
    """The parser of `pwsseg` with all its commands."""
    whole = argparse.ArgumentParser(
        prog="pwsseg", description="Look at a store of CT scans and label layers."
    )
    commands = Commands(whole)
    for module in (contents, differences, integrity, files, pages):
        module.add_to(commands)
    return whole

"""`pwsseg`: looking at a store, and giving up what is no longer wanted. Jobs write, this reads.

    pwsseg cases    [STORE]              the scans, what is annotated in them, the layers that have them
    pwsseg layers   [STORE]              the graph of layers and models; --table for one line a layer
    pwsseg models   [STORE]              every model and version
    pwsseg show     LAYER                one layer: its record, and voxels a class; --model for a model
    pwsseg log      CASE                 the history of one scan across layers
    pwsseg diff     A B [--case C]       what differs between two layers, and the cases that changed most
    pwsseg export   --layer L --out DIR  labels as NIfTI, in each scan's own geometry
    pwsseg provenance LAYER --case C --out FILE   where each voxel of a fused layer comes from, as NIfTI
    pwsseg report   [STORE] --out FILE   one page of HTML; --tables: the paper's Tables 4 to 6
    pwsseg review   [STORE] [--out DIR]  cases worth a person's minute, and the slice to look at
    pwsseg verify   [STORE]              every byte against every record; exit code 1 if anything is wrong
    pwsseg retire   LAYER                give a layer up, if nothing kept depends on it; --undo takes it back
    pwsseg gc       [STORE]              delete what is retired

The store is `--store S`, else the variable PWSSEG_STORE, else ./pwsseg-store. `--json` prints the same for
scripts. Only `retire`, `gc` and `verify --repair` change a store: they remove, and make or alter no label.
Heavy libraries are imported by the command that needs them, so `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pwsseg.cli import contents, differences, files, integrity, lineage, pages, planning, retention, viewing
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
    for module in (contents, lineage, differences, files, pages, integrity, retention, planning, viewing):
        module.add_to(commands)
    return whole

"""Labels out of a store, as files for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.cli.command import Commands, answer, store_of


def add_to(commands: Commands) -> None:
    """Add `export`."""
    parser = commands.add(export)
    parser.add_argument("--layer", required=True, metavar="L", help="os1 for its newest version, or os1.v1")
    parser.add_argument("--case", nargs="+", metavar="C", help="only these cases")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the files, made if there is none"
    )


def export(args: argparse.Namespace) -> int:
    """Write labels as NIfTI, DIR/<case>.nii.gz, voxel for voxel on the scan's grid."""
    from pwsseg.formats.nifti import write_labels
    from pwsseg.formats.volume import Volume
    from pwsseg.values import StoreError

    layer = store_of(args).layer(args.layer)
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
    return answer(args, {"layer": layer.id, "files": [str(p) for p in paths]}, text)

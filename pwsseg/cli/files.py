"""Labels out of a store, as files for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import table


def add_to(commands: Commands) -> None:
    """Add `export` and `provenance`."""
    parser = commands.add(export)
    parser.add_argument("--layer", required=True, metavar="L", help="os1 for its newest version, or os1.v1")
    parser.add_argument("--case", nargs="+", metavar="C", help="only these cases")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the files, made if there is none"
    )
    parser = commands.add(provenance)
    parser.add_argument("layer", metavar="LAYER", help="a layer that was fused, such as os2-targets")
    parser.add_argument("--case", required=True, metavar="C", help="as `pwsseg cases` lists it")
    parser.add_argument(
        "--out", metavar="FILE", help="write it as NIfTI, such as C.nii.gz: 0 unknown, 1 annotated, 2 pseudo"
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


def provenance(args: argparse.Namespace) -> int:
    """Recompute for each voxel of a fused layer whether it is annotated, a pseudo label or unknown."""
    from pwsseg.arrays.fusion import Provenance
    from pwsseg.formats.nifti import write_labels
    from pwsseg.formats.volume import Volume
    from pwsseg.pipelines.provenance import provenance_of

    store = store_of(args)
    layer = store.layer(args.layer)
    sources = provenance_of(store, layer, args.case)
    geometry = layer.entry(args.case).geometry
    if args.out:
        write_labels(Path(args.out), Volume(sources, geometry))
    voxels = {source.name.lower(): int((sources == source).sum()) for source in Provenance}
    lines = [[name, str(n), f"{n * geometry.voxel_ml:.1f}"] for name, n in voxels.items()]
    text = f"{layer.id}, {args.case}\n{table(['voxels are', 'voxels', 'ml'], lines)}"
    text += f"{args.out}\n" if args.out else ""
    return answer(args, {"layer": layer.id, "case": args.case, "voxels": voxels, "file": args.out}, text)

"""How long the commands take on a store of many scans: 400, then 4000, with six layers each.

python benchmarks/scale.py [--scans 400 4000] [--keep DIR]

The scans are 8 x 8 x 8 voxels, so what is timed is the store's own work: listing, records, manifests, opening
and decoding. Every case differs between os1.v1 and ots1.v1, one in ten between ots1.v1 and ots2.v1. A command
runs as people run it, in a process of its own, so with Python's start: once `cold`, after the kernel was
asked to forget the store's files, then `warm`, the best of three. `cpu` is the processors' time of that best
run, which a busy machine changes least; peaks are of the resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.store import AnnotationPins, CaseRecord, Layer, Pin, PredictionPins, ScanRecord, Source, Store  # noqa: E402
from pwsseg.store.digests import array_digest  # noqa: E402
from pwsseg.store.documents import ARRAY, group_bytes, image_metadata, labels_metadata  # noqa: E402
from pwsseg.store.layer import case_path  # noqa: E402
from pwsseg.store.layout import Purpose, encode  # noqa: E402
from pwsseg.store.scan import scan_path  # noqa: E402
from pwsseg.values import FLARE23, Geometry  # noqa: E402

AXIAL = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
GEOMETRY = Geometry(shape=(8, 8, 8), spacing=(2.5, 0.8, 0.8), origin=(0.0, 0.0, 0.0), direction=AXIAL)
CLASSES = tuple(FLARE23.ids)
MADE = ("annotation", "os1", "os2", "ots1", "ots2")
COMMANDS = {
    "cases": ["cases"],
    "layers": ["layers"],
    "show": ["show", "ots2"],
    "diff": ["diff", "os1", "ots1"],
    "diff, a tenth": ["diff", "ots1", "ots2"],
    "log": ["log", "case-0007"],
}


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    cpu: float
    peak_mb: float


@cache
def volume(variant: int) -> NDArray[np.uint8]:
    """Labels of all classes, another arrangement for each variant."""
    return np.random.default_rng(variant).integers(0, len(CLASSES) + 1, GEOMETRY.shape).astype(np.uint8)


@cache
def encoded(variant: int, purpose: Purpose) -> dict[str, bytes]:
    """The objects of a volume, packed once, since the packing is not what is measured."""
    array = volume(variant)
    return encode(array if purpose == "labels" else array.astype(np.int16), purpose)


@cache
def digest(variant: int, purpose: Purpose) -> str:
    """The digest of a volume's voxels."""
    return array_digest(volume(variant) if purpose == "labels" else volume(variant).astype(np.int16))


@cache
def counts(variant: int) -> dict[str, int]:
    """Voxels a class."""
    return {str(i): int((volume(variant) == i).sum()) for i in CLASSES}


def put(store: Store, path: str, record: ScanRecord | CaseRecord, *, variant: int) -> None:
    """One volume, as the store writes it, without packing it anew."""
    objects = encoded(variant, "scan" if isinstance(record, ScanRecord) else "labels")
    for key, data in objects.items():
        store.objects.write(f"{path}/{ARRAY}/{key}", data)
    if isinstance(record, ScanRecord):
        ome = image_metadata(record.case, GEOMETRY)
    else:
        ome = labels_metadata(record, FLARE23)
    store.objects.write(
        f"{path}/zarr.json", group_bytes(record, ome=ome, arrays={ARRAY: objects["zarr.json"]})
    )


def fill(store: Store, cases: Sequence[str]) -> Run:
    """Scans and six published layers; what publishing the last one took."""
    for case in cases:
        put(store, scan_path(case), scan_record(case), variant=0)
    parents: list[Layer] = []
    for number, name in enumerate((*MADE, "ots2")):
        draft = store.draft(pins(name, parents, code=str(number)))
        for i, case in enumerate(cases):
            variant = 3 if number > 3 and i % 10 else number
            put(store, case_path(draft.id, case), case_record(case, variant), variant=variant)
        began, worked = time.perf_counter(), time.process_time()
        parents.append(draft.publish(cases))
        last = Run(time.perf_counter() - began, time.process_time() - worked, 0.0)
    return last


def scan_record(case: str) -> ScanRecord:
    """The record of a made-up scan."""
    source = Source(format="nifti", name=f"{case}_0000.nii.gz", digest="5" * 64)
    return ScanRecord(
        type="scan", case=case, split="training", geometry=GEOMETRY, source=source, digest=digest(0, "scan")
    )


def case_record(case: str, variant: int) -> CaseRecord:
    """The record of one case of a layer."""
    return CaseRecord(
        type="case",
        case=case,
        geometry=GEOMETRY,
        scan=digest(0, "scan"),
        annotated_classes=CLASSES,
        voxels=counts(variant),
        seconds={"predict": 1.0},
        measures={},
        notes=(),
        digest=digest(variant, "labels"),
    )


def pins(name: str, parents: Sequence[Layer], *, code: str) -> AnnotationPins | PredictionPins:
    """The pins of a layer that was made from the one before and the annotation."""
    made = tuple(dict.fromkeys(layer.pin for layer in (*parents[:1], *parents[-1:])))
    if not parents:
        return AnnotationPins(
            kind="annotation",
            name=name,
            classes=CLASSES,
            parents=(),
            model=None,
            settings={},
            rules=(),
            code=code,
        )
    return PredictionPins(
        kind="prediction",
        name=name,
        classes=CLASSES,
        parents=made,
        model=Pin(id=f"{name}.v1", digest="7" * 64),
        settings={},
        rules=(),
        code=code,
    )


def forget(folder: Path) -> None:
    """Ask the kernel to drop the files' pages, so that the next reader goes to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


MEASURED = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))
sys.exit(code)
"""
"""Runs a command from a process that is small itself: a peak counts what the process was forked from."""


def run(command: Sequence[str], store: Path) -> Run:
    """One call of `pwsseg`; RuntimeError with what it said when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PWSSEG_STORE": str(store)}
    whole = [sys.executable, "-c", MEASURED, sys.executable, "-m", "pwsseg.cli", *command]
    done = subprocess.run(whole, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pwsseg {' '.join(command)} failed")
    return Run(*json.loads(done.stdout))


def measure(folder: Path, scans: int) -> dict[str, Run]:
    """Make the store, print its table, and give the warm runs by command."""
    cases = [f"case-{i:04d}" for i in range(scans)]
    began = time.perf_counter()
    published = fill(Store.create(folder), cases)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    found = {"publish": published._replace(peak_mb=peak)}
    print(f"\n{scans} scans, 6 layers, made in {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{'':16}{'cold s':>9}{'warm s':>9}{'cpu s':>9}{'peak MB':>9}")
    print(line("publish", None, found["publish"]), flush=True)
    for name, command in COMMANDS.items():
        forget(folder)
        cold = run(command, folder)
        found[name] = min(run(command, folder) for _ in range(3))
        print(line(name, cold, found[name]), flush=True)
    return found


def line(name: str, cold: Run | None, warm: Run) -> str:
    """A line of the table."""
    first = "-" if cold is None else f"{cold.seconds:.2f}"
    return f"{name:16}{first:>9}{warm.seconds:9.2f}{warm.cpu:9.2f}{warm.peak_mb:9.0f}"


def main() -> None:
    """Print a table for each size and the line of figures of the largest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", nargs="+", type=int, default=[400, 4000], metavar="N")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the stores here and leave them")
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        found = [measure(folder / f"scans-{n}", n) for n in args.scans]
    small, large = found[0], found[-1]
    figures = {
        f"seconds_{name}": large[name].seconds for name in ("cases", "layers", "show", "diff", "publish")
    }
    growth = max(large[n].seconds / small[n].seconds for n in COMMANDS)
    memory = max(large[n].peak_mb / small[n].peak_mb for n in large)
    figures |= {"growth": growth, "memory_growth": memory}
    print(json.dumps({key: round(value, 2) for key, value in figures.items()}))


if __name__ == "__main__":
    main()

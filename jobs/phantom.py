"""Make a corpus of made-up abdomens with known truth, as NIfTI in the FLARE layout.

python jobs/phantom.py --out demo/corpus
python jobs/phantom.py --out demo/corpus --seed 1 --unannotated 20 --workers 8

OUT/imagesTr/CASE_0000.nii.gz, OUT/labelsTr/CASE.nii.gz (annotated classes only), OUT/imagesVal and
OUT/labelsVal (full truth), and OUT/annotated.csv, which states the annotated classes of every case that has
a label file. The same seed and counts give the same voxels again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

from pwsseg.arrays.phantom import CorpusPlan, PhantomCase, corpus
from pwsseg.formats.nifti import write_labels, write_scan
from pwsseg.formats.volume import Volume
from pwsseg.pipelines.job import run_job
from pwsseg.pipelines.progress import Progress, say
from pwsseg.values import InputError

SUFFIX = {"training": "Tr", "validation": "Val"}


def scan_path(root: Path, case: PhantomCase) -> Path:
    """Where FLARE keeps the scan."""
    return root / f"images{SUFFIX[case.split]}" / f"{case.case}_0000.nii.gz"


def labels_path(root: Path, case: PhantomCase) -> Path | None:
    """Where FLARE keeps the labels; None for a case that nobody annotated."""
    if not case.annotated_classes:
        return None
    return root / f"labels{SUFFIX[case.split]}" / f"{case.case}.nii.gz"


def write_case(root: Path, case: PhantomCase) -> str:
    """Make one case and write its files."""
    phantom = case.make()
    write_scan(scan_path(root, case), Volume(phantom.hu, phantom.geometry))
    if labels := labels_path(root, case):
        write_labels(labels, Volume(case.annotated(phantom), phantom.geometry))
    return case.case


def write_annotated(path: Path, cases: Sequence[PhantomCase]) -> None:
    """The table of annotated classes, in one write."""
    rows = [
        f"{c.case},{' '.join(map(str, sorted(c.annotated_classes)))}" for c in cases if c.annotated_classes
    ]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text("\n".join(["case,classes", *rows]) + "\n", encoding="utf-8")
    unfinished.replace(path)


def check_empty_of_others(root: Path, cases: Sequence[PhantomCase]) -> None:
    """Refuse a folder that holds scans or labels of another corpus: they would be ingested as this one's."""
    ours = {scan_path(root, c) for c in cases} | {labels_path(root, c) for c in cases}
    found = (
        p for kind in ("images", "labels") for end in SUFFIX.values() for p in root.glob(f"{kind}{end}/*")
    )
    strangers = sorted(p for p in found if p not in ours)
    if strangers:
        raise InputError(
            f"{root} already holds {len(strangers)} files of another corpus (as {strangers[0].name}); "
            "expected an empty folder or the same corpus; give another --out or delete the folder"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the corpus")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other people (default: 0)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    for kind in fields(CorpusPlan):
        option = f"--{kind.name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=kind.default, help=f"cases (default: {kind.default})")
    given = parser.parse_args()
    plan = CorpusPlan(**{kind.name: getattr(given, kind.name) for kind in fields(CorpusPlan)})
    cases = corpus(given.seed, plan)
    check_empty_of_others(given.out, cases)
    write_corpus(given.out, cases, workers=given.workers)
    say(f"{len(cases)} phantoms in {given.out}, annotated classes in {given.out / 'annotated.csv'}")
    return 0


def write_corpus(root: Path, cases: Sequence[PhantomCase], *, workers: int) -> None:
    """Every case's files, then the table, so that a table stands only beside a whole corpus."""
    for path in (p for c in cases for p in (scan_path(root, c), labels_path(root, c)) if p):
        path.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress("phantoms", len(cases), unit="cases")
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(write_case, root, case) for case in cases]):
            done.result()
            progress.step()
    progress.close()
    write_annotated(root / "annotated.csv", cases)


if __name__ == "__main__":
    run_job(main)

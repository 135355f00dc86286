"""What a folder holds, as each layout tells it, and how label files are told from their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pwsseg.formats.nifti import ENDINGS
from pwsseg.values import InputError
from pwsseg.values.ids import check_case_id

Split = Literal["training", "validation"]
Named = tuple[str, Path]
"""A name that should become a case id, and its file or DICOM folder."""

CT_CHANNEL = "_0000"


@dataclass(frozen=True)
class SourceCase:
    """Where one case comes from: `scan` is a NIfTI file or a folder with one DICOM series.

    `meanings` says what a value of the label file is here; None where its values are our ids already.
    """

    case: str
    scan: Path
    labels: Path | None
    split: Split
    meanings: Mapping[int, int] | None = None


class Fault(NamedTuple):
    """A case (or the file, where it has no good case id) that can't go in, and why."""

    case: str
    message: str


class Found(NamedTuple):
    """What a folder holds: the cases that can be read, by id, and those that can't be told apart.

    `stated`: the classes that the data set's dataset.json says are annotated in every labelled case.
    """

    cases: list[SourceCase]
    faults: list[Fault]
    stated: frozenset[int] | None = None


@dataclass(frozen=True)
class Part:
    """The scans of one folder, and the label files that may belong to them."""

    folder: Path
    scans: list[Named]
    labels: list[Named]
    split: Split


def nifti_files(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, sorted; without hidden ones, which macOS leaves in archives."""
    files = (f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith("."))
    return [f for f in files if f.name.endswith(ENDINGS)]


def by_stem(folder: Path | None) -> list[Named]:
    """The NIfTI files of a folder, each named without its ending; nothing when there is no folder."""
    return [(stem(f), f) for f in nifti_files(folder)] if folder and folder.is_dir() else []


def stem(path: Path) -> str:
    """The name of a NIfTI file without its ending."""
    return next((path.name.removesuffix(e) for e in ENDINGS if path.name.endswith(e)), path.name)


def with_case_ids(entries: Iterable[Named], faults: list[Fault]) -> Iterator[Named]:
    """The entries whose name is a case id; the others become faults."""
    for case, path in entries:
        try:
            yield check_case_id(case), path
        except InputError as error:
            faults.append(Fault(path.name, f"{path}: {error}"))


def one_a_case(entries: Iterable[Named], faults: list[Fault]) -> dict[str, Path]:
    """Label files by case; a case's second file (.nii beside .nii.gz) is a fault."""
    found: dict[str, Path] = {}
    for case, path in with_case_ids(entries, faults):
        if case in found:
            faults.append(
                Fault(case, f"{found[case]} and {path} both label {case}, expected one; remove one")
            )
        found.setdefault(case, path)
    return found

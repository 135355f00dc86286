"""Where the scans of a folder are, and which label file belongs to which.

ROOT/imagesTr/NAME_0000.nii.gz   ROOT/labelsTr/NAME.nii.gz      FLARE; imagesVal, labelsVal are held out
IMAGES/NAME_0000.nii.gz or NAME.nii.gz, IMAGES/NAME/*.dcm       LABELS/NAME.nii.gz
IMAGES/*.dcm                                                    one DICOM series, named as its folder
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pwsseg.formats.dicom import slice_files
from pwsseg.formats.nifti import ENDINGS
from pwsseg.values import InputError
from pwsseg.values.ids import check_case_id

Split = Literal["training", "validation"]

CT_CHANNEL = "_0000"


@dataclass(frozen=True)
class SourceCase:
    """Where one case comes from: `scan` is a NIfTI file or a folder with one DICOM series."""

    case: str
    scan: Path
    labels: Path | None
    split: Split


class Fault(NamedTuple):
    """A case (or the file, where it has no good case id) that can't go in, and why."""

    case: str
    message: str


class Found(NamedTuple):
    """What a folder holds: the cases that can be read, by id, and those that can't be told apart."""

    cases: list[SourceCase]
    faults: list[Fault]


def find_cases(images: Path, labels: Path | None = None, *, split: Split = "training") -> Found:
    """Every case under `images`, with its label file where `labels` (or FLARE's folder) has one.

    A FLARE root gives its imagesTr as `split` and its imagesVal as validation. Faults: a bad case id, an id
    that two files claim, a label file without scan, an empty sub-folder, a DICOM file that lies loose beside
    other cases. InputError when a folder is missing or holds no scan at all.
    """
    faults: list[Fault] = []
    claims: dict[str, list[SourceCase]] = defaultdict(list)
    for scans, truth, part in _parts(images, labels, split):
        found = _label_files(truth, faults) if truth else {}
        entries = list(_named(_scans(scans, faults), faults))
        for case, scan in entries:
            claims[case].append(SourceCase(case, scan, found.get(case), part))
        named = {case for case, _ in entries}
        faults += [_without_scan(case, path, scans) for case, path in found.items() if case not in named]
    cases = [claimed[0] for _, claimed in sorted(claims.items()) if len(claimed) == 1]
    faults += [_claimed_twice(claimed) for claimed in claims.values() if len(claimed) > 1]
    if not cases and not faults:
        raise InputError(
            f"{images} holds no scan, expected NIfTI files (.nii, .nii.gz) or DICOM folders; check it"
        )
    return Found(cases, sorted(faults))


def _parts(images: Path, labels: Path | None, split: Split) -> Iterator[tuple[Path, Path | None, Split]]:
    """The folders to look into: scans, labels, split."""
    for folder in (images, labels):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is no folder; give the folder that holds the files")
    training, validation = images / "imagesTr", images / "imagesVal"
    if not (training.is_dir() or validation.is_dir()):
        yield images, labels, split
        return
    if training.is_dir():
        yield training, labels or _if_there(images / "labelsTr"), split
    if validation.is_dir():
        yield validation, _if_there(images / "labelsVal"), "validation"


def _if_there(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


def _scans(folder: Path, faults: list[Fault]) -> list[tuple[str, Path]]:
    """Case ids, still unchecked, and scans of a folder."""
    niftis = [(_case_of(f), f) for f in _nifti_files(folder)]
    folders = [d for d in sorted(folder.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    filled = [d for d in folders if slice_files(d)]
    faults += [
        Fault(d.name, f"{d} holds no DICOM file, expected one series in it; fill or delete the folder")
        for d in folders
        if d not in filled
    ]
    loose = [f for f in slice_files(folder) if not f.name.endswith(ENDINGS) and _looks_dicom(f)]
    if loose and not niftis and not folders:
        return [(folder.resolve().name, folder)]
    faults += [
        Fault(f.name, f"{f} lies loose beside other scans; put each DICOM series into a folder of its own")
        for f in loose
    ]
    return niftis + [(d.name, d) for d in filled]


def _nifti_files(folder: Path) -> list[Path]:
    files = (f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith("."))
    return [f for f in files if f.name.endswith(ENDINGS)]


def _label_files(folder: Path, faults: list[Fault]) -> dict[str, Path]:
    """Label files by case; the second file of a case (.nii beside .nii.gz) is a fault."""
    found: dict[str, Path] = {}
    for case, path in _named([(_stem(f), f) for f in _nifti_files(folder)], faults):
        if case in found:
            faults.append(
                Fault(case, f"{found[case]} and {path} both label {case}, expected one; remove one")
            )
        found.setdefault(case, path)
    return found


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(e) for e in ENDINGS if path.name.endswith(e))


def _case_of(path: Path) -> str:
    return _stem(path).removesuffix(CT_CHANNEL)


def _looks_dicom(path: Path) -> bool:
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _named(entries: list[tuple[str, Path]], faults: list[Fault]) -> Iterator[tuple[str, Path]]:
    """The entries whose case id is one; the others become faults."""
    for case, path in entries:
        try:
            yield check_case_id(case), path
        except InputError as error:
            faults.append(Fault(path.name, f"{path}: {error}"))


def _without_scan(case: str, path: Path, scans: Path) -> Fault:
    return Fault(
        case, f"{path} has no scan {case}{CT_CHANNEL}.nii.gz in {scans}; add the scan or take it away"
    )


def _claimed_twice(claimed: list[SourceCase]) -> Fault:
    case = claimed[0].case
    paths = " and ".join(str(c.scan) for c in claimed)
    return Fault(
        case, f"{paths} both claim the case id {case}, expected one scan an id; rename or remove one"
    )

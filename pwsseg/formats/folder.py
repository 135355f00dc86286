"""A plain folder of scans.

IMAGES/NAME_0000.nii.gz or NAME.nii.gz, IMAGES/NAME/*.dcm       LABELS/NAME.nii.gz
IMAGES/*.dcm                                                    one DICOM series, named as its folder
"""

from __future__ import annotations

from pathlib import Path

from pwsseg.formats.dicom import slice_files
from pwsseg.formats.found import CT_CHANNEL, Fault, Named, Part, Split, by_stem, nifti_files, stem
from pwsseg.formats.nifti import ENDINGS


def folder_part(scans: Path, labels: Path | None, *, split: Split, faults: list[Fault]) -> Part:
    """The scans of one folder. Faults: an empty sub-folder, a DICOM file that lies loose beside others."""
    return Part(scans, _scans(scans, faults), by_stem(labels), split)


def _scans(folder: Path, faults: list[Fault]) -> list[Named]:
    niftis = [(stem(f).removesuffix(CT_CHANNEL), f) for f in nifti_files(folder)]
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


def _looks_dicom(path: Path) -> bool:
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"

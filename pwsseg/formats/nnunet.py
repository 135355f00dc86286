"""nnU-Net's raw data: imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz, imagesTs, dataset.json."""

from __future__ import annotations

import re
from pathlib import Path

from pwsseg.formats.found import CT_CHANNEL, Fault, Named, Part, Split, by_stem, nifti_files, stem

CHANNEL = re.compile(r"(.+)_([0-9]{4})")


def is_nnunet(root: Path) -> bool:
    """Whether every scan in imagesTr carries its channel in its name."""
    names = [CHANNEL.fullmatch(stem(f)) for f in nifti_files(root / "imagesTr")]
    return bool(names) and all(m and m[2] == CT_CHANNEL[1:] for m in names)


def nnunet_parts(root: Path, labels: Path | None, *, split: Split, faults: list[Fault]) -> list[Part]:
    """Take imagesTr as `split`; imagesTs too, or held out where labelsTs has labels of it."""
    parts = [Part(root / "imagesTr", _scans(root / "imagesTr", faults), by_stem(labels), split)]
    tests, truth = root / "imagesTs", root / "labelsTs"
    if tests.is_dir():
        held_out: Split = "validation" if truth.is_dir() else split
        parts.append(Part(tests, _scans(tests, faults), by_stem(truth), held_out))
    validation = root / "imagesVal"  # FLARE's, whose other folders are nnU-Net's
    if validation.is_dir():
        scans = _scans(validation, faults)
        parts.append(Part(validation, scans, by_stem(root / "labelsVal"), "validation"))
    return parts


def _scans(folder: Path, faults: list[Fault]) -> list[Named]:
    found = []
    for path in nifti_files(folder):
        match = CHANNEL.fullmatch(stem(path))
        if match and match[2] == CT_CHANNEL[1:]:
            found.append((match[1], path))
        elif match:
            message = f"{path} is a further channel, expected only NAME{CT_CHANNEL}, a CT; take it away"
            faults.append(Fault(path.name, message))
        else:
            message = f"{path} does not name its channel, expected NAME{CT_CHANNEL}; rename it"
            faults.append(Fault(path.name, message))
    return found

"""The layout of the FLARE challenges, where imagesVal and labelsVal are held out.

ROOT/imagesTr/NAME_0000.nii.gz   ROOT/labelsTr/NAME.nii.gz
ROOT/imagesVal/NAME_0000.nii.gz  ROOT/labelsVal/NAME.nii.gz
"""

from __future__ import annotations

from pathlib import Path

from pwsseg.formats.folder import folder_part
from pwsseg.formats.found import Fault, Part, Split


def is_flare(root: Path) -> bool:
    """Whether `root` has one of FLARE's folders."""
    return (root / "imagesTr").is_dir() or (root / "imagesVal").is_dir()


def flare_parts(root: Path, labels: Path | None, *, split: Split, faults: list[Fault]) -> list[Part]:
    """Take imagesTr as `split`, with `labels` or labelsTr, and imagesVal as validation."""
    training, validation = root / "imagesTr", root / "imagesVal"
    parts = []
    if training.is_dir():
        parts.append(folder_part(training, labels or root / "labelsTr", split=split, faults=faults))
    if validation.is_dir():
        parts.append(folder_part(validation, root / "labelsVal", split="validation", faults=faults))
    return parts

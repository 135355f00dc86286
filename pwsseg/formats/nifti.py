"""NIfTI files, .nii and .nii.gz."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pwsseg.formats.volume import Volume, itk_direction


def write_scan(path: Path, volume: Volume) -> None:
    """Write int16 HU (z, y, x) with its geometry; the file appears whole or not at all."""
    _write(path, Volume(volume.array.astype(np.int16), volume.geometry))


def write_labels(path: Path, volume: Volume) -> None:
    """Write uint8 labels (z, y, x) with their geometry; the file appears whole or not at all."""
    _write(path, Volume(volume.array.astype(np.uint8), volume.geometry))


def _write(path: Path, volume: Volume) -> None:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.geometry.spacing[::-1])
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection(itk_direction(volume.geometry))
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else ".nii"
    handle, temporary = tempfile.mkstemp(suffix=ending, prefix=".writing-", dir=path.parent)
    os.close(handle)
    try:
        sitk.WriteImage(image, temporary)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)

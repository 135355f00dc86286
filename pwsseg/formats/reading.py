"""A scan from wherever it lies: a NIfTI file or a folder with one DICOM series."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pwsseg.formats.dicom import read_series, slice_files
from pwsseg.formats.nifti import read_scan
from pwsseg.formats.volume import Volume
from pwsseg.values import InputError


def read_volume(path: Path, *, any_range: bool = False) -> Volume:
    """The CT at `path` as int16 HU (z, y, x); a folder is read as a DICOM series. Raises InputError."""
    if path.is_dir():
        return read_series(path, any_range=any_range)
    return read_scan(path, any_range=any_range)


def stored_bytes(path: Path) -> int:
    """How much a file, or a DICOM folder's slices, take on disk; 0 for what is not there."""
    files = slice_files(path) if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.exists())


def source_digest(path: Path) -> str:
    """sha256 of a file; of a DICOM folder that of its slices' sorted digests, so names don't matter."""
    try:
        if not path.is_dir():
            return _sha256(path).hex()
        whole = hashlib.sha256()
        for digest in sorted(_sha256(f) for f in slice_files(path)):
            whole.update(digest)
        return whole.hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); check the path and its rights") from error


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()

"""The header of a NIfTI-1 file, for what SimpleITK does not tell.

SimpleITK reads a truncated or damaged .nii.gz without an error and fills up with zeros, turns a spacing of
zero into 1, and passes over a sheared sform where a qform stands beside it. So the header is read here too,
and compared with what the file holds. Field offsets: https://nifti.nimh.nih.gov/nifti-1
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.values import InputError

HEADER_BYTES = 348
SROW = slice(280, 328)
SCANNER_CODE = 1
FARTHEST_MM = 100_000.0
"""No scanner places a patient farther from its origin."""

NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
NOT_NUMBERS = {32: "complex numbers", 1792: "complex numbers", 128: "RGB colours", 2304: "RGBA colours"}


class Header(NamedTuple):
    """What is needed to read the voxels: `dtype` with its byte order, `offset` of the first in bytes."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    offset: int
    slope: float
    intercept: float

    @property
    def bytes(self) -> int:
        """How many bytes the voxels take."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def scaled(self) -> bool:
        """Whether stored numbers have to be scaled; a slope of 0 means not (NIfTI-1)."""
        return self.slope not in (0.0, 1.0) or (self.slope == 1.0 and self.intercept != 0.0)


def parse_header(raw: bytes, path: Path) -> Header:
    """The header in the first 348 bytes of a .nii; InputError when it is no 3-D scalar volume in space."""
    order = _byte_order(raw, path)
    (code,) = struct.unpack_from(f"{order}h", raw, 70)
    if code not in NUMBERS:
        raise InputError(
            f"{path} holds {NOT_NUMBERS.get(code, f'voxels of NIfTI data type {code}')}, expected one number "
            "a voxel; export the scan as a plain CT volume"
        )
    shape = _shape(struct.unpack_from(f"{order}8h", raw, 40), path)
    _check_place(raw, order, path)
    offset, slope, intercept = struct.unpack_from(f"{order}3f", raw, 108)
    if not (math.isfinite(offset) and offset >= HEADER_BYTES):
        raise InputError(
            f"{path} says that its voxels start at byte {offset}, inside the header; export it again"
        )
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        slope, intercept = 1.0, 0.0
    return Header(shape, np.dtype(order + NUMBERS[code]), int(offset), slope, intercept)


def _byte_order(raw: bytes, path: Path) -> str:
    if len(raw) < HEADER_BYTES:
        raise InputError(
            f"{path} ends after {len(raw)} bytes, inside its {HEADER_BYTES}-byte NIfTI header; copy it again"
        )
    for order in "<>":
        if struct.unpack_from(f"{order}i", raw)[0] == HEADER_BYTES and raw[344:347] == b"n+1":
            return order
    if raw[4:7] == b"n+2":
        raise InputError(f"{path} is a NIfTI-2 file, expected NIfTI-1; convert it")
    raise InputError(f"{path} has no NIfTI header, expected a .nii or .nii.gz file; convert it")


def _shape(dim: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """The shape (z, y, x); trailing axes of length 1 are no axes."""
    axes = list(dim[1 : dim[0] + 1]) if 1 <= dim[0] <= 7 else []
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if len(axes) != 3:
        raise InputError(
            f"{path} has {len(axes)} axes {tuple(axes)}, expected a 3-D volume; split it into single volumes"
        )
    if min(axes) < 1:
        raise InputError(
            f"{path} has the size {tuple(axes)}, expected at least one voxel an axis; export it again"
        )
    x, y, z = axes
    return z, y, x


def _check_place(raw: bytes, order: str, path: Path) -> None:
    """Refuse a header that does not place the voxels in space, or contradicts itself."""
    spacing = struct.unpack_from(f"{order}3f", raw, 80)
    if not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError(
            f"{path} has the spacing {_in_mm(spacing)} (x, y, z), expected positive numbers; "
            "correct its header"
        )
    qform, sform = struct.unpack_from(f"{order}2h", raw, 252)
    if qform <= 0 and sform <= 0:
        raise InputError(
            f"{path} does not say how it lies in the patient (qform_code and sform_code are 0), so left and "
            "right can't be told apart; export it with its orientation"
        )
    _check_finite(raw, order, path, qform=qform > 0, sform=sform > 0)
    # ITK goes by the sform in these cases (itkNiftiImageIO.cxx), else by the qform, which can't be sheared.
    if sform == SCANNER_CODE or qform <= 0:
        steps = np.array(struct.unpack_from(f"{order}12f", raw, SROW.start)).reshape(3, 4)[:, :3]
        _check_steps(steps, spacing, path)


def _check_finite(raw: bytes, order: str, path: Path, *, qform: bool, sform: bool) -> None:
    """Refuse what ITK would decompose for ever: a place with NaN in it, or numbers whose squares overflow."""
    quaternion, offset = (
        struct.unpack_from(f"{order}3f", raw, 256),
        struct.unpack_from(f"{order}3f", raw, 268),
    )
    rows = struct.unpack_from(f"{order}12f", raw, SROW.start)
    used = (*quaternion, *offset) * qform + rows * sform
    strange = [n for n in used if not abs(n) <= FARTHEST_MM]
    if strange:
        raise InputError(
            f"{path} has {strange[0]:g} in its orientation or origin (qform or sform), expected a place "
            f"within {FARTHEST_MM / 1000:g} m; correct its header"
        )


def _check_steps(steps: NDArray[np.float64], spacing: tuple[float, ...], path: Path) -> None:
    lengths = np.sqrt((steps**2).sum(0))
    if not np.allclose(lengths, spacing, rtol=1e-2):
        raise InputError(
            f"{path} contradicts itself: its sform steps {_in_mm(lengths)}, its pixdim {_in_mm(spacing)}; "
            "correct its header"
        )
    cosines = (steps.T @ steps) / np.outer(lengths, lengths) - np.eye(3)
    if np.abs(cosines).max() > 1e-3:
        raise InputError(
            f"{path} is sheared: two of its axes meet at {np.degrees(np.arccos(np.abs(cosines).max())):.2f} "
            "degrees, expected right angles; resample it to a rectangular grid (gantry tilt correction)"
        )


def _in_mm(numbers: tuple[float, ...] | NDArray[np.float64]) -> str:
    return " x ".join(f"{n:.5g}" for n in numbers) + " mm"


def exact_sform(direction: NDArray[np.float64], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """The sform steps (3, 3), columns x, y, z, from which ITK computes exactly `direction` (LPS) again.

    ITK divides each float32 column by its length. Writing fl32(direction * spacing) loses up to 1e-7 in the
    direction, since the column that `direction` came from had a length a few roundings away from the spacing.
    That length is looked for here among the nearest 1025; where there is none (a direction that never was in
    a NIfTI header, as a DICOM's) the nearest is taken.
    """
    columns = [_exact_column(direction[:, i], spacing[i]) for i in range(3)]
    return np.stack(columns, axis=1) * np.array([[-1], [-1], [1]], dtype=np.float32)


def _exact_column(cosines: NDArray[np.float64], length: float) -> NDArray[np.float32]:
    largest = int(np.abs(cosines).argmax())
    start = np.float32(cosines[largest] * length)
    near = start + np.spacing(start) * np.arange(-512, 513)
    tried = (np.outer(near / cosines[largest], cosines)).astype(np.float32)
    exact = tried.astype(np.float64)
    lengths = np.sqrt(exact[:, 0] ** 2 + exact[:, 1] ** 2 + exact[:, 2] ** 2)
    errors = np.abs(exact / lengths[:, None] - cosines).max(1)
    best: NDArray[np.float32] = tried[np.lexsort((np.abs(np.arange(-512, 513)), errors))[0]]
    return best

"""From stored numbers to int16 HU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwsseg.values import InputError

AIR_HU = -200
"""Every CT holds air or lung well below this; an MR, an 8-bit picture or a label volume doesn't."""


def to_hu(values: NDArray[Any], path: Path, *, any_range: bool) -> NDArray[np.int16]:
    """`values` (any shape, HU) rounded to int16.

    InputError: NaN or infinity; a value outside int16 (no tissue or metal reaches it, so the unit must be
    another, and clipping would hide that); no air, that is nothing below -200 HU, unless `any_range`.
    """
    if values.dtype.kind == "f":
        check_finite(values, path)
        values = np.rint(values)
    low, high = values.min(), values.max()
    limits = np.iinfo(np.int16)
    if low < limits.min or high > limits.max:
        raise InputError(
            f"{path} holds values from {low:.6g} to {high:.6g}, beyond {limits.min}..{limits.max}, so it is "
            "not in HU; export the scan in Hounsfield units"
        )
    if low > AIR_HU and not any_range:
        raise InputError(
            f"{path} holds values from {low:.6g} to {high:.6g}; a CT in HU has air below {AIR_HU}, so this "
            "looks like another modality or unit; if it is a CT in HU all the same, say --any-range"
        )
    return values.astype(np.int16)


def check_finite(values: NDArray[Any], path: Path) -> None:
    """InputError when a value is NaN or infinite."""
    bad = int(values.size - np.isfinite(values).sum())
    if bad:
        raise InputError(
            f"{path} has {bad} voxels that are NaN or infinite, expected numbers; export it again"
        )

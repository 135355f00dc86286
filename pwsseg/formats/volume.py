"""A volume outside the store: an array and where it lies. The one place that knows ITK's order of axes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pwsseg.formats.header import FARTHEST_MM
from pwsseg.values import Geometry, InputError, shown

LEAST_SPACING_MM, MOST_SPACING_MM = 0.01, 100.0
"""No scanner steps finer or coarser: a header that says so has a wrong unit or is damaged, and resampling by
it would take all memory or leave one voxel."""


class Volume(NamedTuple):
    """`array` is (z, y, x): int16 HU of a scan or uint8 labels; `geometry` says where it lies."""

    array: NDArray[Any]
    geometry: Geometry


def geometry_from_itk(
    path: Path,
    *,
    size: Iterable[int],
    spacing: Iterable[float],
    origin: Iterable[float],
    direction: Iterable[float],
) -> Geometry:
    """Geometry of ITK's size and spacing (x, y, z), origin and direction (columns x, y, z), mm, LPS.

    InputError names `path` when that is no grid (spacing not positive, direction not orthonormal), or none
    that a scanner could have.
    """
    # Adding 0 turns ITK's -0.0 into 0.0, so equal grids have equal records.
    matrix = np.asarray(list(direction), dtype=np.float64).reshape(3, 3)[:, ::-1] + 0.0
    try:
        geometry = Geometry.model_validate(
            {
                "shape": tuple(size)[::-1],
                "spacing": tuple(spacing)[::-1],
                "origin": tuple(v + 0.0 for v in origin),
                "direction": tuple(matrix.ravel().tolist()),
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise InputError(
            f"{path}: its header does not place the voxels in space ({where} {first['msg']}, "
            f"found {shown(first['input'])}); write the file again with a correct header"
        ) from error
    _check_place(path, geometry)
    return geometry


def _check_place(path: Path, geometry: Geometry) -> None:
    if not all(LEAST_SPACING_MM <= mm <= MOST_SPACING_MM for mm in geometry.spacing):
        raise InputError(
            f"{path} has voxels of {_numbers(geometry.spacing)} mm (z, y, x), expected {LEAST_SPACING_MM:g} "
            f"to {MOST_SPACING_MM:g} mm, as scanners make them; correct the unit or the spacing in its header"
        )
    far = max(abs(mm) for mm in (*geometry.origin, *geometry.extent_mm))
    if far > FARTHEST_MM:
        raise InputError(
            f"{path} lies at {_numbers(geometry.origin)} mm (x, y, z) and measures "
            f"{_numbers(geometry.extent_mm)} mm (z, y, x), expected nothing beyond {FARTHEST_MM / 1000:g} m; "
            "correct the place in its header"
        )


def _numbers(numbers: Iterable[float]) -> str:
    return " x ".join(f"{n:.5g}" for n in numbers)


def itk_direction(geometry: Geometry) -> tuple[float, ...]:
    """The direction of `geometry` as ITK has it: columns x, y, z."""
    return tuple(geometry.direction_matrix[:, ::-1].ravel().tolist())

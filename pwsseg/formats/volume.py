"""A volume outside the store: an array and where it lies. The one place that knows ITK's order of axes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pwsseg.values import Geometry, InputError


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

    InputError names `path` when that is no grid: spacing not positive, direction not orthonormal.
    """
    # Adding 0 turns ITK's -0.0 into 0.0, so equal grids have equal records.
    matrix = np.asarray(list(direction), dtype=np.float64).reshape(3, 3)[:, ::-1] + 0.0
    try:
        return Geometry.model_validate(
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
            f"found {first['input']}); write the file again with a correct header"
        ) from error


def itk_direction(geometry: Geometry) -> tuple[float, ...]:
    """The direction of `geometry` as ITK has it: columns x, y, z."""
    return tuple(geometry.direction_matrix[:, ::-1].ravel().tolist())

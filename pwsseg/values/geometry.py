"""Where a volume lies in the patient."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from operator import mul
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pwsseg.values.window import Window

Count = Annotated[int, Field(ge=1)]
Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
SKEW, SCALED = 1e-3, 1.01e-3
"""How far a direction's columns may be from orthogonal and from length 1: headers round their numbers."""


class Geometry(BaseModel):
    """The grid of a volume: index-space tuples are (z, y, x), world-space tuples (x, y, z), mm, LPS.

    `direction` is a 3 x 3 matrix, row by row, that maps index axes to world axes: its rows are x, y, z of
    the world, its columns the unit steps along z, y, x of the array. The centre of voxel (0, 0, 0) is
    `origin`; that of voxel i is `origin + direction @ (spacing * i)`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Count, Count, Count]
    spacing: tuple[Millimetres, Millimetres, Millimetres]
    origin: tuple[Finite, Finite, Finite]
    direction: tuple[Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite]

    @model_validator(mode="after")
    def _direction_is_a_rotation(self) -> Self:
        columns = [self.direction[i::3] for i in range(3)]  # four times as fast as by NumPy
        for (i, a), (j, b) in combinations_with_replacement(enumerate(columns), 2):
            off = abs(sum(map(mul, a, b)) - (i == j))
            if not off <= (SCALED if i == j else SKEW):  # so put that NaN is refused, too
                raise ValueError("direction must have orthonormal columns")
        return self

    @property
    def direction_matrix(self) -> NDArray[np.float64]:
        """`direction` as an array (3, 3)."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def voxels(self) -> int:
        """How many voxels the grid has."""
        return math.prod(self.shape)

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel in millilitres."""
        return math.prod(self.spacing) / 1000

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edge lengths (z, y, x) of the box that the voxels fill, in mm."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return z, y, x

    def resampled(self, spacing: tuple[float, float, float]) -> Geometry:
        """The grid that fills the same box with voxels of about `spacing` (z, y, x), mm.

        The box is kept exactly, so the spacing of the result differs from the one asked for by less than
        half a voxel over the whole box.
        """
        z, y, x = (max(1, round(e / s)) for e, s in zip(self.extent_mm, spacing, strict=True))
        return self.reshaped((z, y, x))

    def reshaped(self, shape: tuple[int, int, int]) -> Geometry:
        """The grid that fills the same box with so many voxels along each axis."""
        extent = self.extent_mm
        new = (extent[0] / shape[0], extent[1] / shape[1], extent[2] / shape[2])
        half_step = (np.asarray(new) - np.asarray(self.spacing)) / 2
        origin = np.asarray(self.origin) + self.direction_matrix @ half_step
        return Geometry(
            shape=shape,
            spacing=new,
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=self.direction,
        )

    def cropped(self, window: Window) -> Geometry:
        """The grid of a window's voxels, which stay where they are.

        Raises
        ------
        ValueError
            When the window is empty or reaches beyond the grid.
        """
        if any(a < 0 or a >= b or b > n for a, b, n in zip(*window, self.shape, strict=True)):
            raise ValueError(f"{window} is no part of a grid of {self.shape} voxels")
        origin = np.asarray(self.origin) + self.direction_matrix @ (
            np.asarray(self.spacing) * np.asarray(window.start)
        )
        return Geometry(
            shape=window.shape,
            spacing=self.spacing,
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=self.direction,
        )

    def window_of(self, part: Geometry) -> Window:
        """The window whose box another grid of the same direction fills: what `cropped` was given."""
        spacing = np.asarray(self.spacing)
        offset = self.direction_matrix.T @ (np.asarray(part.origin) - np.asarray(self.origin))
        corner = offset - np.asarray(part.spacing) / 2 + spacing / 2
        low = np.rint(corner / spacing).astype(int)
        high = np.rint((corner + part.extent_mm) / spacing).astype(int)
        return Window((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))

    def same_grid(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same voxels, to `tolerance_mm` at every corner."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self._corners() - other._corners()).max() <= tolerance_mm)

    def _corners(self) -> NDArray[np.float64]:
        last = np.asarray(self.shape) - 1
        indices = np.stack(np.meshgrid(*[(0, n) for n in last], indexing="ij"), -1).reshape(-1, 3)
        steps = self.direction_matrix @ (indices * np.asarray(self.spacing)).T
        corners: NDArray[np.float64] = np.asarray(self.origin) + steps.T
        return corners

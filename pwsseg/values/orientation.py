"""Which way an array's axes run through the patient, and how to turn it the usual way and back."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pwsseg.values.geometry import Geometry

Kind = TypeVar("Kind", bound=np.generic)


class Orientation(NamedTuple):
    """How a scan's own axes become (z, y, x) that run up, back and left, as nearly as axes can.

    Nothing is interpolated: axes are swapped and reversed, so `undo` gives the same voxels back.
    """

    axes: tuple[int, int, int]
    """The scan's axis that becomes z, y and x."""
    reversed: tuple[bool, bool, bool]
    """Whether it then runs the other way."""

    def apply(self, volume: NDArray[Kind]) -> NDArray[Kind]:
        """A volume on the scan's own axes, seen the usual way; a view."""
        return volume.transpose(self.axes)[self._steps]

    def undo(self, volume: NDArray[Kind]) -> NDArray[Kind]:
        """A volume seen the usual way, back on the scan's own axes; a view."""
        back = np.argsort(self.axes)
        return volume[self._steps].transpose(back)

    @property
    def _steps(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(None, None, -1 if r else 1) for r in self.reversed)
        return z, y, x


def orientation_of(geometry: Geometry) -> Orientation:
    """The orientation that brings a scan's axes nearest to up, back and left."""
    toward = geometry.direction_matrix[::-1]  # rows z, y, x of the world; columns the scan's axes
    axes = max(permutations(range(3)), key=lambda p: sum(abs(toward[i, a]) for i, a in enumerate(p)))
    z, y, x = (bool(toward[i, a] < 0) for i, a in enumerate(axes))
    return Orientation((axes[0], axes[1], axes[2]), (z, y, x))


def oriented(geometry: Geometry) -> Geometry:
    """The grid of the same voxels seen the usual way."""
    turn = orientation_of(geometry)
    axes = list(turn.axes)
    signs = np.where(turn.reversed, -1.0, 1.0)
    columns = geometry.direction_matrix[:, axes]
    shape = [geometry.shape[a] for a in axes]
    spacing = [geometry.spacing[a] for a in axes]
    to_first = [(n - 1) * s * r for n, s, r in zip(shape, spacing, turn.reversed, strict=True)]
    origin = np.asarray(geometry.origin) + columns @ to_first
    return Geometry.model_validate(
        {
            "shape": shape,
            "spacing": spacing,
            "origin": origin.tolist(),
            "direction": (columns * signs).ravel().tolist(),
        }
    )

"""Where the patient is in a prepared scan, so that no window is spent on air."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray

from pwsseg.values import Window

STEP = 2
"""Every second voxel along each axis is looked at: enough for a body, an eighth of the work."""
TISSUE = 0.1
"""Tissue is what lies above this share of the way from the lowest intensity to the highest: with scans
clipped to [-325, 325] HU, above -260 HU. Air and lung are clipped to the lowest."""


class Body(NamedTuple):
    """The largest connected region of tissue, coarsely."""

    mask: NDArray[np.bool_]
    """Every STEP-th voxel (z, y, x)."""
    shape: tuple[int, int, int]
    """Of the volume."""

    @property
    def box(self) -> Window:
        """The voxels about it, with a margin of one step."""
        spans = [np.flatnonzero(self.mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
        z, y, x = (max(0, STEP * (int(s[0]) - 1)) for s in spans)
        ends = (STEP * (int(s[-1]) + 2) for s in spans)
        z2, y2, x2 = (min(n, end) for n, end in zip(self.shape, ends, strict=True))
        return Window((z, y, x), (z2, y2, x2))

    def touched(self, windows: Sequence[Window]) -> list[Window]:
        """The windows that hold any of it."""
        return [w for w in windows if self._part(w).any()]

    def _part(self, window: Window) -> NDArray[np.bool_]:
        return self.mask[tuple(slice(-(-s.start // STEP), -(-s.stop // STEP)) for s in window.slices)]


def find_body(volume: NDArray[Any]) -> Body:
    """The body in a prepared scan (z, y, x); everything where no tissue stands out from the rest."""
    seen = volume[::STEP, ::STEP, ::STEP].astype(np.float32)
    low, high = float(seen.min()), float(seen.max())
    tissue = seen > low + TISSUE * (high - low)
    if not tissue.any():
        return Body(np.ones_like(tissue), (volume.shape[0], volume.shape[1], volume.shape[2]))
    mask = cc3d.largest_k(tissue, k=1, connectivity=26) > 0
    return Body(mask, (volume.shape[0], volume.shape[1], volume.shape[2]))

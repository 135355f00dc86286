"""The box of the abdomen in a scan: where the fine organ network and the tumor network look.

    box = find_abdomen(hu, grid=geometry, coarse=network, cube=(160, 160, 160), ...)     # on the scan's grid

The box is that of what the coarse network found, and a margin; where it found nothing, the box of the body.
"""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray

from pwsseg.arrays.body import find_body
from pwsseg.arrays.resampling import network_input
from pwsseg.arrays.sliding import Network
from pwsseg.values import Geometry, Window

Shape = tuple[int, int, int]


class Box(NamedTuple):
    """A window on a scan's grid, and what a record should say about how it was found."""

    window: Window
    notes: tuple[str, ...]


def find_abdomen(
    hu: NDArray[np.int16],
    *,
    grid: Geometry,
    coarse: Network,
    cube: Shape,
    clip_hu: tuple[float, float],
    margin_mm: float,
    device: torch.device | None = None,
) -> Box:
    """Ask the coarse network, which sees the whole scan resized to a cube (METHOD.md, Inference).

    Parameters
    ----------
    hu:
        (z, y, x) on `grid`, turned the usual way.
    coarse:
        The cube (1, 1, z, y, x), normalised, to scores (1, 1 + class, z, y, x), the background first.
    device:
        Where the scan is resized.
    """
    seen = network_input(hu, cube, clip_hu=clip_hu, device=device)
    labels = coarse(seen[None, None])[0].argmax(0).to(torch.uint8).cpu().numpy()
    return abdomen_box(labels, seen.cpu().numpy(), grid=grid, margin_mm=margin_mm)


def abdomen_box(
    labels: NDArray[np.uint8],
    seen: NDArray[np.float32],
    *,
    grid: Geometry,
    margin_mm: float,
    least_ml: float = 1.0,
) -> Box:
    """The box of the coarse network's findings and a margin, or the body's.

    Parameters
    ----------
    labels, seen:
        The coarse network's labels and what it saw, the scan (z, y, x) resized to a cube and normalised.
    grid:
        The scan's own grid, which the cube fills.
    margin_mm:
        How far the box reaches beyond what was found; 20 in the paper.
    least_ml:
        Components of the foreground below this are no finding (1000 mm^3).
    """
    voxel_ml = grid.voxel_ml * grid.voxels / labels.size
    found = bounding_window(without_crumbs(labels > 0, least_ml=least_ml, voxel_ml=voxel_ml))
    notes: tuple[str, ...] = ()
    if found is None:
        notes = ("the coarse network found nothing: the box is the body's",)
        found = find_body(seen).box
    native = on_grid(found, _shape(labels), grid.shape)
    return Box(grown(native, margin_mm=margin_mm, grid=grid), notes)


def bounding_window(mask: NDArray[np.bool_]) -> Window | None:
    """The smallest window that holds every voxel of the mask; None when it has none."""
    if not mask.any():
        return None
    lines = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    z, y, x = ((int(line[0]), int(line[-1]) + 1) for line in lines)
    return Window((z[0], y[0], x[0]), (z[1], y[1], x[1]))


def on_grid(window: Window, shape: Shape, other: Shape) -> Window:
    """The smallest window of another grid of the same box that holds the same place."""
    scale = np.asarray(other) / np.asarray(shape)
    # a millionth of a voxel, so that a border that should be whole is not rounded beyond it
    start = np.floor(np.asarray(window.start) * scale + 1e-6).astype(int)
    stop = np.ceil(np.asarray(window.stop) * scale - 1e-6).astype(int)
    return _window(start, stop, other)


def grown(window: Window, *, margin_mm: float, grid: Geometry) -> Window:
    """The window and at least `margin_mm` around it, as far as the grid goes."""
    margin = np.ceil(margin_mm / np.asarray(grid.spacing) - 1e-6).astype(int)
    return _window(np.asarray(window.start) - margin, np.asarray(window.stop) + margin, grid.shape)


def without_crumbs(mask: NDArray[np.bool_], *, least_ml: float, voxel_ml: float) -> NDArray[np.bool_]:
    """The mask without its 26-connected components below `least_ml`."""
    components = cc3d.connected_components(mask, connectivity=26, binary_image=True)
    large = np.bincount(components.ravel()) * voxel_ml >= least_ml
    large[0] = False
    kept: NDArray[np.bool_] = large[components]
    return kept


def _window(start: NDArray[np.int_], stop: NDArray[np.int_], shape: Shape) -> Window:
    low, high = np.maximum(start, 0), np.minimum(stop, shape)
    return Window((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))


def _shape(volume: NDArray[np.generic]) -> Shape:
    z, y, x = volume.shape
    return z, y, x

"""From coarse to fine: a network sees the whole scan small, another sees the abdomen's box larger.

    labels, box = cascaded_labels(hu, grid=geometry, coarse=..., fine=..., plan=plan)

The largest thing in memory is the fine network's scores on its cube, whatever the scan's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pwsseg.arrays.boxes import Box, abdomen_box
from pwsseg.arrays.labelling import write_labels_on_grid
from pwsseg.arrays.resampling import normalise, resample_scan
from pwsseg.arrays.sliding import Network
from pwsseg.values import Geometry, Window

Shape = tuple[int, int, int]


class CascadePlan(NamedTuple):
    """Sizes of both networks' input (METHOD.md: 160^3 and 192^3), and what is between them."""

    coarse_cube: Shape
    fine_cube: Shape
    margin_mm: float
    clip_hu: tuple[float, float]
    classes: Sequence[int]
    """The label of each channel after the background, of both networks."""


class Cascaded(NamedTuple):
    """Labels uint8 (z, y, x) on the scan's grid, and the box that they were looked for in."""

    labels: NDArray[np.uint8]
    box: Box


def cascaded_labels(
    hu: NDArray[np.int16], *, grid: Geometry, coarse: Network, fine: Network, plan: CascadePlan
) -> Cascaded:
    """Coarse on the whole scan, its box and a margin, fine on the resized box, back to the scan's grid.

    Parameters
    ----------
    hu:
        (z, y, x) on `grid`, turned the usual way.
    coarse, fine:
        A cube (1, 1, z, y, x), normalised, to scores (1, 1 + class, z, y, x), the background first.
    """
    box = found_box(hu, grid=grid, coarse=coarse, plan=plan)
    part = hu[box.window.slices]
    cube = normalise(resample_scan(part, plan.fine_cube), clip_hu=plan.clip_hu)
    scores = fine(torch.from_numpy(cube)[None, None])[0]
    labels = np.zeros(grid.shape, dtype=np.uint8)
    whole = Window((0, 0, 0), plan.fine_cube)
    inside = labels[box.window.slices]
    write_labels_on_grid(_slices(scores), whole, plan.fine_cube, classes=plan.classes, out=inside)
    return Cascaded(labels, box)


def found_box(hu: NDArray[np.int16], *, grid: Geometry, coarse: Network, plan: CascadePlan) -> Box:
    """The abdomen's box on the scan's grid, by the coarse network."""
    cube = resample_scan(hu, plan.coarse_cube)
    image = torch.from_numpy(normalise(cube, clip_hu=plan.clip_hu))
    labels = coarse(image[None, None])[0].argmax(0).to(torch.uint8).cpu().numpy()
    return abdomen_box(labels, cube, grid=grid, margin_mm=plan.margin_mm)


def _slices(scores: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Scores (class, z, y, x), slice by slice."""
    return ((z, scores[:, z].float()) for z in range(scores.shape[1]))

"""From streamed class scores to labels on the scan's own grid, slice by slice.

    write_labels_on_grid(stream(...), covered(windows, volume.shape), volume.shape, classes=..., out=labels)

Scores are interpolated linearly, then the highest wins. Where all eight voxels about a place have one
label, that label wins without interpolating (each other class is lower at all eight), so only the voxels
at borders are interpolated: on a CPU a quarter of the time that all of them take, for the same labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pwsseg.values import Window

Shape = tuple[int, int, int]


def write_labels_on_grid(
    slices: Iterator[tuple[int, torch.Tensor]],
    box: Window,
    grid: Shape,
    *,
    classes: Sequence[int],
    out: NDArray[np.uint8],
) -> None:
    """Interpolate streamed class scores linearly to the grid of `out` and write the highest.

    Parameters
    ----------
    slices:
        z, scores (1 + len(classes), y, x) of `box`, in z order, the background first.
    box:
        The part of the network's grid that the scores are of. Outside it everything is background.
    grid:
        The network's grid (z, y, x); `out` fills the same space.
    classes:
        The label of each channel after the background.
    out:
        uint8 (z, y, x), any strides; all of it is written. Two slices of scores are held at a time.
    """
    z, y, x = (_Axis.over(*a) for a in zip(out.shape, grid, box.start, box.stop, strict=True))
    ids = np.array([0, *classes], dtype=np.uint8)
    out[: z.first], out[z.last :] = 0, 0
    below: _Slice | None = None
    target = 0
    for depth, scores in slices:
        above = _Slice(scores, y, x)
        while target < len(z.low) and z.high[target] <= depth - box.start[0]:
            lower = above if below is None or z.low[target] == depth - box.start[0] else below
            inside = _highest(lower, above, float(z.weight[target]), y, x)
            del lower  # or it would keep a third slice alive
            plane = out[z.first + target]
            plane[:] = 0
            plane[y.first : y.last, x.first : x.last] = ids[inside.cpu().numpy()]
            target += 1
        below = above


class _Axis(NamedTuple):
    """Where an axis of the wanted grid meets a box of the network's grid (half-voxel centres)."""

    first: int
    """The first wanted voxel whose centre lies in the box."""
    last: int
    """One behind the last."""
    low: torch.Tensor
    """For each of these the box's voxel below its centre, at most the last but one."""
    high: torch.Tensor
    """The one above it."""
    weight: torch.Tensor
    """How far from the lower to the upper, 0 to 1."""
    same: bool
    """Whether the wanted voxels are the box's own."""

    @classmethod
    def over(cls, wanted: int, size: int, start: int, stop: int) -> _Axis:
        first, last = (ceil(edge * wanted / size - 0.5) for edge in (start, stop))
        position = (np.arange(first, last) + 0.5) * size / wanted - 0.5 - start
        position = np.clip(position, 0, stop - start - 1)
        low = np.minimum(position.astype(np.int64), max(0, stop - start - (1 if wanted == size else 2)))
        high = np.minimum(low + 1, stop - start - 1)
        weight = (position - low).astype(np.float32)
        return cls(
            first,
            last,
            torch.from_numpy(low),
            torch.from_numpy(high),
            torch.from_numpy(weight),
            wanted == size,
        )


DISAGREE = 255
"""A square whose four voxels have more than one label; there are fewer channels."""


class _Slice:
    """A slice's scores, with the highest channel of each voxel, or of each square of four if all agree."""

    def __init__(self, scores: torch.Tensor, y: _Axis, x: _Axis) -> None:
        highest = scores.max(0).indices.to(torch.uint8)  # several times as fast as argmax over classes
        self._scores = scores.permute(1, 2, 0).reshape(-1, len(scores))  # a place's classes side by side
        self._width = scores.shape[2]
        for way, axis in ((0, y), (1, x)):
            if not axis.same:
                size = max(1, highest.shape[way] - 1)
                first, second = (
                    highest.narrow(way, 0, size),
                    highest.narrow(way, highest.shape[way] - size, size),
                )
                highest = first.masked_fill(first != second, DISAGREE)
        self.squares = highest

    def at(self, y: _Axis, x: _Axis, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Scores (n, class), interpolated at n places of the wanted grid."""
        if y.same:
            return self._along(x, y.low[rows], columns)
        upper, lower = (self._along(x, row[rows], columns) for row in (y.low, y.high))
        return upper.lerp_(lower, y.weight[rows].to(upper.device)[:, None])

    def _along(self, x: _Axis, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        left = self._scores[(rows * self._width + x.low[columns]).to(self._scores.device)]
        if x.same:
            return left
        right = self._scores[(rows * self._width + x.high[columns]).to(self._scores.device)]
        return left.lerp_(right, x.weight[columns].to(left.device)[:, None])


def _highest(a: _Slice, b: _Slice, weight: float, y: _Axis, x: _Axis) -> torch.Tensor:
    """The highest channel (y, x) between two slices, `weight` of the way from a to b."""
    squares = a.squares if a is b else a.squares.masked_fill(a.squares != b.squares, DISAGREE)
    labels = squares[y.low.to(squares.device)][:, x.low.to(squares.device)]
    rows, columns = (labels == DISAGREE).cpu().nonzero(as_tuple=True)
    scores = a.at(y, x, rows, columns)
    if a is not b:
        scores.lerp_(b.at(y, x, rows, columns), weight)
    labels[rows.to(labels.device), columns.to(labels.device)] = scores.max(1).indices.to(torch.uint8)
    return labels

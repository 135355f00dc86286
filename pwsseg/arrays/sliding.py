"""Sliding-window inference that streams: a slice leaves as soon as no later window touches it.

    for z, scores in stream(volume, network, windows): ...         # scores (class, y, x), blended
    labels_on_grid(stream(...), shape=native) -> uint8 labels      # scores interpolated, then argmax

Scores of a whole volume never exist: at most one window's depth of slices is held, so memory does not
grow with the number of slices, and labels come back to the native grid once, from scores, not from labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pwsseg.values import Window

Shape = tuple[int, int, int]
Network = Callable[[torch.Tensor], torch.Tensor]
"""Patches (batch, 1, z, y, x) -> scores (batch, class, z, y, x)."""


def place_windows(shape: Shape, patch: Shape, *, overlap: float) -> list[Window]:
    """The fewest evenly spread windows that cover `shape` and share at least `overlap`, in z order.

    `patch` may exceed `shape`; the volume is then to be padded (see `stream`).
    """
    starts = [_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    return [Window((z, y, x), (z + patch[0], y + patch[1], x + patch[2])) for z, y, x in product(*starts)]


def _starts(size: int, patch: int, overlap: float) -> list[int]:
    room = max(0, size - patch)
    stride = max(1, int(patch * (1 - overlap) + 1e-6))  # whole, so that rounding the starts costs no overlap
    steps = -(-room // stride)
    return [round(i * room / steps) for i in range(steps + 1)] if steps else [0]


def gaussian(patch: Shape) -> torch.Tensor:
    """Blending weights (z, y, x): a Gaussian of sigma patch / 8 about the centre, 1 there, never 0."""
    axes = []
    for n in patch:
        offset = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) / (n / 8)
        axes.append(torch.exp(-0.5 * offset**2))
    z, y, x = axes
    weights = z[:, None, None] * y[:, None] * x
    return (weights / weights.max()).clamp_min(1e-4)


def stream(
    volume: torch.Tensor, network: Network, *, patch: Shape, overlap: float, batch: int = 1
) -> Iterator[tuple[int, torch.Tensor]]:
    """Blend the network's scores over windows and yield finished slices in z order.

    Parameters
    ----------
    volume:
        (z, y, x), on any device; padded at its far ends, by its minimum, where `patch` exceeds it.
    network:
        Patches (batch, 1, z, y, x) to scores (batch, class, z, y, x).

    Yields
    ------
    z, scores (class, y, x) float32 on the volume's device.
    """
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    padding = [max(0, p - n) for p, n in zip(patch, shape, strict=True)]
    padded = F.pad(volume, (0, padding[2], 0, padding[1], 0, padding[0]), value=float(volume.min()))
    windows = place_windows((padded.shape[0], padded.shape[1], padded.shape[2]), patch, overlap=overlap)
    slab = _Slab(padded.shape[1:], gaussian(patch).to(volume.device))
    for group in _batches(windows, batch):
        for scores, z in slab.advance(group[0].start[0], until=shape[0]):
            yield z, scores[:, : shape[1], : shape[2]]
        patches = torch.stack([padded[w.slices] for w in group])[:, None]
        for window, scores in zip(group, network(patches), strict=True):
            slab.add(window, scores.float())
    for scores, z in slab.advance(padded.shape[0], until=shape[0]):
        yield z, scores[:, : shape[1], : shape[2]]


def _batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for i in range(0, len(windows), size):
        yield windows[i : i + size]


class _Slab:
    """Running sums of scores and weights for the slices that windows may still touch."""

    def __init__(self, plane: torch.Size, weights: torch.Tensor) -> None:
        self._plane, self._weights = plane, weights
        self._bottom = 0
        self._scores: dict[int, torch.Tensor] = {}
        self._sums: dict[int, torch.Tensor] = {}

    def add(self, window: Window, scores: torch.Tensor) -> None:
        """Add one window's scores (class, z, y, x)."""
        _, rows, columns = window.slices
        for i, z in enumerate(range(window.start[0], window.stop[0])):
            if z not in self._scores:
                self._scores[z] = scores.new_zeros(scores.shape[0], *self._plane)
                self._sums[z] = scores.new_zeros(self._plane)
            self._scores[z][:, rows, columns] += scores[:, i] * self._weights[i]
            self._sums[z][rows, columns] += self._weights[i]

    def advance(self, top: int, *, until: int) -> Iterator[tuple[torch.Tensor, int]]:
        """Give out and forget the slices below `top`; those from `until` on are padding and dropped."""
        for z in range(self._bottom, top):
            scores, sums = self._scores.pop(z), self._sums.pop(z)
            if z < until:
                yield scores / sums, z
        self._bottom = max(self._bottom, top)


def labels_on_grid(
    slices: Iterator[tuple[int, torch.Tensor]], *, depth: int, shape: Shape, classes: Sequence[int]
) -> NDArray[np.uint8]:
    """Interpolate streamed class scores linearly to `shape` and take the highest, slice by slice.

    Parameters
    ----------
    slices:
        z, scores (1 + len(classes), y, x), in z order, the background first.
    depth:
        How many slices will come.
    shape:
        The grid (z, y, x) wanted, filling the same box.
    classes:
        The label of each channel after the background.

    Returns
    -------
    uint8 (z, y, x). Two slices of scores and one interpolated slice are held at a time.
    """
    labels = np.empty(shape, dtype=np.uint8)
    ids = torch.tensor([0, *classes], dtype=torch.uint8)
    below_at, weight = _linear_positions(shape[0], depth)
    held: dict[int, torch.Tensor] = {}
    target = 0
    for z, scores in slices:
        held[z] = F.interpolate(scores[None], size=shape[1:], mode="bilinear", align_corners=False)[0]
        held.pop(z - 2, None)
        while target < shape[0] and min(below_at[target] + 1, depth - 1) <= z:
            below = int(below_at[target])
            mixed = torch.lerp(held[below], held[min(below + 1, depth - 1)], float(weight[target]))
            labels[target] = ids[mixed.argmax(0).cpu()].numpy()
            target += 1
    return labels


def _linear_positions(new: int, old: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each new slice the old one below it and the weight of the one above (half-voxel centres)."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.minimum(position.astype(np.intp), max(0, old - 2))
    return below, position - below

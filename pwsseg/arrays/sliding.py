"""Sliding-window inference that streams: a slice leaves as soon as no later window touches it.

    windows = place_windows(volume.shape, patch, overlap=0.25, within=body.box)
    for z, scores in stream(volume, network, windows): ...         # scores (class, y, x), blended

Scores of a whole volume never exist: one slab is held, a window's depth of the plane that the windows cover
(`stream_bytes`), so memory does not grow with the number of slices. `arrays/labelling.py` turns the slices
into labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product

import torch
import torch.nn.functional as F

from pwsseg.values import Window

Shape = tuple[int, int, int]
Network = Callable[[torch.Tensor], torch.Tensor]
"""Patches (batch, 1, z, y, x) -> scores (batch, class, z, y, x), the background first."""

SLICES_IN_HAND = 4
"""Slices of scores beside the slab: the one that leaves, two between which labels are interpolated, one
spare while they change."""


def place_windows(
    shape: Shape, patch: Shape, *, overlap: float, within: Window | None = None
) -> list[Window]:
    """The fewest evenly spread windows that cover `within` and share at least `overlap`, in z order.

    A box smaller than the patch gets one window about its centre. Windows stay inside the volume; where
    `patch` exceeds it they stand out at its far ends (see `stream`).
    """
    box = within or Window((0, 0, 0), shape)
    axes = zip(box.start, box.stop, shape, patch, strict=True)
    starts = [_starts(a, b, size, p, overlap) for a, b, size, p in axes]
    return [Window((z, y, x), (z + patch[0], y + patch[1], x + patch[2])) for z, y, x in product(*starts)]


def _starts(first: int, last: int, size: int, patch: int, overlap: float) -> list[int]:
    room = last - first - patch
    if room <= 0:
        return [min(max(0, (first + last - patch) // 2), max(0, size - patch))]
    stride = max(1, int(patch * (1 - overlap) + 1e-6))  # whole, so that rounding the starts costs no overlap
    steps = -(-room // stride)
    return [first + round(i * room / steps) for i in range(steps + 1)]


def enclosing(windows: Sequence[Window]) -> Window:
    """The smallest box that holds all windows."""
    low = zip(*(w.start for w in windows), strict=True)
    high = zip(*(w.stop for w in windows), strict=True)
    (z, y, x), (z2, y2, x2) = (min(axis) for axis in low), (max(axis) for axis in high)
    return Window((z, y, x), (z2, y2, x2))


def covered(windows: Sequence[Window], shape: Shape) -> Window:
    """The part of the volume that `stream` speaks about."""
    box = enclosing(windows)
    z, y, x = (min(b, n) for b, n in zip(box.stop, shape, strict=True))
    return Window(box.start, (z, y, x))


def stream_bytes(windows: Sequence[Window], *, channels: int) -> int:
    """What `stream` and the labelling after it hold at most above the network's own memory, in bytes.

    float32: a slab of scores and one of summed weights, a window's weights, and a few slices of scores.
    """
    _, height, width = enclosing(windows).shape
    depth, rows, columns = windows[0].shape
    slab = (channels + 1) * depth * height * width
    return 4 * (slab + depth * rows * columns + SLICES_IN_HAND * channels * height * width)


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
    volume: torch.Tensor, network: Network, windows: Sequence[Window], *, batch: int = 1
) -> Iterator[tuple[int, torch.Tensor]]:
    """Blend the network's scores over windows and yield finished slices in z order.

    Parameters
    ----------
    volume:
        (z, y, x) of any float type, on any device; the network gets float32. Where a window stands out, it
        sees the volume's minimum.
    network:
        Patches (batch, 1, z, y, x) to scores (batch, class, z, y, x).
    windows:
        Of one shape, in z order. Voxels of the box `covered` that lie in no window are background.

    Yields
    ------
    z, scores (class, y, x) of the box `covered`, float32, on the volume's device.
    """
    box = covered(windows, (volume.shape[0], volume.shape[1], volume.shape[2]))
    slab = _Slab(windows, volume.device)
    for start, layer in groupby(windows, lambda w: w.start[0]):
        yield from slab.leave(min(start, box.stop[0]), box)
        row = list(layer)
        for group in (row[i : i + batch] for i in range(0, len(row), batch)):
            patches = torch.stack([_cut(volume, w) for w in group])[:, None]
            for window, scores in zip(group, network(patches), strict=True):
                slab.add(window, scores)
            del patches, scores  # not beside the network's next ones
    yield from slab.leave(box.stop[0], box)


def _cut(volume: torch.Tensor, window: Window) -> torch.Tensor:
    patch = volume[window.slices].float()
    z, y, x = (want - have for want, have in zip(window.shape, patch.shape, strict=True))
    return F.pad(patch, (0, x, 0, y, 0, z), value=float(volume.min())) if z or y or x else patch


class _Slab:
    """Sums of scores and weights for the slices that windows may still touch, slice z at z modulo depth."""

    def __init__(self, windows: Sequence[Window], device: torch.device) -> None:
        box = enclosing(windows)
        self._depth = windows[0].shape[0]
        self._bottom, self._corner, self._plane = box.start[0], box.start[1:], box.shape[1:]
        self._weights = gaussian(windows[0].shape).to(device)
        self._sums = torch.zeros(self._depth, *self._plane, device=device)  # (z, y, x)
        self._scores = torch.empty(0, device=device)  # (class, z, y, x), once the first scores say how many

    def add(self, window: Window, scores: torch.Tensor) -> None:
        """Add one window's scores (class, z, y, x); `leave` must have been called up to its start."""
        if not self._scores.numel():
            self._scores = self._sums.new_zeros(scores.shape[0], *self._sums.shape)
        rows, columns = (
            slice(a - c, b - c)
            for a, b, c in zip(window.start[1:], window.stop[1:], self._corner, strict=True)
        )
        wrap = self._depth - window.start[0] % self._depth
        for part, place in ((slice(wrap), slice(-wrap, None)), (slice(wrap, None), slice(-wrap))):
            weights = self._weights[part]
            self._scores[:, place, rows, columns].addcmul_(scores[:, part], weights)
            self._sums[place, rows, columns] += weights

    def leave(self, top: int, box: Window) -> Iterator[tuple[int, torch.Tensor]]:
        """Give out and forget the slices below `top`."""
        height, width = box.shape[1:]
        for z in range(self._bottom, top):
            scores, sums = self._scores[:, z % self._depth], self._sums[z % self._depth]
            outside = sums == 0
            sums += outside
            scores[0] += outside
            yield z, scores[:, :height, :width] / sums[:height, :width]
            scores.zero_()
            sums.zero_()
        self._bottom = max(self._bottom, top)

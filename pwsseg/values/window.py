"""A place in a volume."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """A box of voxels: `start` inside, `stop` outside, both (z, y, x).

    Sampler, sliding window and cropping share this value and nothing else.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """What cuts the window out of the last three axes of an array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Edge lengths (z, y, x) in voxels."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

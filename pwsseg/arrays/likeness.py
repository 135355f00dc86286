"""Whether two scans show the same acquisition, though one was resaved, resampled or cropped.

likeness([fingerprint(a, spacing)], [fingerprint(b, spacing)])     # [[0.9]]: one scan; [[0.02]]: two people

A fingerprint holds the places of a scan's most prominent blobs, and describes the surroundings of each by
which of two places nearby is denser, 128 times (BRIEF, Calonder et al. 2010, in three dimensions). A crop
moves all blobs by one and the same way, and what is denser stays so when intensities are rescaled or
rounded; in another person blobs that look alike lie elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pwsseg.arrays.resampling import Shape, resample_scan

BLOBS = 96
"""The most prominent blobs of a scan that its fingerprint holds."""
BITS = 128
"""Comparisons that describe a blob."""
GRID_MM = 4.0
"""Spacing at which blobs are looked for: organs and bones, not noise."""
FINE, COARSE = 1.5, 2.4
"""Gaussian widths, in voxels of that grid, whose difference shows blobs."""
REACH = 6
"""How far around a blob places are compared, in voxels of that grid."""
SAME_BITS = 112
"""Two blobs are one when at least so many of their comparisons agree."""
FEWEST = 6
"""Common blobs below which two fingerprints are held to be of different acquisitions."""
NEAR = 1.0
"""How far, in voxels of that grid along each axis, the ways of two common blobs may differ."""
ALIKE = 0.4
"""From this share of common blobs on, two fingerprints are of one acquisition."""
SOFT_TISSUE_HU = (-200.0, 400.0)

_random = np.random.default_rng(2023)
_PAIRS = np.clip(_random.normal(0.0, REACH / 2, (BITS, 2, 3)).round(), -REACH, REACH).astype(np.intp)
"""The two places of every comparison, as (z, y, x) from the blob; stored fingerprints rest on it."""


def fingerprint(scan: NDArray[np.int16], spacing: tuple[float, float, float]) -> str:
    """The fingerprint of HU (z, y, x), seen the usual way (up, back, left), with its spacing in mm.

    Base64 of up to BLOBS times a place and BITS bits; empty when a scan too small or too even has no blobs.
    """
    z, y, x = (max(1, round(n * mm / GRID_MM)) for n, mm in zip(scan.shape, spacing, strict=True))
    shape: Shape = (z, y, x)
    coarse = np.clip(resample_scan(scan, shape), *SOFT_TISSUE_HU)
    smooth = ndimage.gaussian_filter(coarse, FINE, mode="nearest")
    blobs = _blobs(smooth - ndimage.gaussian_filter(coarse, COARSE, mode="nearest"))
    near, far = (smooth[tuple((blobs[:, None] + _PAIRS[:, side]).transpose(2, 0, 1))] for side in (0, 1))
    places = blobs.astype("<i2").view(np.uint8).reshape(-1, 6)
    packed = np.concatenate([places, np.packbits(near > far, axis=1)], axis=1)
    return base64.b64encode(packed.tobytes()).decode("ascii")


def likeness(some: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
    """The share of blobs, in [0, 1], that each of `some` has in common with each of `others`: (some, others).

    Common are blobs that look alike and lie the same way apart in both scans. The share is of those where
    the scans overlap, in the one with fewer there, so a crop is like the whole; an empty one is like none.
    """
    ours, theirs = [_unpacked(f) for f in some], [_unpacked(f) for f in others]
    shares = np.zeros((len(ours), len(theirs)), np.float32)
    if not theirs:
        return shares
    every = np.concatenate([bits for _, bits in theirs])
    starts = np.cumsum([0, *(len(bits) for _, bits in theirs)])
    for row, (places, bits) in enumerate(ours):
        agree = (BITS + bits @ every.T) / 2 >= SAME_BITS
        counted = np.diff(np.concatenate([[0], agree.sum(axis=0).cumsum()])[starts])
        for column in np.flatnonzero(counted >= FEWEST):
            found = agree[:, starts[column] : starts[column + 1]]
            shares[row, column] = _moved_alike(places, theirs[column][0], found)
    return shares


def _moved_alike(places: NDArray[np.int16], there: NDArray[np.int16], found: NDArray[np.bool_]) -> float:
    """The share of blobs whose ways from one scan to the other are one way, where the scans overlap then."""
    here, other = np.nonzero(found)
    ways = there[other] - places[here]
    close: NDArray[np.bool_] = np.all(np.abs(ways[:, None] - ways) <= NEAR, axis=2)
    best = close[close.sum(axis=1).argmax()]
    common = min(len(set(here[best])), len(set(other[best])))
    if common < FEWEST:
        return 0.0
    way = np.median(ways[best], axis=0)
    return common / max(1, min(_within(places + way, there), _within(there - way, places)))


def _within(places: NDArray[np.floating], others: NDArray[np.int16]) -> int:
    """How many places lie where the others do: in the box around them."""
    inside: NDArray[np.bool_] = np.all(
        (places >= others.min(0) - NEAR) & (places <= others.max(0) + NEAR), axis=1
    )
    return int(np.count_nonzero(inside))


def _blobs(response: NDArray[np.float32]) -> NDArray[np.intp]:
    """Places (n, 3) of the strongest extremes, in reach of which everything lies in the volume."""
    strength = np.abs(response)
    peak = strength == ndimage.maximum_filter(strength, size=3, mode="nearest")
    inside = np.zeros(response.shape, bool)
    inside[(slice(REACH, -REACH),) * 3] = True
    places = np.argwhere(peak & inside & (strength > 1.0))
    order = np.argsort(-strength[tuple(places.T)], kind="stable")
    return places[order[:BLOBS]]


def _unpacked(code: str) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Places (blobs, 3), and comparisons as +1 and -1 (blobs, BITS)."""
    packed = np.frombuffer(base64.b64decode(code), np.uint8).reshape(-1, 6 + BITS // 8)
    places = np.ascontiguousarray(packed[:, :6]).view("<i2").astype(np.int16)
    return places, np.unpackbits(packed[:, 6:], axis=1).astype(np.float32) * 2 - 1

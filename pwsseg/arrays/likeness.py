"""Whether two scans show the same acquisition, though one was resaved, resampled or cropped.

held_out = Fingerprints([fingerprint(a, spacing)])
held_out.likeness(fingerprint(b, spacing))     # [0.9]: one scan; [0.02]: two people

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
OTHER_BITS = 16
"""Two blobs are one when at most so many of their comparisons differ."""
AT_ONCE = 16
"""Blobs that are compared with all others at once."""
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


class Fingerprints:
    """Fingerprints that others are compared with, decoded once; 30 bytes a blob."""

    def __init__(self, codes: Sequence[str]) -> None:
        decoded = [_decoded(code) for code in codes]
        self._places = [places for places, _ in decoded]
        self._starts = np.cumsum([0, *map(len, self._places)])
        self._whose = np.repeat(np.arange(len(codes)), np.diff(self._starts))
        self._bits = np.concatenate([np.zeros((2, 0), np.uint64), *(bits for _, bits in decoded)], axis=1)

    def likeness(self, code: str) -> NDArray[np.float32]:
        """The share of blobs, in [0, 1], that the scan of `code` has in common with that of each.

        Common are blobs that look alike and lie the same way apart in both scans. The share is of those
        where the scans overlap, in the one with fewer there, so a crop is like the whole; an empty one is
        like none.
        """
        places, bits = _decoded(code)
        here, there = self._look_alike(bits)
        whose = self._whose[there]
        shares = np.zeros(len(self._places), np.float32)
        for i in np.flatnonzero(np.bincount(whose, minlength=len(shares)) >= FEWEST):
            found = whose == i
            shares[i] = _moved_alike(places, self._places[i], here[found], there[found] - self._starts[i])
        return shares

    def _look_alike(self, bits: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs of a blob described by `bits` and one of ours, with enough comparisons in common."""
        pairs = [np.zeros((2, 0), np.intp)]
        for first in range(0, bits.shape[1], AT_ONCE):  # half of the comparisons leave few pairs to look at
            half = self._bits[0] ^ bits[0, first : first + AT_ONCE, np.newaxis]
            near = np.flatnonzero(np.bitwise_count(half) <= OTHER_BITS)
            pairs.append(np.stack([first + near // len(self._whose), near % len(self._whose)]))
        here, there = np.concatenate(pairs, axis=1)
        differ = np.bitwise_count(self._bits[:, there] ^ bits[:, here]).sum(axis=0)
        alike = differ <= OTHER_BITS
        return here[alike], there[alike]


def _moved_alike(
    places: NDArray[np.int16], there: NDArray[np.int16], here: NDArray[np.intp], other: NDArray[np.intp]
) -> float:
    """The share of blobs whose ways from one scan to the other are one way, where the scans overlap then.

    `here` and `other` are the blobs that look alike, pair by pair.
    """
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


def _decoded(code: str) -> tuple[NDArray[np.int16], NDArray[np.uint64]]:
    """Places (blobs, 3), and comparisons (2, blobs), 64 in a number."""
    packed = np.frombuffer(base64.b64decode(code), np.uint8).reshape(-1, 6 + BITS // 8)
    places = np.ascontiguousarray(packed[:, :6]).view("<i2").astype(np.int16)
    return places, np.ascontiguousarray(np.ascontiguousarray(packed[:, 6:]).view(np.uint64).T)

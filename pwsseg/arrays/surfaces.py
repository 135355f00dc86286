"""How much of two masks' surfaces lies near the other's: normalised surface distance (NSD).

    surface_dice(a, b, spacing=(2.5, 0.8, 0.8), tolerance_mm=3)

The definition is DeepMind's: the surface elements of a marching-cubes-like surface, one a corner between
voxels, weighted by their area in mm2, count where the other surface has an element within the tolerance. The
table of areas comes from the package `surface-distance`.

No distance is computed, since NSD asks only whether one is within the tolerance. For each step in z and y
that the tolerance allows, the short ones first, the elements that have found nothing yet look how far along x
the other surface is. That is exact to the last element, and fast because most elements find it at once.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from surface_distance import lookup_tables

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

ONE, TWO, FOUR = (np.uint8(n) for n in (1, 2, 4))


def surface_dice(a: Mask, b: Mask, *, spacing: Spacing, tolerance_mm: float) -> float:
    """Share of both masks' surface that lies within `tolerance_mm` of the other's surface.

    Masks are (z, y, x) of one shape, `spacing` in mm; what counts is inside them, so their common box does as
    well as the whole volume. Both empty: 1; exactly one empty: 0. Nikolov et al., "Deep learning to achieve
    clinically applicable segmentation", 2018.
    """
    if not a.any() or not b.any():
        return float(not a.any() and not b.any())
    steps = _steps(spacing, tolerance_mm)
    first, second = _codes(a), _codes(b)
    areas = _areas(spacing)
    within = whole = 0.0
    for one, other in ((first, second), (second, first)):
        elements = np.flatnonzero(_is_surface(one))
        area = areas[one.ravel()[elements]]
        within += float(area[_finds(elements, other, steps)].sum())
        whole += float(area.sum())
    return within / whole


class Step(NamedTuple):
    """A step in corners along z and y, and how far along x the tolerance then still reaches."""

    z: int
    y: int
    reach: int


@lru_cache(maxsize=64)
def _steps(spacing: Spacing, tolerance_mm: float) -> tuple[Step, ...]:
    """Every step within the tolerance, the shortest first.

    Squares are added from x to z in float64, as scipy's distance transform adds them for surface-distance:
    a distance of exactly the tolerance is then on the same side in both.
    """
    sz, sy, sx = spacing
    far_z, far_y, far_x = (int(tolerance_mm / s) + 1 for s in spacing)
    along_x = (np.arange(far_x + 1) * sx) ** 2
    steps = []
    for z, y in product(range(-far_z, far_z + 1), range(-far_y, far_y + 1)):
        distances = np.sqrt(along_x + (y * sy) ** 2 + (z * sz) ** 2)
        if distances[0] <= tolerance_mm:
            steps.append((float(distances[0]), Step(z, y, int((distances <= tolerance_mm).sum()) - 1)))
    return tuple(step for _, step in sorted(steps))


def _codes(mask: Mask) -> NDArray[np.uint8]:
    """Which of the eight voxels around each corner are inside, one bit each; (z + 1, y + 1, x + 1).

    Voxel (z, y, x) of the eight is bit 4 z + 2 y + x.
    """
    inside = np.pad(mask, 1).view(np.uint8)
    along_x = inside[:, :, :-1] | (inside[:, :, 1:] << ONE)
    along_y = along_x[:, :-1] | (along_x[:, 1:] << TWO)
    codes: NDArray[np.uint8] = along_y[:-1] | (along_y[1:] << FOUR)
    return codes


@lru_cache(maxsize=64)
def _areas(spacing: Spacing) -> NDArray[np.float64]:
    """Area in mm2 of the surface element of each code (256).

    The table of surface-distance is not symmetric in the axes: (x, y, z) is how the organisers read files.
    """
    areas = lookup_tables.create_table_neighbour_code_to_surface_area(spacing[::-1])
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    theirs = np.zeros(256, np.intp)
    for z, y, x in product((0, 1), repeat=3):
        theirs += (np.arange(256) >> (4 * z + 2 * y + x) & 1) * int(kernel[x, y, z])
    found: NDArray[np.float64] = areas[theirs]
    return found


def _is_surface(codes: NDArray[np.uint8]) -> Mask:
    """Neither wholly outside nor wholly inside: 0 and 255 become 1 and 0."""
    surface: Mask = (codes + np.uint8(1)) > 1
    return surface


def _finds(elements: NDArray[np.intp], codes: NDArray[np.uint8], steps: tuple[Step, ...]) -> Mask:
    """Which elements (flat indices of corners) have a surface element of `codes` within the steps."""
    margins = max(s.z for s in steps), max(s.y for s in steps)
    distances = _along_x(codes, margins=margins, reach=steps[0].reach)
    _, height, width = distances.shape
    z, row = np.divmod(elements, codes.shape[1] * width)
    places = (z + margins[0]) * (height * width) + row + margins[1] * width
    flat = distances.ravel()
    found = np.zeros(len(elements), bool)
    waiting = np.arange(len(elements))
    for step in steps:
        here = flat[places + (step.z * height + step.y) * width] <= step.reach
        found[waiting[here]] = True
        places, waiting = places[~here], waiting[~here]
        if not len(waiting):
            break
    return found


def _along_x(codes: NDArray[np.uint8], *, margins: tuple[int, int], reach: int) -> NDArray[Any]:
    """Corners along x from each corner to the nearest surface element, reach + 1 where that is beyond it.

    The result has `margins` corners (z, y) more at either end, so that no step leads out of it.
    """
    kind = np.min_scalar_type(3 * reach + 3)
    (z, y), far = margins, kind.type(reach + 1)
    distances = np.full((codes.shape[0] + 2 * z, codes.shape[1] + 2 * y, codes.shape[2]), far, kind)
    inner = distances[z : distances.shape[0] - z, y : distances.shape[1] - y]
    inner[_is_surface(codes)] = 0
    stride = 1
    while stride <= reach and stride < codes.shape[2]:  # 1, 2, 4, ...: every distance is a sum of these
        ahead, behind = inner[:, :, stride:], inner[:, :, :-stride]
        near = np.minimum(ahead, behind + kind.type(stride))
        np.minimum(behind, ahead + kind.type(stride), out=behind)
        np.minimum(ahead, near, out=ahead)
        stride *= 2
    return distances

"""Slices as radiologists look at them: the patient's right on the left, anterior up, true proportions.

overlay_png(store, "case_0001", "ots2", Path("case_0001.png"))
"""

from __future__ import annotations

import base64
import io
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.image
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pwsseg.store import Store
from pwsseg.values import FLARE23, UNKNOWN, Geometry, LabelSet

WINDOW_HU = (-160, 240)
"""What is black and what is white: the abdomen's usual window, level 40 and width 400."""
UNKNOWN_COLOR = (128, 128, 128)
FILL = 0.42
"""Opacity of a class's area; its outline is opaque."""


class Oriented(NamedTuple):
    """A volume whose axes run with the world's z, y, x (superior, posterior, left), as near as they can."""

    array: NDArray[Any]
    spacing: tuple[float, float, float]


def orient(array: NDArray[Any], geometry: Geometry) -> Oriented:
    """Transpose and flip (z, y, x) by the geometry's direction; no voxel is resampled.

    In a slice of the result, rows run to posterior and columns to the patient's left.
    """
    order, flipped = _turning(geometry)
    flips = tuple(slice(None, None, -1 if flip else 1) for flip in flipped)
    z, y, x = (geometry.spacing[a] for a in order)
    return Oriented(array.transpose(order)[flips], (z, y, x))


def slice_height_mm(geometry: Geometry, index: int) -> float:
    """Superior coordinate (mm), the S of viewers, of the centre of slice `index` of what `orient` makes."""
    order, flipped = _turning(geometry)
    voxel = (np.array(geometry.shape) - 1) / 2
    voxel[order[0]] = geometry.shape[order[0]] - 1 - index if flipped[0] else index
    return float(geometry.origin[2] + geometry.direction_matrix[2] @ (np.asarray(geometry.spacing) * voxel))


def _turning(geometry: Geometry) -> tuple[tuple[int, ...], list[bool]]:
    """Which array axes run with the world's z, y, x, and whether each runs against it."""
    cosines = geometry.direction_matrix[::-1]  # (world z y x, array z y x)
    order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[w, a]) for w, a in enumerate(p)))
    return order, [bool(cosines[w, a] < 0) for w, a in enumerate(order)]


def fullest_slice(labels: NDArray[np.uint8]) -> int:
    """Index on axis 0 of the slice with most classes; among equals the one with most labelled voxels."""
    counts = [(len(np.unique(s[s > 0])), int(np.count_nonzero(s))) for s in labels]
    return max(range(len(counts)), key=lambda z: counts[z])


def windowed(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """HU as grey values in the abdomen's window."""
    low, high = WINDOW_HU
    grey = (hu.astype(np.float32) - low) / (high - low)
    return (np.clip(grey, 0, 1) * 255).round().astype(np.uint8)


def colored(labels: NDArray[np.uint8], label_set: LabelSet = FLARE23) -> NDArray[np.uint8]:
    """A slice of labels (y, x) as RGBA (y, x, 4): areas translucent, outlines opaque, background clear."""
    rgba = _palette(label_set)[labels]
    outline = (ndimage.maximum_filter(labels, 3) != labels) | (ndimage.minimum_filter(labels, 3) != labels)
    rgba[outline & (labels > 0), 3] = 255
    return rgba


def enlarged(slice_: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Every pixel repeated until the slice is at least `width` wide, so that outlines stay thin."""
    times = max(1, -(-width // slice_.shape[1]))
    return slice_.repeat(times, axis=0).repeat(times, axis=1)


def blended(grey: NDArray[np.uint8], rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey (y, x) under RGBA (y, x, 4), as RGB (y, x, 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    mixed = grey[..., None] * (1 - alpha) + rgba[..., :3] * alpha
    return mixed.round().astype(np.uint8)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Grey (y, x), RGB (y, x, 3) or RGBA (y, x, 4) as a PNG."""
    buffer = io.BytesIO()
    rgb = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
    matplotlib.image.imsave(buffer, np.ascontiguousarray(rgb), format="png", pil_kwargs={"optimize": True})
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """A PNG as an address that needs no file and no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def overlay_image(
    hu: NDArray[np.int16],
    labels: NDArray[np.uint8],
    *,
    geometry: Geometry,
    index: int | None = None,
    width: int = 768,
    label_set: LabelSet = FLARE23,
) -> NDArray[np.uint8]:
    """An axial slice with its labels as RGB (height, width, 3), square pixels, oriented radiologically.

    `hu` and `labels` are (z, y, x) on the grid of `geometry`. `index` counts slices from inferior; without
    it, the slice with most classes is taken.
    """
    scan, found = orient(hu, geometry), orient(labels, geometry)
    z = fullest_slice(found.array) if index is None else index
    _, row_mm, column_mm = scan.spacing
    height = max(1, round(width * scan.array.shape[1] * row_mm / (scan.array.shape[2] * column_mm)))
    grey = _stretched(windowed(scan.array[z]), (height, width), order=1)
    return blended(grey, colored(_stretched(found.array[z], (height, width), order=0), label_set))


def overlay_png(
    store: Store, case: str, layer: str, path: Path, *, index: int | None = None, width: int = 768
) -> Path:
    """Write one PNG of `case` with the labels of `layer` ("ots2" or "ots2.v1") and return its path.

    Slice and orientation as in `overlay_image`. Raises StoreError when the case or the layer is absent.
    """
    scan = store.scan(case)
    labels = store.layer(layer).labels(case)
    image = overlay_image(scan.read(), labels, geometry=scan.geometry, index=index, width=width)
    path.write_bytes(png_bytes(image))
    return path


def _palette(label_set: LabelSet) -> NDArray[np.uint8]:
    """RGBA of every possible label (256, 4)."""
    table = np.zeros((256, 4), np.uint8)
    for c in label_set.classes:
        table[c.id] = (*c.rgb, round(255 * FILL))
    table[UNKNOWN] = (*UNKNOWN_COLOR, round(255 * FILL))
    return table


def _stretched(slice_: NDArray[np.uint8], shape: tuple[int, int], *, order: int) -> NDArray[np.uint8]:
    factors = [new / old for new, old in zip(shape, slice_.shape, strict=True)]
    result: NDArray[np.uint8] = ndimage.zoom(slice_, factors, order=order, mode="nearest", grid_mode=True)
    return result

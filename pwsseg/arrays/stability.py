"""How much the labels of a case still change from round to round."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]


def disagreement(first: Labels, second: Labels, third: Labels, *, organs: Collection[int]) -> float:
    """U = 1/2 [ #(y1 != y2) / #(y2 > 0) + #(y2 != y3) / #(y3 > 0) ] (METHOD.md, Selection).

    Labels are uint8 (z, y, x) of successive rounds on one grid. Only `organs` are compared: the tumor
    appears in the later rounds alone and would count as change everywhere.
    """
    return 0.5 * (share_changed(first, second, organs=organs) + share_changed(second, third, organs=organs))


def share_changed(before: Labels, after: Labels, *, organs: Collection[int]) -> float:
    """#(y1 != y2) / #(y2 > 0), of organs alone; the denominator at least 1."""
    there = int(np.count_nonzero(_organ_labels(organs)[after]))
    return changed_voxels(*where_different(before, after), organs=organs) / max(1, there)


def where_different(before: Labels, after: Labels) -> tuple[Labels, Labels]:
    """Both labels (n,) of the voxels that differ."""
    different = before != after
    return before[different], after[different]


def changed_voxels(before: Labels, after: Labels, *, organs: Collection[int]) -> int:
    """#(y1 != y2): voxels that are no longer, or now, or otherwise, an organ; of any shape."""
    organ = _organ_labels(organs)
    return int((organ[before] != organ[after]).sum())


def changed_by_class(before: Labels, after: Labels) -> NDArray[np.int64]:
    """For each label (256,) the voxels, of those that differ (n,), that have it before or after."""
    return np.bincount(before, minlength=256) + np.bincount(after, minlength=256)


def _organ_labels(organs: Collection[int]) -> Labels:
    """A look-up over all labels: an organ's is itself, every other 0."""
    table = np.zeros(256, dtype=np.uint8)
    table[list(organs)] = list(organs)
    return table

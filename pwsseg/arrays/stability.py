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
    keep = np.zeros(256, dtype=bool)
    keep[list(organs)] = True
    y1, y2, y3 = (np.where(keep[y], y, 0) for y in (first, second, third))
    return 0.5 * (_change(y1, y2) + _change(y2, y3))


def _change(before: Labels, after: Labels) -> float:
    changed = int((before != after).sum())
    return changed / max(1, int((after > 0).sum()))

"""Which few of many stand for all: farthest-point sampling, so that what is chosen covers what there is.

farthest_points(features, chosen=labelled_features, count=100)     # [17, 203, ...], the farthest first
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def farthest_points(features: Features, *, chosen: Features, count: int) -> list[int]:
    """Rows of `features` (scan, feature), one after another the one farthest from all that is chosen.

    `chosen` (scan, feature) are there from the start, such as labelled scans; when there are none, the row
    nearest to the mean begins. Features are brought to one scale first. Of equally far rows the first is
    taken, so the order is the same on every machine (k-center greedy; Sener and Savarese 2018).
    """
    if not 0 <= count <= len(features):
        raise ValueError(f"{count} of {len(features)} rows can't be chosen")
    every = np.concatenate([features, chosen]) if len(chosen) else features
    middle, spread = every.mean(0), every.std(0)
    rows, there = ((part - middle) / np.where(spread > 0, spread, 1.0) for part in (features, chosen))
    order: list[int] = []
    if len(chosen):
        distance = np.min([np.linalg.norm(rows - one, axis=1) for one in there], axis=0)
    elif count:
        order = [int(np.linalg.norm(rows, axis=1).argmin())]
        distance = np.linalg.norm(rows - rows[order[0]], axis=1)
    while len(order) < count:
        distance[order] = -1.0
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(rows - rows[order[-1]], axis=1))
    return order

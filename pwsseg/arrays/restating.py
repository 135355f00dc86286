"""What a person restates of a case: some of its classes drawn anew, the others as they were."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from pwsseg.values import UNKNOWN

Labels = NDArray[np.uint8]


def restate(
    old: Labels, edited: Labels, *, annotated: Collection[int], stated: Collection[int], tumor: int
) -> Labels:
    """The annotation of a case after `edited` restated the classes `stated`; uint8 (z, y, x), as both are.

    1. A voxel drawn as a stated class takes it. A tumor of `old` that is not restated stays where an organ
       is drawn over it: tumors lie over organs.
    2. A voxel that was of a stated class and is drawn as none of them is free: 0 when every class annotated
       so far (`annotated`) is restated, else 255, since nobody said which of the others lies there.
    3. All other voxels stay. Classes outside `stated` in `edited` count for nothing.
    """
    is_stated = np.zeros(256, dtype=bool)
    is_stated[list(stated)] = True
    drawn = is_stated[edited]
    if tumor not in stated:
        drawn &= old != tumor
    nothing_open = set(annotated) <= set(stated)
    left = np.where(is_stated[old] | (old == UNKNOWN), np.uint8(0 if nothing_open else UNKNOWN), old)
    return np.where(drawn, edited, left)

"""Connected components: what a prediction keeps of each organ."""

from __future__ import annotations

from collections.abc import Collection

import cc3d
import numpy as np
from numpy.typing import NDArray


def keep_largest(
    labels: NDArray[np.uint8], *, organs: Collection[int], voxel_ml: float, floor_ml: dict[int, float]
) -> NDArray[np.uint8]:
    """Keep the largest 26-connected component of each organ; everything else of it becomes background.

    A largest component below the organ's floor (`floor_ml`, for large organs) goes too: a liver of 1 ml is
    a mistake. Classes outside `organs` (the tumor) are left as they are (METHOD.md, Post-processing).
    """
    kept = labels.copy()
    components = cc3d.connected_components(labels, connectivity=26)
    statistics = cc3d.statistics(components)
    sizes = statistics["voxel_counts"]
    owner = np.zeros(len(sizes), dtype=np.uint8)
    owner[components.ravel()] = labels.ravel()
    wrong = np.zeros(len(sizes), dtype=bool)
    for organ in organs:
        mine = np.flatnonzero(owner == organ)
        if not len(mine):
            continue
        largest = mine[sizes[mine].argmax()]
        wrong[mine] = True
        wrong[largest] = sizes[largest] * voxel_ml < floor_ml.get(organ, 0)
    kept[wrong[components]] = 0
    return kept

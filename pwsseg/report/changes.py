"""What a round changed: per class, the volume that one layer says and the one before it did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pwsseg.store import Layer, Store
from pwsseg.values import FLARE23, LabelSet


class Change(NamedTuple):
    """Millilitres of one class, summed over cases."""

    before: float
    gained: float
    lost: float


def changes(
    store: Store, earlier: Layer, later: Layer, *, cases: Sequence[str], label_set: LabelSet = FLARE23
) -> dict[int, Change]:
    """Gained and lost volume of every class that both layers speak about, over `cases` that both hold."""
    classes = sorted(set(earlier.record.pins.classes) & set(later.record.pins.classes) & set(label_set.ids))
    totals = np.zeros((3, 256))
    for case in cases:
        before, after = earlier.labels(case), later.labels(case)
        differs = before != after
        volume = store.scan(case).geometry.voxel_ml
        for row, voxels in enumerate((before, after[differs], before[differs])):
            totals[row] += volume * np.bincount(voxels.ravel(), minlength=256)
    return {c: Change(*totals[:, c].tolist()) for c in classes}

"""What differs between two layers, voxel by voxel, in one pass over each case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.layer import Layer
from pwsseg.store.records import CaseRecord
from pwsseg.values import StoreError

BLOCK = 1 << 20
"""Voxels counted at once: bincount widens what it counts to eight bytes a voxel."""


class Change(NamedTuple):
    """One class of one case in two layers that both speak about it there: voxels before, after, in both."""

    case: str
    label: int
    before: int
    after: int
    same: int
    voxel_ml: float

    @property
    def gained(self) -> int:
        """Voxels of the class in the second layer only."""
        return self.after - self.same

    @property
    def lost(self) -> int:
        """Voxels of the class in the first layer only."""
        return self.before - self.same

    @property
    def dice(self) -> float | None:
        """Overlap of both, in [0, 1]; None when neither has a voxel of the class."""
        total = self.before + self.after
        return 2 * self.same / total if total else None


def compare(first: Layer, second: Layer, cases: Sequence[str] | None = None) -> Iterator[Change]:
    """Every class of every case that both layers speak about, case by case; all common cases, or `cases`.

    Cases with one digest are not read: their counts stand in their records. StoreError when a case of
    `cases` is not in both layers, or the layers lie on different scans.
    """
    common = sorted(set(first.cases()) & set(second.cases()))
    missing = sorted(set(cases or ()).difference(common))
    if missing:
        raise StoreError(f"case {missing[0]} is not in both {first.id} and {second.id}")
    for case in common if cases is None else sorted(set(cases)):
        entries = first.entry(case), second.entry(case)
        if entries[0].scan != entries[1].scan:
            raise StoreError(f"case {case} lies on different scans in {first.id} and {second.id}")
        yield from _changes(first, second, entries)


def confusion(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels have label i in `first` and j in `second`, (256, 256); both (z, y, x)."""
    if first.shape != second.shape:
        raise ValueError(f"volumes of {first.shape} and {second.shape} voxels can't be compared")
    table = np.zeros(1 << 16, np.int64)
    a, b = first.reshape(-1), second.reshape(-1)
    for start in range(0, a.size, BLOCK):
        pairs = a[start : start + BLOCK].astype(np.uint16) << 8 | b[start : start + BLOCK]
        table += np.bincount(pairs, minlength=1 << 16)
    return table.reshape(256, 256)


def _changes(first: Layer, second: Layer, entries: tuple[CaseRecord, CaseRecord]) -> Iterator[Change]:
    one, other = entries
    ml = one.geometry.voxel_ml
    labels = sorted(set(one.annotated_classes) & set(other.annotated_classes))
    if one.digest == other.digest:
        for i in labels:
            n = one.voxels[str(i)]
            yield Change(case=one.case, label=i, before=n, after=n, same=n, voxel_ml=ml)
        return
    table = confusion(first.labels(one.case), second.labels(one.case))
    before, after = table.sum(axis=1), table.sum(axis=0)
    for i in labels:
        counts = {"before": int(before[i]), "after": int(after[i]), "same": int(table[i, i])}
        yield Change(case=one.case, label=i, voxel_ml=ml, **counts)


def summary(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """One row a class: cases, voxels before, after, gained, lost, ml gained, lost, mean Dice of the cases."""
    return [_row([c for c in changes if c.label == i], i) for i in sorted({c.label for c in changes})]


def _row(changes: Sequence[Change], label: int) -> dict[str, Any]:
    dice = [d for c in changes if (d := c.dice) is not None]
    return {
        "class": label,
        "cases": len(changes),
        "before": sum(c.before for c in changes),
        "after": sum(c.after for c in changes),
        "gained": sum(c.gained for c in changes),
        "lost": sum(c.lost for c in changes),
        "gained_ml": sum(c.gained * c.voxel_ml for c in changes),
        "lost_ml": sum(c.lost * c.voxel_ml for c in changes),
        "dice": sum(dice) / len(dice) if dice else None,
    }

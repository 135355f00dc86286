"""What differs between two layers: manifests say how much there is of each class, voxels what is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.layer import SIZE, Layer
from pwsseg.store.parallel import side_by_side
from pwsseg.values import StoreError

BLOCK = 1 << 20
"""Voxels counted at once: bincount widens what it counts to eight bytes a voxel."""
WORKERS = 4
"""Cases compared at once: the memory of a comparison is this many pairs of volumes."""


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

    What the manifests say is enough where a case has one digest in both; of the others the volumes are
    read, a few at a time. StoreError when a case of `cases` is not in both layers, or the layers lie on
    different scans.
    """
    ours, theirs = _manifest(first), _manifest(second)
    common = sorted(ours.keys() & theirs.keys())
    missing = sorted(set(cases or ()).difference(common))
    if missing:
        raise StoreError(f"case {missing[0]} is not in both {first.id} and {second.id}")
    wanted = common if cases is None else sorted(set(cases))
    for case in wanted:
        if ours[case]["scan"] != theirs[case]["scan"]:
            raise StoreError(f"case {case} lies on different scans in {first.id} and {second.id}")
    pairs = [(ours[case], theirs[case]) for case in wanted]
    for pair, same in zip(pairs, side_by_side(partial(_same, first, second), pairs, WORKERS), strict=True):
        yield from _changes(*pair, same)


def same_voxels(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels have label i in both, (256,), without the background; both are (z, y, x)."""
    if first.shape != second.shape:
        raise ValueError(f"volumes of {first.shape} and {second.shape} voxels can't be compared")
    counts = np.zeros(256, np.int64)
    a, b = first.reshape(-1), second.reshape(-1)
    for start in range(0, a.size, BLOCK):
        block, other = a[start : start + BLOCK], b[start : start + BLOCK]
        counts += np.bincount(block[(block == other) & (block != 0)], minlength=256)
    return counts


def _manifest(layer: Layer) -> dict[str, Any]:
    voxels = [f"voxels_{i}" for i in layer.record.pins.classes]
    columns = ("case", "digest", "scan", "annotated_classes", "voxel_ml", *SIZE, *voxels)
    return {row["case"]: row for row in layer.manifest(*columns)}


def _same(first: Layer, second: Layer, pair: tuple[Any, Any]) -> NDArray[np.int64] | None:
    """Voxels in both a label; None when all are."""
    one, other = pair
    if one["digest"] == other["digest"]:
        return None
    return same_voxels(first.stored(one), second.stored(other))


def _changes(one: Any, other: Any, same: NDArray[np.int64] | None) -> Iterator[Change]:
    for i in sorted(set(one["annotated_classes"]) & set(other["annotated_classes"])):
        before, after = one[f"voxels_{i}"], other[f"voxels_{i}"]
        both = before if same is None else int(same[i])
        yield Change(one["case"], i, before=before, after=after, same=both, voxel_ml=one["voxel_ml"])


def summary(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """One row a class: cases, voxels before, after, gained, lost, ml gained, lost, mean Dice of the cases."""
    return [{"class": label, "cases": len(cs)} | _amounts(cs) for label, cs in _grouped(changes, 1)]


def most_changed(changes: Sequence[Change], count: int) -> list[dict[str, Any]]:
    """The cases with most millilitres gained and lost in all classes, worst first: one row a case."""
    rows = [{"case": case} | _amounts(cs) for case, cs in _grouped(changes, 0)]
    moved = [row for row in rows if row["gained"] or row["lost"]]
    return sorted(moved, key=lambda r: (-(r["gained_ml"] + r["lost_ml"]), r["case"]))[:count]


def _grouped(changes: Sequence[Change], field: int) -> list[tuple[Any, list[Change]]]:
    groups: dict[Any, list[Change]] = {}
    for change in changes:
        groups.setdefault(change[field], []).append(change)
    return sorted(groups.items())


def _amounts(changes: Sequence[Change]) -> dict[str, Any]:
    before = after = same = 0
    gained_ml = lost_ml = 0.0
    dice = []
    for _, _, old, new, both, voxel_ml in changes:  # unpacked: properties of 56,000 changes take a second
        before, after, same = before + old, after + new, same + both
        gained_ml += (new - both) * voxel_ml
        lost_ml += (old - both) * voxel_ml
        if old + new:
            dice.append(2 * both / (old + new))
    return {
        "before": before,
        "after": after,
        "gained": after - same,
        "lost": before - same,
        "gained_ml": gained_ml,
        "lost_ml": lost_ml,
        "dice": sum(dice) / len(dice) if dice else None,
    }

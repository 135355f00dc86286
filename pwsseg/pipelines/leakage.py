"""The leakage guard: no training scan may show what a held-out scan shows.

leaks({"a": Shown("training", ...), "b": Shown("validation", ...)})
# {"a": "has the voxels of the held-out b"}

Equal voxels are found by the scans' digests; what was resaved, resampled or cropped by their fingerprints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pwsseg.arrays.likeness import ALIKE, Fingerprints, fingerprint
from pwsseg.formats.volume import Volume
from pwsseg.store.digests import bytes_digest, json_digest
from pwsseg.store.parallel import side_by_side
from pwsseg.store.scan import Split
from pwsseg.values import orientation_of, oriented


class Shown(NamedTuple):
    """What a scan's record tells of what it shows."""

    split: Split
    digest: str
    fingerprint: str


def fingerprint_of(scan: Volume) -> str:
    """The fingerprint of a scan of any orientation."""
    upright = np.ascontiguousarray(orientation_of(scan.geometry).apply(scan.array))
    return fingerprint(upright, oriented(scan.geometry).spacing)


def leaks(scans: Mapping[str, Shown]) -> dict[str, str]:
    """Training cases that show what a held-out case shows, with the reason; `scans` are all of a store."""
    held_out = {case: scan for case, scan in scans.items() if scan.split == "validation"}
    training = {case: scan for case, scan in scans.items() if scan.split == "training"}
    by_digest = {scan.digest: case for case, scan in held_out.items()}
    found = {
        case: f"has the voxels of the held-out {by_digest[scan.digest]}"
        for case, scan in training.items()
        if scan.digest in by_digest
    }
    others = list(held_out)
    unlike = [case for case in training if case not in found]
    alike = _most_alike([training[c].fingerprint for c in unlike], [held_out[c].fingerprint for c in others])
    for case, (share, other) in zip(unlike, alike, strict=True):
        if share >= ALIKE:
            found[case] = (
                f"shows what the held-out {others[other]} shows: "
                f"they have {share:.0%} of their blobs in common"
            )
    return found


_answers: dict[str, list[tuple[float, int]]] = {}
"""The last answer of `_most_alike`, by what was asked: the rounds of a job ask about the same scans."""


def _most_alike(some: list[str], others: list[str]) -> list[tuple[float, int]]:
    """For each of `some` the largest share in common with one of `others`, and with which."""
    if not others:
        return [(0.0, 0)] * len(some)
    asked = json_digest([len(some), *(bytes_digest(code.encode()) for code in (*some, *others))])
    if asked not in _answers:
        rows = side_by_side(Fingerprints(others).likeness, some, os.cpu_count() or 1)
        found = [(float(row.max()), int(row.argmax())) for row in rows]
        _answers.clear()
        _answers[asked] = found
    return _answers[asked]

"""What people corrected, into the next version of the annotation.

    report = fix(store, [Fix("case1", Path("case1.nii.gz"), frozenset({1, 14}))], note="JD: cyst, no tumor")

Only the stated classes of a file count; what they mean for the rest of the case is said by
`arrays.restating.restate`. It works in this process, without Ray: people correct few cases at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.restating import restate
from pwsseg.formats.nifti import check_same_grid, read_labels
from pwsseg.formats.reading import source_digest
from pwsseg.formats.volume import Volume
from pwsseg.pipelines.annotation import FIX, newest_annotation, next_pins, publish_next
from pwsseg.pipelines.over_cases import Item
from pwsseg.store import Layer, LayerDraft, Scan, Store
from pwsseg.store.volumes import histogram
from pwsseg.values import FLARE23, UNKNOWN, InputError, PwssegError, StoreError

RULE = "restated-by-people"


@dataclass(frozen=True)
class Fix:
    """An edited label file of a case, and the classes that it restates."""

    case: str
    path: Path
    classes: frozenset[int]


@dataclass(frozen=True)
class FixReport:
    """What became of the files."""

    annotation: Layer | None
    """The newest annotation now."""
    changed: dict[str, list[str]]
    """Cases that are annotated otherwise now, with sentences about what changed."""
    unchanged: list[str]
    """Cases that were annotated so already."""
    faults: dict[str, str]
    """Cases that were refused, with the reason."""


@dataclass(frozen=True)
class _Restated:
    """A case as it will be annotated, and the notes of it so far."""

    labels: NDArray[np.uint8]
    annotated: frozenset[int]
    notes: tuple[str, ...]
    told: list[str]
    same: bool


@dataclass(frozen=True)
class _Base:
    """What the files correct, and where they came from."""

    store: Store
    annotation: Layer | None
    cases: frozenset[str]
    """The cases that are annotated so far."""
    origin: Layer | None


def fix(store: Store, fixes: Iterable[Fix], *, note: str = "", origin: Layer | None = None) -> FixReport:
    """Publish an annotation in which each file's classes of its case are annotated as in the file.

    Files that can't be right become faults and the others go in; nothing is published when nothing changes.
    `note` and `origin`, the layer that the files were exported from, are kept with each case.
    """
    newest = newest_annotation(store)
    base = _Base(store, newest, frozenset(newest.cases() if newest else ()), origin)
    report = FixReport(newest, {}, [], {})
    good: dict[str, tuple[Fix, str]] = {}
    for one in fixes:
        try:
            restated, digest = _restated(base, one), source_digest(one.path)
        except PwssegError as error:
            report.faults[one.case] = str(error)
            continue
        if restated.same:
            report.unchanged.append(one.case)
        else:
            report.changed[one.case] = restated.told
            good[one.case] = one, digest
    return replace(report, annotation=_publish(base, good, note)) if good else report


def _publish(base: _Base, good: dict[str, tuple[Fix, str]], note: str) -> Layer:
    notes = {case: _note(base, one, digest=digest, note=note) for case, (one, digest) in good.items()}

    def write(draft: LayerDraft, waiting: list[str]) -> list[Item]:
        for case in waiting:  # read again, so that no more than one case is in memory
            one, digest = good[case]
            restated = _restated(base, one)
            if source_digest(one.path) != digest:
                raise InputError(
                    f"{one.path} changed while it was read; save it and run the same command again"
                )
            draft.write(
                case,
                restated.labels,
                annotated_classes=restated.annotated,
                seconds={},
                notes=(*restated.notes, notes[case]),
            )
        return []

    pins = next_pins(base.annotation, settings={"fixes": notes}, rules=(RULE,))
    return publish_next(base.store, base.annotation, pins, new=good, write=write)


def _note(base: _Base, one: Fix, *, digest: str, note: str) -> str:
    """The sentence that a case keeps: file, classes, what it corrects and came from, who and why."""
    classes = " ".join(str(k) for k in sorted(one.classes))
    corrected = base.annotation.id if base.annotation else "nothing"
    parts = [f"{FIX}{digest} {one.path.name}", f"classes {classes}", f"on {corrected}"]
    if base.origin is not None:
        parts.append(f"exported from {base.origin.id} {base.origin.digest[:12]}")
    return ", ".join(parts) + (f"; {note}" if note else "")


def _restated(base: _Base, one: Fix) -> _Restated:
    """The case after the fix; InputError or StoreError when the file or the case can't be right."""
    if not one.classes:
        raise InputError(f"nothing states the classes that {one.path} restates; name them")
    edited = read_labels(one.path, may_be_unknown=True)
    scan = _scan(base.store, one)
    if base.origin is not None:
        base.origin.entry(one.case)  # a layer without the case can't be where the file came from
    check_same_grid(Volume(edited.array, scan.geometry), edited, one.path)
    layer = base.annotation if one.case in base.cases else None
    entry = layer.entry(one.case) if layer else None
    before = frozenset(entry.annotated_classes if entry else ())
    old = layer.labels(one.case) if layer else np.zeros_like(edited.array)
    new = restate(old, edited.array, annotated=before, stated=one.classes, tumor=FLARE23.tumor)
    told = _told(old, edited.array, new, before=before, stated=one.classes)
    if scan.record.split == "validation":
        told.append("it is held out: scores against older annotation compare with another truth")
    return _Restated(
        labels=new,
        annotated=before | one.classes,
        notes=entry.notes if entry else (),
        told=told,
        same=before >= one.classes and np.array_equal(old, new),
    )


def _scan(store: Store, one: Fix) -> Scan:
    try:
        return store.scan(one.case)
    except StoreError as error:
        raise InputError(
            f"{one.path} is taken for case {one.case!r}, of which the store has no scan; name the file after "
            f"its case, or give --case"
        ) from error


def _told(
    old: NDArray[np.uint8],
    edited: NDArray[np.uint8],
    new: NDArray[np.uint8],
    *,
    before: frozenset[int],
    stated: frozenset[int],
) -> list[str]:
    """Sentences about what the fix does to a case."""
    drawn = np.isin(edited, list(stated))
    lines = ["states " + ", ".join(_change(old, new, k) for k in sorted(stated))]
    if ignored := sorted(set(histogram(edited)) - {0, UNKNOWN, *stated}):
        lines.append(f"ignores what the file says of {_names(ignored)}: not among the stated classes")
    lines += [
        f"{_names([k])} gives {lost} voxels to what is drawn over it"
        for k in sorted(before - stated)
        if (lost := int(np.count_nonzero((old == k) & (new != k))))
    ]
    if kept := int(
        np.count_nonzero(drawn & (old == FLARE23.tumor) & (new == FLARE23.tumor) & (edited != new))
    ):
        lines.append(f"{kept} voxels drawn as organ stay tumor; state {FLARE23.tumor}, too, to change that")
    if opened := int(np.count_nonzero((new == UNKNOWN) & (old != UNKNOWN))):
        lines.append(
            f"{opened} freed voxels are unknown now; state {_names(sorted(before - stated))}, too, to say "
            f"what lies there"
        )
    return lines


def _change(old: NDArray[np.uint8], new: NDArray[np.uint8], label: int) -> str:
    was, now = old == label, new == label
    if not now.any():
        return f"{_names([label])} (absent; -{np.count_nonzero(was)} voxels)"
    gained, lost = np.count_nonzero(now & ~was), np.count_nonzero(was & ~now)
    return f"{_names([label])} (+{gained} -{lost} voxels)"


def _names(labels: list[int]) -> str:
    return ", ".join(f"{k} {FLARE23[k].name}" for k in labels)

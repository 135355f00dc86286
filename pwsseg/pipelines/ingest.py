"""Files into the store: scans first, then one new version of the annotation layer with the good cases.

    report = ingest(store, found, annotated=..., resources=...)

A scan and its labels are read and checked before either is written, so a bad case leaves nothing behind;
good cases of the same batch go in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pwsseg.formats.found import Found, SourceCase
from pwsseg.formats.nifti import check_same_grid, read_labels
from pwsseg.formats.reading import read_volume, source_digest
from pwsseg.formats.volume import Volume
from pwsseg.pipelines.annotation import FIX, newest_annotation, next_pins, publish_next
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.leakage import fingerprint_of
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.store import AnnotationPins, Layer, LayerDraft, Source, Store
from pwsseg.values import UNKNOWN, InputError

Annotated = Mapping[str, frozenset[int]] | Literal["present"]
"""Stated classes of each case, or the rule "what is present is annotated, nothing else"."""


@dataclass(frozen=True)
class IngestReport:
    """What went in and what did not."""

    scans: list[str]
    """Cases whose scan is in the store now."""
    annotation: Layer | None
    """The annotation version that holds the labels now; None when no case has any."""
    faults: dict[str, str]
    """Cases that were refused, with the reason."""


def ingest(
    store: Store, found: Found, *, annotated: Annotated, any_range: bool, resources: Resources
) -> IngestReport:
    """Read, check and write what was found; publish a new annotation version when labels are new.

    Ingesting the same files again changes nothing.
    """
    items = [_item(case, annotated) for case in found.cases]
    done = over_cases(
        [i for i in items if not i.error],
        [Stage(_ingest_scan, {"location": store.location, "any_range": any_range})],
        resources=resources,
        progress=Progress("ingest", sum(not i.error for i in items)),
    )
    good = sorted((i for i in done if not i.error), key=lambda i: i.case)
    labelled = [i for i in good if i.fields["labels"]]
    annotation = _annotate(store, labelled, resources)
    faults = dict(found.faults) | {i.case: i.error for i in (*items, *done) if i.error}
    return IngestReport([i.case for i in good if not i.error], annotation, faults)


def _item(case: SourceCase, annotated: Annotated) -> Item:
    item = Item(
        case.case,
        {
            "scan": str(case.scan),
            "labels": str(case.labels) if case.labels else None,
            "meanings": sorted(case.meanings.items()) if case.meanings else None,
            "split": case.split,
            "annotated": None,
        },
    )
    if annotated == "present":
        return item
    stated = annotated.get(case.case, frozenset())
    item.fields["annotated"] = sorted(stated)
    if case.labels and case.case not in annotated:
        item.error = (
            f"{case.labels} has labels, but the annotated-classes table has no row for {case.case}; "
            f"add one, or say --annotated present"
        )
    elif stated and not case.labels:
        item.error = (
            f"the annotated-classes table states classes {sorted(stated)} for {case.case}, which has no "
            f"label file; add the file or empty the row"
        )
    elif not stated:
        item.fields["labels"] = None
    return item


def _ingest_scan(item: Item, *, location: str, any_range: bool) -> Item:
    """Read and check a scan and its labels; write the scan; state what is annotated."""
    path = Path(item.fields["scan"])
    scan = read_volume(path, any_range=any_range)
    if item.fields["labels"]:
        labels_path = Path(item.fields["labels"])
        labels = _read_labels(item)
        check_same_grid(scan, labels, labels_path)
        item.fields["annotated"] = _annotated_classes(item.fields["annotated"], labels.array, labels_path)
        item.fields["labels_digest"] = source_digest(labels_path)
    source = Source(format="dicom" if path.is_dir() else "nifti", name=path.name, digest=source_digest(path))
    Store.open(location).write_scan(
        item.case,
        scan.array,
        scan.geometry,
        source=source,
        split=item.fields["split"],
        fingerprint=fingerprint_of(scan),
    )
    return item


def _annotated_classes(stated: list[int] | None, labels: np.ndarray, path: Path) -> list[int]:
    present = [
        int(c) for c in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if c not in (0, UNKNOWN)
    ]
    if stated is None:
        return present
    surplus = sorted(set(present) - set(stated))
    if surplus:
        raise InputError(
            f"{path} holds voxels of classes {surplus}, but the annotated-classes table states only "
            f"{stated}; correct the table or the file"
        )
    return stated


def _annotate(store: Store, items: list[Item], resources: Resources) -> Layer | None:
    """Publish the next annotation version: what the newest one has, and the new cases.

    A case that people have corrected since gets an error: other labels would undo that without a word.
    """
    newest = newest_annotation(store)
    rows = newest.manifest("case", "annotated_classes", "notes") if newest else []
    held = {row["case"]: row for row in rows}
    new = [i for i in items if not _has(held.get(i.case), i)]
    for item in new:
        if newest and _is_fixed(held.get(item.case)):
            item.error = (
                f"{item.fields['labels']} states other labels of {item.case} than those that were corrected "
                f"by hand since ({newest.id}); give it by --fix with the classes that it restates"
            )
    new = [i for i in new if not i.error]
    if not new:
        return newest
    settings = {i.case: {"labels": i.fields["labels_digest"], "classes": i.fields["annotated"]} for i in new}
    pins = next_pins(newest, settings=settings, rules=("stated-by-people",))

    def write(draft: LayerDraft, waiting: list[str]) -> list[Item]:
        return over_cases(
            [Item(i.case, i.fields) for i in new if i.case in waiting],
            [Stage(_write_annotation, {"location": store.location, "pins": draft.record.pins})],
            resources=resources,
            progress=Progress("annotation", len(waiting)),
        )

    return publish_next(store, newest, pins, new=[i.case for i in new], write=write)


def _has(row: dict[str, Any] | None, item: Item) -> bool:
    """Whether the newest annotation, whose manifest has this row of the case, holds exactly these labels."""
    if row is None or _source_note(item) not in row["notes"]:
        return False
    held, stated = set(row["annotated_classes"]), set(item.fields["annotated"])
    return stated <= held if _is_fixed(row) else stated == held


def _is_fixed(row: dict[str, Any] | None) -> bool:
    return row is not None and any(note.startswith(FIX) for note in row["notes"])


def _source_note(item: Item) -> str:
    """How the notes of a case tell the label file, and what its values were taken to mean."""
    pairs = item.fields["meanings"]
    mapped = " map:" + ",".join(f"{old}={new}" for old, new in pairs) if pairs else ""
    return f"source:{item.fields['labels_digest']}{mapped}"


def _read_labels(item: Item) -> Volume:
    pairs = item.fields["meanings"]
    return read_labels(Path(item.fields["labels"]), meanings=dict(pairs) if pairs else None)


def _write_annotation(item: Item, *, location: str, pins: AnnotationPins) -> Item:
    Store.open(location).draft(pins).write(
        item.case,
        _read_labels(item).array,
        annotated_classes=item.fields["annotated"],
        seconds={},
        notes=(_source_note(item),),
    )
    return item

"""Files into the store: scans first, then one new version of the annotation layer with the good cases.

    report = ingest(store, found, annotated=..., resources=...)

A scan and its labels are read and checked before either is written, so a bad case leaves nothing behind;
good cases of the same batch go in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pwsseg.formats.flare import Found, SourceCase
from pwsseg.formats.nifti import check_same_grid, read_labels
from pwsseg.formats.reading import read_volume, source_digest
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.pipelines.publish import publish
from pwsseg.rounds import ANNOTATION
from pwsseg.store import AnnotationPins, Layer, Source, Store
from pwsseg.store.digests import code_digest
from pwsseg.values import FLARE23, InputError, StoreError

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
    faults = dict(found.faults) | {i.case: i.error for i in (*items, *done) if i.error}
    good = sorted((i for i in done if not i.error), key=lambda i: i.case)
    annotation = _annotate(store, [i for i in good if i.fields["labels"]], resources)
    return IngestReport([i.case for i in good], annotation, faults)


def _item(case: SourceCase, annotated: Annotated) -> Item:
    item = Item(
        case.case,
        {
            "scan": str(case.scan),
            "labels": str(case.labels) if case.labels else None,
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
        labels = read_labels(labels_path)
        check_same_grid(scan, labels, labels_path)
        item.fields["annotated"] = _annotated_classes(item.fields["annotated"], labels.array, labels_path)
        item.fields["labels_digest"] = source_digest(labels_path)
    source = Source(format="dicom" if path.is_dir() else "nifti", name=path.name, digest=source_digest(path))
    Store.open(location).write_scan(
        item.case, scan.array, scan.geometry, source=source, split=item.fields["split"]
    )
    return item


def _annotated_classes(stated: list[int] | None, labels: np.ndarray, path: Path) -> list[int]:
    present = [int(c) for c in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if c]
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
    """Publish the next annotation version: what the newest one has, and the new cases."""
    newest = _newest(store)
    new = [i for i in items if not _has(newest, i)]
    if not new:
        return newest
    pins = AnnotationPins(
        name=ANNOTATION,
        kind="annotation",
        classes=FLARE23.ids,
        parents=(newest.pin,) if newest else (),
        model=None,
        settings={
            i.case: {"labels": i.fields["labels_digest"], "classes": i.fields["annotated"]} for i in new
        },
        rules=("stated-by-people",),
        code=code_digest(),
    )
    if existing := store.published(pins):
        return existing
    draft = store.draft(pins)
    names = {i.case for i in new}
    carried = [c for c in newest.cases() if c not in names] if newest else []
    for case in carried:
        if newest and case not in draft.committed():
            draft.carry(case, newest)
    waiting = [i for i in new if i.case not in draft.committed()]
    done = over_cases(
        [Item(i.case, i.fields) for i in waiting],
        [Stage(_write_annotation, {"location": store.location, "pins": pins})],
        resources=resources,
        progress=Progress("annotation", len(waiting)),
    )
    return publish(draft, sorted([*carried, *names]), done)


def _newest(store: Store) -> Layer | None:
    try:
        return store.layer(ANNOTATION)
    except StoreError:
        return None


def _has(newest: Layer | None, item: Item) -> bool:
    """Whether the newest annotation holds exactly these labels of the case."""
    if newest is None or item.case not in newest.cases():
        return False
    entry = newest.entry(item.case)
    same_classes = list(entry.annotated_classes) == item.fields["annotated"]
    return same_classes and f"source:{item.fields['labels_digest']}" in entry.notes


def _write_annotation(item: Item, *, location: str, pins: AnnotationPins) -> Item:
    labels = read_labels(Path(item.fields["labels"]))
    Store.open(location).draft(pins).write(
        item.case,
        labels.array,
        annotated_classes=item.fields["annotated"],
        seconds={},
        notes=(f"source:{item.fields['labels_digest']}",),
    )
    return item

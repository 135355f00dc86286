"""A layer while it is being written: cases go in one by one, then one put publishes them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.digests import array_digest, bytes_digest, layer_digest
from pwsseg.store.documents import ARRAY, group_bytes, labels_metadata, parse
from pwsseg.store.layer import MANIFEST, Layer, case_path, layer_path, read_case, read_labels
from pwsseg.store.objects import Objects
from pwsseg.store.parallel import side_by_side
from pwsseg.store.records import (
    AcceptedDrift,
    CaseRecord,
    LayerRecord,
    Missing,
    PredictionPins,
    Published,
    now,
)
from pwsseg.store.scan import READERS, Scan, open_scan
from pwsseg.store.tables import manifest_bytes, read_rows
from pwsseg.store.versions import Room
from pwsseg.store.volumes import GROUP, histogram, keep_array
from pwsseg.values import UNKNOWN, LabelSet, StoreError

DISCARDED = "discarded"
"""Stands for the code in the pins of a draft that is being deleted, so nobody writes or publishes it."""


def layer_room(objects: Objects) -> Room[LayerRecord]:
    """The store's layers, drafts too."""
    return Room(objects, "layers", GROUP, LayerRecord, lambda record: group_bytes(record, arrays={}))


class Proof:
    """Reads the committed cases of a draft for whoever judges it; nothing can be pinned to them. Pickles."""

    def __init__(self, objects: Objects, draft: str) -> None:
        self._objects = objects
        self._draft = draft

    def entry(self, case: str) -> CaseRecord:
        """The record of a committed case; StoreError when it is not there."""
        record = read_case(self._objects, self._draft, case)
        if record is None:
            raise StoreError(f"draft {self._draft} has no labels for case {case!r} yet")
        return record

    def labels(self, case: str) -> NDArray[np.uint8]:
        """The label volume (z, y, x) of a committed case, on the scan's grid."""
        return read_labels(self._objects, self._draft, self.entry(case))


class LayerDraft:
    """Writes one version of a layer; can't be read as a source. Pickles, so workers write into it too.

    Safe to repeat: a case that is committed is left alone, and after publishing (perhaps by another
    driver with the same pins) `write` and `publish` only confirm what is there.
    """

    def __init__(self, objects: Objects, record: LayerRecord, label_set: LabelSet) -> None:
        self._objects = objects
        self._label_set = label_set
        self.record = record

    @property
    def id(self) -> str:
        """Name and version, such as `ots2.v1`."""
        return self.record.id

    def committed(self) -> set[str]:
        """The cases whose commit record is there: what a resumed run need not do again."""
        prefix = layer_path(self.id)
        parts = (key[len(prefix) + 1 :].split("/") for key, _ in self._objects.listed(prefix))
        return {p[0] for p in parts if len(p) == 2 and p[1] == GROUP}

    def write(
        self,
        case: str,
        labels: NDArray[np.uint8],
        *,
        annotated_classes: Iterable[int],
        seconds: Mapping[str, float],
        notes: Iterable[str] = (),
        measures: Mapping[str, float] | None = None,
    ) -> CaseRecord:
        """Put one case: the array (z, y, x) on its scan's grid, then the commit record.

        The first commit of a case stays: whoever writes it again, or at the same time, gets the record
        that is there. `annotated_classes` are those that the layer speaks about in this case; `seconds`
        and `measures` are kept as given and don't count for the digest. StoreError when the grid is not
        the scan's, or the labels hold what the layer or `annotated_classes` doesn't name.
        """
        scan = open_scan(self._objects, case)
        stated = tuple(sorted(set(annotated_classes)))
        self._check(scan, labels, stated)
        there = self._already(scan)
        if there is not None:
            return there
        path = case_path(self.id, case)
        stored, metadata = keep_array(self._objects, path, labels, "labels")
        record = CaseRecord(
            type="case",
            case=case,
            geometry=scan.geometry,
            scan=scan.digest,
            annotated_classes=stated,
            voxels=self._check(scan, stored, stated),
            seconds=dict(seconds),
            measures=dict(measures or {}),
            notes=tuple(notes),
            digest=array_digest(stored),
        )
        ome = labels_metadata(record, self._label_set)
        commit = group_bytes(record, ome=ome, arrays={ARRAY: metadata})
        if self._objects.create(f"{path}/{GROUP}", commit):
            self._check_in_time(case)
            return record
        return read_case(self._objects, self.id, case) or record

    def carry(self, case: str, from_layer: Layer) -> CaseRecord:
        """Take over a case from a published layer as it is stored, without decoding it."""
        entry = from_layer.entry(case)
        self._check_stated(case, entry.annotated_classes)
        there = self._already(open_scan(self._objects, case))
        if there is not None:
            return there
        source, target = case_path(from_layer.id, case), case_path(self.id, case)
        for key in sorted(self._objects.keys(source), key=lambda k: k == f"{source}/{GROUP}"):
            if not self._objects.create(f"{target}{key[len(source) :]}", self._objects.read(key) or b""):
                raise StoreError(
                    f"case {case} of draft {self.id} holds other labels than {from_layer.id}; two runs write "
                    f"it, so let one finish, then start the other again"
                )
        self._check_in_time(case)
        return entry

    def proof(self) -> Proof:
        """What is committed so far, to be judged before it is published."""
        return Proof(self._objects, self.id)

    def publish(
        self,
        cases: Iterable[str],
        *,
        accepted_drift: AcceptedDrift | None = None,
        missing: Mapping[str, str] = MappingProxyType({}),
    ) -> Layer:
        """Make exactly these cases a published layer; `missing`: those it goes without, each with its reason.

        Checks each case, writes the manifest, then flips the state in one put. StoreError names the
        cases that are missing or lie on another grid than their scan's; then nothing is changed.
        """
        wanted = sorted(set(cases))
        published = self._published()
        if published is not None:
            return self._same_cases(Layer(self._objects, published), wanted)
        manifest = self._claim(self._checked(wanted))
        rows = read_rows(manifest, ["case", "digest", "annotated_classes"])
        sizes = self._sizes()  # after the claim: who commits another case from now on takes it back
        self._drop(sizes.keys() - set(wanted))
        state = Published(
            state="published",
            created=now(),
            cases=len(wanted),
            bytes=sum(sizes[case] for case in wanted) + len(manifest),
            manifest=bytes_digest(manifest),
            digest=layer_digest((r["case"], r["digest"], r["annotated_classes"]) for r in rows),
            accepted_drift=accepted_drift,
            missing=tuple(Missing(case=case, reason=why) for case, why in sorted(missing.items())),
        )
        record = self.record.model_copy(update={"state": state})
        if layer_room(self._objects).replace(self.record, record):
            return Layer(self._objects, record)
        return self._overtaken(wanted)

    def discard(self) -> None:
        """Delete the draft and all in it; StoreError when it has been published."""
        gone = self.record.pins.model_copy(update={"code": DISCARDED})  # pins that no other run has
        if self._published() is None:
            layer_room(self._objects).replace(self.record, self.record.model_copy(update={"pins": gone}))
        record = layer_room(self._objects).read(self.id)
        if record is not None and isinstance(record.state, Published):
            raise StoreError(f"layer {self.id} is published, and published is for ever; it is kept")
        self._drop(self.committed())
        prefix = layer_path(self.id)
        for key in sorted(self._objects.keys(prefix), key=lambda k: k == f"{prefix}/{GROUP}"):
            self._objects.remove(key)

    def _claim(self, entries: Iterable[CaseRecord]) -> bytes:
        """Put the manifest unless it is there; its bytes. From then on the draft's cases are fixed."""
        key, classes = f"{layer_path(self.id)}/{MANIFEST}", self.record.pins.classes
        manifest = manifest_bytes(entries, classes)
        if self._objects.create(key, manifest):
            return manifest
        there = self._objects.read(key)
        if there is None or read_rows(there) != read_rows(manifest):
            raise StoreError(
                f"layer {self.id} can't be published: another run is publishing it with other cases, or was "
                f"killed while it did; let it finish, or remove the draft by `pwsseg verify --repair`"
            )
        return there

    def _overtaken(self, wanted: list[str]) -> Layer:
        """The layer as another driver has published it; StoreError when the draft was discarded meanwhile."""
        try:
            published = self._published()
        except StoreError:
            self._objects.remove(f"{layer_path(self.id)}/{MANIFEST}")
            raise
        if published is None:
            raise StoreError(f"draft {self.id} is not as this run left it; start the round again")
        return self._same_cases(Layer(self._objects, published), wanted)

    def _check_in_time(self, case: str) -> None:
        """Take this writer's own commit back if the layer was discarded, or its cases fixed without this one.

        The publisher puts the manifest, then looks for cases; the writer commits, then looks for the
        manifest: one of them sees the other.
        """
        manifest = self._objects.read(f"{layer_path(self.id)}/{MANIFEST}")
        if self._current() and (manifest is None or {"case": case} in read_rows(manifest, ["case"])):
            return
        self._drop([case])
        raise StoreError(
            f"case {case} came too late for layer {self.id}, which was published without it or discarded "
            f"meanwhile; start the round again"
        )

    def _sizes(self) -> dict[str, int]:
        """Bytes of each case that has any object, committed or not."""
        prefix, sizes = layer_path(self.id), Counter[str]()
        for key, size in self._objects.listed(prefix):
            case, _, inner = key[len(prefix) + 1 :].partition("/")
            if inner:
                sizes[case] += size
        return sizes

    def _published(self) -> LayerRecord | None:
        record = self._current()
        if record is None:
            raise StoreError(f"draft {self.id} is gone; another run discarded it, so start the round again")
        return record if isinstance(record.state, Published) else None

    def _current(self) -> LayerRecord | None:
        """The record as it stands in the store; None when this version is another's now, or gone."""
        key = layer_room(self._objects).key(self.id)
        data = self._objects.read(key)
        if data is None:
            return None
        if data == self._document:  # asked twice a case, so the usual answer isn't parsed
            return self.record
        record = parse(data, key, LayerRecord)
        return record if record.pins.digest == self.record.pins.digest else None

    @cached_property
    def _document(self) -> bytes:
        """The bytes of the record that this draft was made with."""
        return layer_room(self._objects).encode(self.record)

    def _already(self, scan: Scan) -> CaseRecord | None:
        """What is committed of this scan; StoreError when nothing is and the layer is published."""
        published = self._published()  # before the case: once published, what is read of it is final
        there = read_case(self._objects, self.id, scan.case)
        if there is not None and _on_grid(there, scan):
            return there
        if published is not None:
            raise StoreError(
                f"layer {self.id} is published and for ever; case {scan.case} needs a new version"
            )
        if there is not None:
            self._drop([scan.case])
        return None

    def _check(self, scan: Scan, labels: NDArray[np.uint8], stated: tuple[int, ...]) -> dict[str, int]:
        """Voxels a class, as the record says them."""
        if labels.dtype != np.uint8 or labels.shape != scan.geometry.shape:
            raise StoreError(
                f"labels of case {scan.case} are {labels.dtype} {labels.shape}; "
                f"expected uint8 {scan.geometry.shape}, the scan's grid"
            )
        self._check_stated(scan.case, stated)
        counts = histogram(labels)
        allowed = set(stated) if isinstance(self.record.pins, PredictionPins) else {*stated, UNKNOWN}
        strange = sorted(set(counts) - allowed - {0})
        if strange:
            raise StoreError(
                f"labels of case {scan.case} hold {strange}, of which only {sorted(allowed)} are stated"
            )
        keys = [*stated, UNKNOWN] if UNKNOWN in counts else list(stated)
        return {str(i): counts.get(i, 0) for i in keys}

    def _check_stated(self, case: str, stated: tuple[int, ...]) -> None:
        strange = sorted(set(stated) - set(self.record.pins.classes))
        if strange:
            raise StoreError(
                f"case {case} states classes {strange}, which layer {self.id} doesn't speak about"
            )

    def _checked(self, cases: list[str]) -> Iterator[CaseRecord]:
        """The cases' commit records; StoreError, at the end, when some are missing or off their scans."""
        missing, moved = [], []
        for case, (entry, fits) in zip(cases, side_by_side(self._fitting, cases, READERS), strict=True):
            if entry is None:
                missing.append(case)
            elif not fits:
                moved.append(case)
            else:
                yield entry
        if missing:
            raise StoreError(f"layer {self.id} can't be published: {_few(missing)} not written; run it again")
        if moved:
            raise StoreError(f"layer {self.id} can't be published: {_few(moved)} not on the scan's grid")

    def _fitting(self, case: str) -> tuple[CaseRecord | None, bool]:
        """The commit record of a case, and whether its labels lie on the scan's grid."""
        entry = read_case(self._objects, self.id, case)
        return entry, entry is not None and _on_grid(entry, open_scan(self._objects, case))

    def _same_cases(self, layer: Layer, wanted: list[str]) -> Layer:
        if layer.cases() != wanted:
            raise StoreError(f"layer {self.id} is published with other cases; make a version with other pins")
        return layer

    def _drop(self, cases: Iterable[str]) -> None:
        for case in cases:
            path = case_path(self.id, case)
            for key in sorted(self._objects.keys(path), key=lambda k: k != f"{path}/{GROUP}"):
                self._objects.remove(key)


def _on_grid(entry: CaseRecord, scan: Scan) -> bool:
    return entry.geometry == scan.geometry and entry.scan == scan.digest


def _few(cases: list[str]) -> str:
    shown = ", ".join(cases[:5])
    rest = f" and {len(cases) - 5} more" if len(cases) > 5 else ""
    return f"{'case' if len(cases) == 1 else 'cases'} {shown}{rest}"

"""Checks a whole store against itself: every byte, every digest, every parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, NamedTuple, TypeVar

from pwsseg.store.digests import bytes_digest, layer_digest
from pwsseg.store.documents import ARRAY, envelope, folder_bytes, parse, seal_holds
from pwsseg.store.draft import histogram
from pwsseg.store.layer import MANIFEST, case_path, layer_path
from pwsseg.store.layout import CHUNK
from pwsseg.store.model import DOCUMENT, curve_key, weights_key
from pwsseg.store.objects import Objects
from pwsseg.store.records import (
    CaseRecord,
    LayerRecord,
    ModelRecord,
    Pin,
    PreparedRecord,
    Published,
    Record,
    ScanRecord,
    ScoresRecord,
    StoreRecord,
    Trained,
)
from pwsseg.store.scan import scan_path
from pwsseg.store.store import ROOMS, Store
from pwsseg.store.tables import manifest_bytes, read_rows
from pwsseg.store.volumes import GROUP, read_voxels
from pwsseg.values import StoreError

WORKERS = 4
"""Volumes decoded at once: the memory of a verification is this many volumes."""
SCRATCH = "runs/"

R = TypeVar("R", bound=Record)


class Finding(NamedTuple):
    """Something to know: an `error` means the store can't be trusted there, a `note` is only unfinished."""

    level: Literal["error", "note"]
    where: str
    what: str


class _Check:
    """One verification: collects findings, and the keys that are accounted for."""

    def __init__(self, store: Store) -> None:
        self.objects: Objects = store.objects
        self.keys = {k for k in self.objects.keys("") if not k.startswith(SCRATCH)}
        self.known: set[str] = set()
        self.scans: dict[str, ScanRecord] = {}
        self.pins: dict[tuple[str, str], str] = {}

    def document(self, key: str, kind: type[R]) -> tuple[R | None, list[Finding]]:
        """The record at `key`, and what is wrong with the document."""
        self.known.add(key)
        data = self.objects.read(key)
        if data is None:
            return None, [Finding("error", key, "is missing")]
        try:
            record = parse(data, key, kind)
        except StoreError as error:
            return None, [Finding("error", key, str(error))]
        broken = [] if seal_holds(data) else [Finding("error", key, "was changed after it was written")]
        return record, broken

    def volume(self, path: str, kind: type[R]) -> tuple[R | None, list[Finding]]:
        """The record of a volume, and what is wrong with it, its array's metadata or its voxels."""
        record, found = self.document(f"{path}/{GROUP}", kind)
        self.known.update((f"{path}/{ARRAY}/{GROUP}", f"{path}/{ARRAY}/{CHUNK}"))
        if record is None or found:
            return record, found
        assert isinstance(record, ScanRecord | CaseRecord | PreparedRecord)
        if path.rsplit("/", 1)[-1] != record.case:
            found.append(Finding("error", path, f"holds the record of case {record.case}"))
        group = self.objects.read(f"{path}/{GROUP}") or b""
        metadata = self.objects.read(f"{path}/{ARRAY}/{GROUP}")
        if metadata is None or envelope(group, path).arrays != {ARRAY: bytes_digest(metadata)}:
            return record, [*found, Finding("error", path, "its array's zarr.json is missing or changed")]
        return record, [*found, *self._voxels(path, record)]

    def _voxels(self, path: str, record: ScanRecord | CaseRecord | PreparedRecord) -> list[Finding]:
        try:
            array = read_voxels(self.objects, path, record)
        except StoreError as error:
            return [Finding("error", path, str(error))]
        if array.shape != record.geometry.shape:
            return [Finding("error", path, f"has {array.shape} voxels, its record {record.geometry.shape}")]
        if isinstance(record, CaseRecord):
            stated = {int(k): n for k, n in record.voxels.items() if n}
            counted = {k: n for k, n in histogram(array).items() if k}
            if stated != counted:
                return [Finding("error", path, "the voxels a class are not those its record counts")]
        return []

    def pinned(self, where: str, room: str, pins: Iterable[Pin]) -> Iterator[Finding]:
        """What is wrong with the parents that a record names."""
        for pin in pins:
            digest = self.pins.get((room, pin.id))
            if digest is None:
                yield Finding("error", where, f"its parent {pin.id} is not in the store")
            elif digest != pin.digest:
                yield Finding("error", where, f"its parent {pin.id} is not the one it was made from")


def verify(store: Store) -> Iterator[Finding]:
    """Every finding in a store, as they turn up; nothing at all for a healthy one.

    Reads every object once or twice and decodes every volume, a few at a time; changes nothing.
    """
    check = _Check(store)
    yield from check.document(GROUP, StoreRecord)[1]
    yield from _rooms(check)
    yield from _scans(check, store)
    layers = [*_documents(check, "layers", GROUP, LayerRecord)]
    models = [*_documents(check, "models", DOCUMENT, ModelRecord)]
    for record, found in [*layers, *models]:
        yield from found
        if isinstance(record, LayerRecord) and isinstance(record.state, Published):
            check.pins["layers", record.id] = record.state.digest
        if isinstance(record, ModelRecord) and isinstance(record.state, Trained):
            check.pins["models", record.id] = record.state.weights
    for layer, _ in layers:
        if layer is not None:
            yield from _layer(check, layer)
    for model, _ in models:
        if model is not None:
            yield from _model(check, model)
    yield from _prepared(check)
    yield from _scores(check)
    for key in sorted(check.keys - check.known):
        yield Finding("error", key, "belongs to nothing in the store")


def _rooms(check: _Check) -> Iterator[Finding]:
    recipes = {
        f"prepared/{k.split('/')[1]}" for k in check.keys if k.startswith("prepared/") and k.count("/") > 1
    }
    for room in sorted({*ROOMS, *recipes}):
        check.known.add(f"{room}/{GROUP}")
        if check.objects.read(f"{room}/{GROUP}") != folder_bytes():
            yield Finding("error", f"{room}/{GROUP}", "is missing or changed")


def _scans(check: _Check, store: Store) -> Iterator[Finding]:
    paths = [scan_path(case) for case in store.cases()]
    for record, found in _parallel(partial(check.volume, kind=ScanRecord), paths):
        yield from found
        if record is not None:
            check.scans[record.case] = record


def _documents(
    check: _Check, room: str, document: str, kind: type[R]
) -> Iterator[tuple[R | None, list[Finding]]]:
    names = {k.split("/")[1] for k in check.keys if k.startswith(f"{room}/") and k.count("/") > 1}
    for name in sorted(names):
        record, found = check.document(f"{room}/{name}/{document}", kind)
        if isinstance(record, LayerRecord | ModelRecord) and record.id != name:
            found.append(Finding("error", f"{room}/{name}", f"holds the record of {record.id}"))
        yield record, found


def _layer(check: _Check, layer: LayerRecord) -> Iterator[Finding]:
    path = layer_path(layer.id)
    inside = {k for k in check.keys if k.startswith(f"{path}/")}
    if not isinstance(layer.state, Published):
        check.known |= inside
        yield Finding("note", path, "is an unfinished draft")
        return
    yield from check.pinned(path, "layers", layer.pins.parents)
    yield from check.pinned(path, "models", () if layer.pins.model is None else (layer.pins.model,))
    cases = sorted({k.split("/")[2] for k in inside if k.count("/") > 2})
    entries: list[CaseRecord] = []
    paths = [case_path(layer.id, case) for case in cases]
    for where, (entry, found) in zip(
        paths, _parallel(partial(check.volume, kind=CaseRecord), paths), strict=True
    ):
        yield from found
        if entry is not None:
            entries.append(entry)
            yield from _on_scan(check, where, entry)
    yield from _whole_layer(check, layer, layer.state, entries)


def _on_scan(check: _Check, where: str, entry: CaseRecord) -> Iterator[Finding]:
    scan = check.scans.get(entry.case)
    if scan is None:
        yield Finding("error", where, "has no scan in the store")
    elif scan.digest != entry.scan or scan.geometry != entry.geometry:
        yield Finding("error", where, "lies on another scan than the one in the store")


def _whole_layer(
    check: _Check, layer: LayerRecord, state: Published, entries: list[CaseRecord]
) -> Iterator[Finding]:
    path = layer_path(layer.id)
    check.known.add(f"{path}/{MANIFEST}")
    manifest = check.objects.read(f"{path}/{MANIFEST}")
    if manifest is None or bytes_digest(manifest) != state.manifest:
        yield Finding("error", f"{path}/{MANIFEST}", "is missing or not the one that was published")
    elif read_rows(manifest) != read_rows(manifest_bytes(entries, layer.pins.classes)):
        yield Finding("error", f"{path}/{MANIFEST}", "does not list the cases as their records do")
    if len(entries) != state.cases:
        yield Finding("error", path, f"has {len(entries)} of the {state.cases} cases that were published")
    if layer_digest((e.case, e.digest, e.annotated_classes) for e in entries) != state.digest:
        yield Finding("error", path, "the digest of its cases is not the one that was published")


def _model(check: _Check, model: ModelRecord) -> Iterator[Finding]:
    path = f"models/{model.id}"
    if not isinstance(model.state, Trained):
        check.known |= {k for k in check.keys if k.startswith(f"{path}/")}
        yield Finding("note", path, "is an unfinished training")
        return
    starts = () if model.pins.starts_from is None else (model.pins.starts_from,)
    yield from check.pinned(path, "layers", model.pins.targets)
    yield from check.pinned(path, "models", starts)
    files = (
        (weights_key(model.id), model.state.weights),
        (curve_key(model.id, model.state.weights), model.state.curve),
    )
    for key, digest in files:
        yield from _object(check, key, digest)


def _object(check: _Check, key: str, digest: str) -> Iterator[Finding]:
    check.known.add(key)
    data = check.objects.read(key)
    if data is None or bytes_digest(data) != digest:
        yield Finding("error", key, "is missing" if data is None else "is damaged")


def _prepared(check: _Check) -> Iterator[Finding]:
    paths = sorted(
        {"/".join(k.split("/")[:3]) for k in check.keys if k.startswith("prepared/") and k.count("/") > 2}
    )
    complete = [p for p in paths if f"{p}/{GROUP}" in check.keys]
    check.known |= {k for k in check.keys if k.startswith("prepared/")}
    for path in set(paths).difference(complete):
        yield Finding("note", path, "is half written and will be made again")
    for record, found in _parallel(partial(check.volume, kind=PreparedRecord), complete):
        yield from found
        scan = None if record is None else check.scans.get(record.case)
        if record is not None and (scan is None or scan.digest != record.scan):
            yield Finding("note", f"prepared/{record.recipe}/{record.case}", "was made from another scan")


def _scores(check: _Check) -> Iterator[Finding]:
    for key in sorted(k for k in check.keys if k.startswith("scores/") and k.endswith(".json")):
        record, found = check.document(key, ScoresRecord)
        yield from found
        table = f"{key.removesuffix('.json')}.parquet"
        check.known.add(table)
        if record is not None:
            yield from check.pinned(key, "layers", (record.layer, record.reference))
            yield from _object(check, table, record.table)


T = TypeVar("T")


def _parallel(check: Callable[[str], T], paths: Iterable[str]) -> Iterator[T]:
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(check, paths)

"""Checks a whole store against itself: every byte, every digest, every parent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import TypeVar

from pwsseg.store.check import Check, Finding
from pwsseg.store.digests import bytes_digest, layer_digest
from pwsseg.store.documents import folder_bytes
from pwsseg.store.graph import Key, sources_of
from pwsseg.store.layer import MANIFEST, case_path, layer_path
from pwsseg.store.model import DOCUMENT, curve_key, weights_key
from pwsseg.store.parallel import side_by_side
from pwsseg.store.records import (
    CaseRecord,
    LayerRecord,
    ModelRecord,
    PreparedRecord,
    Published,
    Record,
    RetirementRecord,
    ScanRecord,
    ScoresRecord,
    StoreRecord,
    Trained,
)
from pwsseg.store.retirements import RETIRED, retirement_key
from pwsseg.store.scan import scan_path
from pwsseg.store.store import ROOMS, Store
from pwsseg.store.tables import Row, manifest_bytes, manifest_rows, read_rows
from pwsseg.store.volumes import GROUP
from pwsseg.values import StoreError

WORKERS = 4
"""Volumes decoded at once: the memory of a verification is this many volumes."""

R = TypeVar("R", bound=Record)


def verify(store: Store) -> Iterator[Finding]:
    """Every finding in a store, as they turn up; nothing at all for a healthy one.

    Reads every object once or twice and decodes every volume, a few at a time; changes nothing.
    """
    check = Check(store)
    yield from check.document(GROUP, StoreRecord)[1]
    yield from check.behind_links()
    yield from _rooms(check)
    yield from _scans(check)
    yield from _retirements(check)
    layers = [*_documents(check, "layers", GROUP, LayerRecord)]
    models = [*_documents(check, "models", DOCUMENT, ModelRecord)]
    for record, found in [*layers, *models]:
        yield from found
        if isinstance(record, LayerRecord) and isinstance(record.state, Published):
            check.pins["layers", record.id] = record.state.digest
        if isinstance(record, ModelRecord) and isinstance(record.state, Trained):
            check.pins["models", record.id] = record.state.weights
    check.kept = check.pins.keys() - check.retired.keys()
    sources = {source for record, _ in [*layers, *models] if record for source in sources_of(record)}
    for layer, _ in layers:
        if layer is not None:
            yield from _layer(check, layer, sources)
    for model, _ in models:
        if model is not None:
            yield from _model(check, model, sources)
    yield from _prepared(check)
    yield from _scores(check)
    for key in sorted(check.keys - check.known):
        loose = (key,) if check.loose(key) else ()
        yield Finding("error", key, "belongs to nothing in the store", loose)


def _rooms(check: Check) -> Iterator[Finding]:
    recipes = {
        f"prepared/{k.split('/')[1]}" for k in check.keys if k.startswith("prepared/") and k.count("/") > 1
    }
    for room in sorted({*ROOMS, *recipes}):
        check.known.add(f"{room}/{GROUP}")
        if check.read(f"{room}/{GROUP}") != folder_bytes():
            yield Finding("error", f"{room}/{GROUP}", "is missing or changed")


def _scans(check: Check) -> Iterator[Finding]:
    parts = (k.split("/") for k in check.keys if k.startswith("scans/"))
    paths = sorted(scan_path(p[1]) for p in parts if len(p) == 3 and p[2] == GROUP)
    for record, found in side_by_side(partial(check.volume, kind=ScanRecord), paths, WORKERS):
        yield from found
        if record is not None:
            check.scans[record.case] = record


def _retirements(check: Check) -> Iterator[Finding]:
    for key in sorted(k for k in check.keys if k.startswith(f"{RETIRED}/")):
        record, found = check.document(key, RetirementRecord)
        yield from found
        if record is not None and key == retirement_key(record.room, record.pin.id):
            check.retired[record.room, record.pin.id] = record
        elif record is not None:
            yield Finding("error", key, f"holds the retirement of {record.pin.id}")


def _documents(
    check: Check, room: str, document: str, kind: type[R]
) -> Iterator[tuple[R | None, list[Finding]]]:
    names = {k.split("/")[1] for k in check.keys if k.startswith(f"{room}/") and k.count("/") > 1}
    for name in sorted(names):
        record, found = check.document(f"{room}/{name}/{document}", kind)
        if isinstance(record, LayerRecord | ModelRecord) and record.id != name:
            found.append(Finding("error", f"{room}/{name}", f"holds the record of {record.id}"))
        if record is not None and not found:
            check.sound.add(f"{room}/{name}")
        yield record, found


def _layer(check: Check, layer: LayerRecord, sources: Collection[Key]) -> Iterator[Finding]:
    path = layer_path(layer.id)
    inside = {k for k in check.keys if k.startswith(f"{path}/")}
    if not isinstance(layer.state, Published):
        check.known |= inside
        yield _unfinished(check, path, "is an unfinished draft", Key("layers", layer.id) in sources)
        cases = [k.split("/")[2] for k in sorted(inside) if k.count("/") == 3 and k.endswith(f"/{GROUP}")]
        yield from _cases(check, layer, cases, [])
        return
    yield from check.pinned(path, "layers", layer.pins.parents)
    yield from check.pinned(path, "models", () if layer.pins.model is None else (layer.pins.model,))
    if (
        retirement := check.retired.get(("layers", layer.id))
    ) and retirement.pin.digest != layer.state.digest:
        yield Finding("error", retirement_key("layers", layer.id), "is about another layer of this id")
    rows, found = _manifest(check, layer, layer.state)
    yield from found
    if check.gone("layers", layer.id):
        check.known |= inside
        if left := inside - {f"{path}/{GROUP}", f"{path}/{MANIFEST}"}:
            yield Finding("note", path, f"is deleted but for {len(left)} objects; run `pwsseg gc` again")
        return
    listed = (
        {k.split("/")[2] for k in inside if k.count("/") > 2} if rows is None else {r["case"] for r in rows}
    )
    entries: list[CaseRecord] = []
    yield from _cases(check, layer, sorted(listed), entries)
    if rows is not None and len(entries) == len(rows) and not _lists(rows, entries, layer.pins.classes):
        yield Finding("error", f"{path}/{MANIFEST}", "does not list the cases as their records do")
    if len(entries) != layer.state.cases:
        yield Finding(
            "error", path, f"has {len(entries)} of the {layer.state.cases} cases that were published"
        )
    if layer_digest((e.case, e.digest, e.annotated_classes) for e in entries) != layer.state.digest:
        yield Finding("error", path, "the digest of its cases is not the one that was published")


def _lists(rows: list[Row], entries: list[CaseRecord], classes: tuple[int, ...]) -> bool:
    """Whether a manifest says what its cases' records say; what a forged record says fits in none."""
    try:
        return rows == read_rows(manifest_bytes(entries, classes))
    except (StoreError, ValueError, OverflowError):
        return False


def _unfinished(check: Check, path: str, what: str, needed: bool) -> Finding:
    """A draft may go as a whole, unless something was made from it: then its record was changed."""
    loose = (
        ()
        if needed or path not in check.sound or check.holds_link(path)
        else tuple(sorted(k for k in check.keys if k.startswith(f"{path}/")))
    )
    return Finding("note", path, what, loose)


def _manifest(check: Check, layer: LayerRecord, state: Published) -> tuple[list[Row] | None, list[Finding]]:
    """The rows of a published manifest, None when they can't be trusted."""
    key = f"{layer_path(layer.id)}/{MANIFEST}"
    check.known.add(key)
    data = check.read(key)
    if data is None or bytes_digest(data) != state.manifest:
        check.sound.discard(layer_path(layer.id))
        return None, [Finding("error", key, "is missing or not the one that was published")]
    try:
        rows = manifest_rows(data, key)
    except StoreError as error:
        check.sound.discard(layer_path(layer.id))
        return None, [Finding("error", key, str(error).removeprefix(f"{key} "))]
    check.named.update(row["case"] for row in rows)
    return rows, []


def _cases(
    check: Check, layer: LayerRecord, cases: list[str], entries: list[CaseRecord]
) -> Iterator[Finding]:
    paths = [case_path(layer.id, case) for case in cases]
    checked = side_by_side(partial(check.volume, kind=CaseRecord), paths, WORKERS)
    for where, (entry, found) in zip(paths, checked, strict=True):
        yield from found
        if entry is not None:
            entries.append(entry)
            yield from _on_scan(check, where, entry)


def _on_scan(check: Check, where: str, entry: CaseRecord) -> Iterator[Finding]:
    scan = check.scans.get(entry.case)
    if scan is None:
        yield Finding("error", where, "has no scan in the store")
    elif scan.digest != entry.scan or scan.geometry != entry.geometry:
        yield Finding("error", where, "lies on another scan than the one in the store")


def _model(check: Check, model: ModelRecord, sources: Collection[Key]) -> Iterator[Finding]:
    path = f"models/{model.id}"
    if not isinstance(model.state, Trained):
        check.known |= {k for k in check.keys if k.startswith(f"{path}/")}
        yield _unfinished(check, path, "is an unfinished training", Key("models", model.id) in sources)
        return
    starts = () if model.pins.starts_from is None else (model.pins.starts_from,)
    yield from check.pinned(path, "layers", model.pins.targets)
    yield from check.pinned(path, "models", starts)
    files = (
        (weights_key(model.id), model.state.weights),
        (curve_key(model.id, model.state.weights), model.state.curve),
    )
    for key, digest in files[check.gone("models", model.id) :]:  # the weights of a deleted model are gone
        yield from _object(check, key, digest)


def _object(check: Check, key: str, digest: str) -> Iterator[Finding]:
    check.known.add(key)
    data = check.read(key)
    if data is None or bytes_digest(data) != digest:
        yield Finding("error", key, "is missing" if data is None else "is damaged")


def _prepared(check: Check) -> Iterator[Finding]:
    paths = sorted(
        {"/".join(k.split("/")[:3]) for k in check.keys if k.startswith("prepared/") and k.count("/") > 2}
    )
    complete = [p for p in paths if f"{p}/{GROUP}" in check.listed]
    check.known |= {k for k in check.keys if k.startswith("prepared/")}
    for path in sorted(set(paths).difference(complete)):
        loose = tuple(sorted(k for k in check.keys if k.startswith(f"{path}/")))
        yield Finding("note", path, "is half written and will be made again", loose)
    for record, found in side_by_side(partial(check.volume, kind=PreparedRecord), complete, WORKERS):
        yield from found
        scan = None if record is None else check.scans.get(record.case)
        if record is not None and (scan is None or scan.digest != record.scan):
            yield Finding("note", f"prepared/{record.recipe}/{record.case}", "was made from another scan")


def _scores(check: Check) -> Iterator[Finding]:
    for key in sorted(k for k in check.keys if k.startswith("scores/") and k.endswith(".json")):
        record, found = check.document(key, ScoresRecord)
        yield from found
        table = f"{key.removesuffix('.json')}.parquet"
        check.known.add(table)
        if record is not None:
            yield from check.pinned(key, "layers", (record.layer, record.reference))
            yield from _object(check, table, record.table)

"""The JSON documents of the store: Zarr groups that carry a sealed record, beside OME-Zarr metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pwsseg.store.digests import bytes_digest
from pwsseg.store.layout import AXES
from pwsseg.store.objects import Objects
from pwsseg.store.records import FORMAT_VERSION, CaseRecord, Envelope, Record
from pwsseg.values import UNKNOWN, Geometry, LabelSet, StoreError, shown

KEY = "pwsseg"
ARRAY = "0"
UNSEALED = "0" * 64
NOT_OURS = (ValueError, KeyError, AttributeError, TypeError, RecursionError)
"""What looking for a record raises in bytes that are no document of ours."""

R = TypeVar("R", bound=Record)


def group_bytes(
    record: Record, *, ome: Mapping[str, Any] | None = None, arrays: Mapping[str, bytes]
) -> bytes:
    """The bytes of a Zarr group's zarr.json that carries `record`, sealed.

    `ome` goes beside it under `ome`; `arrays` are the zarr.json bytes of the group's arrays, by name.
    """
    attributes: dict[str, Any] = {} if ome is None else {"ome": dict(ome)}
    attributes[KEY] = _envelope(record, arrays)
    return _sealed({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def plain_bytes(record: Record) -> bytes:
    """The bytes of a JSON document outside the Zarr hierarchy that carries `record`, sealed."""
    return _sealed({KEY: _envelope(record, {})})


def folder_bytes() -> bytes:
    """The bytes of the zarr.json of a group that only holds others."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    return json.dumps(document, indent=1).encode()  # as in the first stores: `verify` compares the bytes


def read_record(objects: Objects, key: str, kind: type[R]) -> R | None:
    """The record in the document at `key`; None when there is none, StoreError when it is not ours."""
    data = objects.read(key)
    return None if data is None else parse(data, key, kind)


def parse(data: bytes, key: str, kind: type[R]) -> R:
    """The record of type `kind` in a document's bytes; StoreError names `key` when it isn't one."""
    record = envelope(data, key).record
    if not isinstance(record, kind):
        raise StoreError(f"{key} holds a record of type {record.type}, where {kind.__name__} was expected")
    return record


def envelope(data: bytes, key: str) -> Envelope:
    """What stands under `pwsseg` in a document's bytes; StoreError names `key` when that can't be read."""
    for form in (_Group, _Plain):  # straight from bytes: a third faster than by way of a dictionary
        with suppress(ValidationError):
            return form.model_validate_json(data, strict=True).envelope
    raise _unreadable(data, key)


class _Plain(BaseModel):
    pwsseg: Envelope

    @property
    def envelope(self) -> Envelope:
        return self.pwsseg


class _Group(BaseModel):
    attributes: _Plain

    @property
    def envelope(self) -> Envelope:
        return self.attributes.pwsseg


def _unreadable(data: bytes, key: str) -> StoreError:
    """Why a document can't be read, in a sentence."""
    try:
        document = json.loads(data)
        found = document.get("attributes", document)[KEY]
    except NOT_OURS:
        return StoreError(f"{key} has no readable '{KEY}' record; this is not an object of our store")
    try:
        Envelope.model_validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(shown(part)[:80].strip("'") for part in first["loc"])
        message = f"{key} holds a record that can't be read: {where}: {first['msg']}"
        return StoreError(f"{message}; expected store format {FORMAT_VERSION}")
    return StoreError(f"{key} is no JSON document of our store")


def seal_holds(data: bytes) -> bool:
    """Whether a sealed document's bytes are those that were written."""
    try:
        document = json.loads(data)
        seal = document.get("attributes", document)[KEY]["seal"]
        unsealed = data.replace(seal.encode(), UNSEALED.encode())
    except NOT_OURS:
        return False
    return bytes_digest(unsealed) == str(seal)


def image_metadata(case: str, geometry: Geometry) -> dict[str, Any]:
    """OME-Zarr 0.5 metadata of a volume: one resolution, mm, axes z, y, x.

    OME-Zarr can't say a direction: the translation is the origin's place along the array's own axes, so
    volumes on one grid lie over each other; the full geometry stands in our own record.
    """
    origin = geometry.direction_matrix.T @ geometry.origin
    transforms = [
        {"type": "scale", "scale": list(geometry.spacing)},
        {"type": "translation", "translation": [float(o) for o in origin]},
    ]
    multiscale = {
        "name": case,
        "axes": [{"name": axis, "type": "space", "unit": "millimeter"} for axis in AXES],
        "datasets": [{"path": ARRAY, "coordinateTransformations": transforms}],
    }
    return {"version": "0.5", "multiscales": [multiscale]}


def labels_metadata(record: CaseRecord, label_set: LabelSet) -> dict[str, Any]:
    """OME-Zarr 0.5 image-label metadata: as a volume's, with each stated class's colour and name."""
    stated = [label_set[i] for i in record.annotated_classes]
    colors = [{"label-value": c.id, "rgba": [*c.rgb, 255]} for c in stated]
    properties = [{"label-value": c.id, "name": c.name} for c in stated]
    if str(UNKNOWN) in record.voxels:
        colors.append({"label-value": UNKNOWN, "rgba": [128, 128, 128, 64]})
        properties.append({"label-value": UNKNOWN, "name": "unknown"})
    label = {"colors": colors, "properties": properties, "source": {"image": f"../../../scans/{record.case}"}}
    return {**image_metadata(record.case, record.geometry), "image-label": label}


def _envelope(record: Record, arrays: Mapping[str, bytes]) -> dict[str, Any]:
    digests = {name: bytes_digest(data) for name, data in arrays.items()}
    return {
        "version": FORMAT_VERSION,
        "seal": UNSEALED,
        "arrays": digests,
        "record": record.model_dump(mode="json"),
    }


def _sealed(document: dict[str, Any]) -> bytes:
    data = _encoded(document)
    return data.replace(f'"seal": "{UNSEALED}"'.encode(), f'"seal": "{bytes_digest(data)}"'.encode(), 1)


def _encoded(document: dict[str, Any]) -> bytes:
    # no indent: with one, Python's json takes ten times as long
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()

"""Trained networks: weights as safetensors, and the record of what they were trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pwsseg.store.digests import bytes_digest, file_digest
from pwsseg.store.documents import plain_bytes
from pwsseg.store.objects import Objects
from pwsseg.store.records import Json, ModelPins, ModelRecord, Pin, Trained, Training, now
from pwsseg.store.versions import Room
from pwsseg.values import StoreError

DOCUMENT = "model.json"
WEIGHTS = "weights.safetensors"
Curve = list[dict[str, float]]


def model_room(objects: Objects) -> Room[ModelRecord]:
    """The store's models, unfinished ones too."""
    return Room(objects, "models", DOCUMENT, ModelRecord, plain_bytes)


class Model:
    """One trained version; reads only. Pickles as location and record."""

    def __init__(self, objects: Objects, record: ModelRecord) -> None:
        if not isinstance(record.state, Trained):
            raise StoreError(f"model {record.id} is not finished; run its round again")
        self._objects = objects
        self.record = record
        self.trained = record.state

    @property
    def id(self) -> str:
        """Name and version, such as `ots2.v1`."""
        return self.record.id

    @property
    def digest(self) -> str:
        """SHA-256 of the weights' bytes."""
        return self.trained.weights

    @property
    def pin(self) -> Pin:
        """What a record says to mean exactly this model."""
        return Pin(id=self.id, digest=self.digest)

    def weights_bytes(self) -> bytes:
        """The safetensors file; StoreError when it is missing or damaged."""
        return _intact(self._objects, weights_key(self.id), self.trained.weights)

    def beside(self, name: str) -> Model:
        """Another model of the same store, such as `os2-coarse.v1`; StoreError when it is missing."""
        record = model_room(self._objects).read(name)
        if record is None:
            raise StoreError(f"model {name}, which {self.id} needs, is not in the store; train both again")
        return Model(self._objects, record)

    def curve(self) -> Curve:
        """The training curve, one row an epoch; StoreError when it is missing or damaged."""
        data = _intact(self._objects, curve_key(self.id, self.digest), self.trained.curve)
        curve: Curve = json.loads(data)
        return curve


def write_model(
    objects: Objects,
    pins: ModelPins,
    *,
    weights: Path,
    curve: Sequence[dict[str, float]],
    network: Json,
    classes: tuple[int, ...],
    activation: Literal["softmax", "sigmoid"],
    preprocessing: Json,
) -> Model:
    """Keep a trained network; the model with the same pins when there is one already.

    The first weights that arrive in a version stay there; whoever comes second with the same pins, or
    after a crash, publishes those. So the curve is named after the weights it belongs to.
    """
    check_safetensors(weights)
    room = model_room(objects)
    draft = room.take(
        pins, lambda i: ModelRecord(type="model", id=i, pins=pins, state=Training(state="draft"))
    )
    if isinstance(draft.state, Trained):
        return Model(objects, draft)
    digest = _put_weights(objects, draft.id, weights=weights, curve=curve)
    keys = (curve_key(draft.id, digest), weights_key(draft.id))
    state = Trained(
        state="published",
        created=now(),
        network=network,
        classes=classes,
        activation=activation,
        preprocessing=preprocessing,
        weights=digest,
        curve=bytes_digest(objects.read(keys[0]) or b""),
        bytes=sum(objects.keys(f"models/{draft.id}")[key] for key in keys),
    )
    record = draft.model_copy(update={"state": state})
    for key in set(objects.keys(f"models/{draft.id}")).difference(keys, [room.key(draft.id)]):
        objects.remove(key)  # the curve of an attempt whose weights never arrived
    if room.replace(draft, record):
        return Model(objects, record)
    return Model(objects, room.read(draft.id) or record)  # another driver was a moment faster


def weights_key(model: str) -> str:
    """Where a model's weights lie."""
    return f"models/{model}/{WEIGHTS}"


def curve_key(model: str, weights: str) -> str:
    """Where the curve lies of the training that gave the weights of this digest."""
    return f"models/{model}/curve-{weights[:12]}.json"


def check_safetensors(path: Path) -> None:
    """StoreError unless the file begins like safetensors: weights must never be something that runs."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= path.stat().st_size else b""
    try:
        readable = isinstance(json.loads(header), dict)
    except (ValueError, RecursionError):
        readable = False
    if not readable:
        raise StoreError(f"{path} is no safetensors file; weights are kept in no other format")


def _put_weights(objects: Objects, model: str, *, weights: Path, curve: Sequence[dict[str, float]]) -> str:
    """The digest of the weights that are there in the end: ours, or those that came first."""
    ours = file_digest(weights)
    objects.write(curve_key(model, ours), json.dumps(list(curve), indent=1).encode())
    if objects.create(weights_key(model), weights):
        return ours
    first = bytes_digest(objects.read(weights_key(model)) or b"")
    if first != ours:
        objects.remove(curve_key(model, ours))
    return first


def _intact(objects: Objects, key: str, digest: str) -> bytes:
    data = objects.read(key)
    if data is None or bytes_digest(data) != digest:
        raise StoreError(f"{key} is {'missing' if data is None else 'damaged'}; run `pwsseg verify`")
    return data

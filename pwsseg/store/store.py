"""The store: scans, layers, models and scores under one location.

store = Store.create("pwsseg-store")
scan = store.write_scan("case1", hu, geometry, source=source, split="training")
draft = store.draft(pins)                       # or the unfinished one with the same pins
draft.write("case1", labels, annotated_classes=[1, 2], seconds={"predict": 3.2})
layer = draft.publish(["case1"])                # from now on for ever: store.layer("os1")
layer.labels("case1")
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.digests import array_digest, bytes_digest
from pwsseg.store.documents import ARRAY, folder_bytes, group_bytes, image_metadata, parse, read_record
from pwsseg.store.draft import LayerDraft, layer_room
from pwsseg.store.layer import Layer
from pwsseg.store.location import located, on_s3
from pwsseg.store.model import Model, model_room, write_model
from pwsseg.store.objects import Objects
from pwsseg.store.prepared import PreparedCache
from pwsseg.store.records import (
    AnnotationPins,
    Draft,
    FusionPins,
    Json,
    LayerRecord,
    ModelPins,
    ModelRecord,
    PredictionPins,
    Published,
    RetirementRecord,
    ScanRecord,
    Source,
    StoreRecord,
    Trained,
)
from pwsseg.store.retirements import (
    read_retirements,
    refuse_deleted,
    refuse_retired,
    remedy,
)
from pwsseg.store.scan import Scan, Split, open_scan, scan_path, scan_records
from pwsseg.store.scores import read_scores, write_scores
from pwsseg.store.versions import VERSIONED, Room, check_name
from pwsseg.store.volumes import GROUP, keep_array
from pwsseg.values import FLARE23, Geometry, LabelSet, StoreError
from pwsseg.values.ids import check_case_id

ROOMS = ("scans", "layers", "prepared")
RESERVED = {GROUP, "manifest.parquet"}


class Store:
    """One store; pickles as its location, so workers open it for themselves."""

    def __init__(self, objects: Objects, record: StoreRecord) -> None:
        self._objects = objects
        self.label_set = record.label_set

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Store.open, (self.location,)

    @classmethod
    def create(cls, location: str | Path, label_set: LabelSet = FLARE23) -> Store:
        """The store at `location`, made if there is none.

        StoreError when something else is there, or a store with other classes.
        """
        where = located(location)
        if not on_s3(where):
            _make_folder(Path(where))
        objects = Objects(where)
        if on_s3(where) and objects.read(GROUP) is None and objects.any():
            raise StoreError(f"{where} holds other objects and no store; give a new prefix")
        return cls.begin(objects, label_set)

    @classmethod
    def begin(cls, objects: Objects, label_set: LabelSet = FLARE23) -> Store:
        """The store of these objects, with its root made if there is none; StoreError as `create` says."""
        objects.create(GROUP, group_bytes(StoreRecord(type="store", label_set=label_set), arrays={}))
        store = cls.of(objects)
        if store.label_set != label_set:
            raise StoreError(
                f"{objects.location} is a store of {store.label_set.name} labels, not of {label_set.name}"
            )
        for room in ROOMS:
            objects.create(f"{room}/{GROUP}", folder_bytes())
        return store

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """The store at `location`; StoreError when there is none."""
        where = located(location)
        path = Path(where)
        if not on_s3(where) and not path.is_dir():
            found = "is a file" if path.exists() else "does not exist"
            raise StoreError(
                f"{path} {found}; expected a store, as made by `python jobs/ingest.py --store {path}`"
            )
        return cls.of(Objects(where))

    @classmethod
    def of(cls, objects: Objects) -> Store:
        """The store of these objects; StoreError when they are none."""
        where, data = objects.location, objects.read(GROUP)
        if data is None:
            raise StoreError(f"{where} holds no {GROUP}, so no store; expected one made by jobs/ingest.py")
        try:
            return cls(objects, parse(data, GROUP, StoreRecord))
        except StoreError as error:
            raise StoreError(f"{where} is no store of ours: {error}") from None

    @property
    def location(self) -> str:
        """Where the store is, absolute: what `Store.open` takes on any machine that sees it."""
        return self._objects.location

    @property
    def objects(self) -> Objects:
        """The objects below, for those who check them (`verify`)."""
        return self._objects

    def scratch(self) -> Path:
        """A folder for what unfinished trainings leave; no part of the store's content.

        It lies in the store; beside others in the folder that PWSSEG_SCRATCH names, where that is set; for a
        store on S3 without it, in this machine's ~/.cache/pwsseg.
        """
        named = os.environ.get("PWSSEG_SCRATCH")
        if named or on_s3(self.location):
            above = Path(named).absolute() if named else Path.home() / ".cache" / "pwsseg"
            path = above / bytes_digest(self.location.encode())[:16]
        else:
            path = Path(self.location) / "runs"
        path.mkdir(parents=True, exist_ok=True)
        return path

    # scans

    def cases(self, split: Split | None = None) -> list[str]:
        """The cases that have a scan, sorted; all, or those of one split."""
        if split is not None:
            return [r.case for r in self.scan_records() if r.split == split]
        keys = (key.split("/") for key, _ in self._objects.listed("scans"))
        return sorted(k[1] for k in keys if len(k) == 3 and k[2] == GROUP)

    def scan_records(self) -> Iterator[ScanRecord]:
        """The record of every scan, by case; not all at once."""
        return scan_records(self._objects)

    def scan(self, case: str) -> Scan:
        """The scan of a case; StoreError when there is none."""
        return open_scan(self._objects, check_case_id(case))

    def write_scan(
        self,
        case: str,
        hu: NDArray[np.int16],
        geometry: Geometry,
        *,
        source: Source,
        split: Split,
        fingerprint: str = "",
    ) -> Scan:
        """Keep a scan, Hounsfield units int16 (z, y, x); the one that is there when it is the same.

        `fingerprint` is what arrays/likeness.py makes of it, so that leaks are found without reading scans.
        StoreError when the id is taken by another scan or the array is not on the grid.
        """
        if check_case_id(case) in RESERVED:
            raise StoreError(f"{case!r} is a file name of the store itself; give the case another id")
        if hu.dtype != np.int16 or hu.shape != geometry.shape:
            raise StoreError(f"scan {case} is {hu.dtype} {hu.shape}; expected int16 {geometry.shape}")
        record = ScanRecord(
            type="scan",
            case=case,
            split=split,
            geometry=geometry,
            source=source,
            digest=array_digest(hu),
            fingerprint=fingerprint,
        )
        path = scan_path(case)
        there = read_record(self._objects, f"{path}/{GROUP}", ScanRecord)
        if there is not None:
            return self._same_scan(there, record)
        stored, metadata = keep_array(self._objects, path, hu, "scan", replace=False)
        commit = group_bytes(record, ome=image_metadata(case, geometry), arrays={ARRAY: metadata})
        if np.array_equal(stored, hu) and self._objects.create(f"{path}/{GROUP}", commit):
            return Scan(self._objects, record)
        there = read_record(self._objects, f"{path}/{GROUP}", ScanRecord)
        if there is not None:
            return self._same_scan(there, record)
        raise StoreError(
            f"another scan was begun under the id {case}; let the other job finish, or remove what a killed "
            f"one left by `pwsseg verify --repair`, or give {source.name} another id"
        )

    def _same_scan(self, there: ScanRecord, record: ScanRecord) -> Scan:
        ignored = {"source", "fingerprint"}
        if there.model_dump(exclude=ignored) != record.model_dump(exclude=ignored):
            raise StoreError(
                f"case {record.case} is in the store with another scan ({there.source.name}); "
                f"give {record.source.name} another id"
            )
        return Scan(self._objects, there)

    # layers

    def layers(self) -> list[LayerRecord]:
        """Every layer's record, drafts and retired ones too, by name and version."""
        return list(layer_room(self._objects).records())

    def layer(self, name: str) -> Layer:
        """A published layer: `ots2` is its newest version, `ots2.v1` that one; StoreError when absent.

        A retired layer is passed over, but can be read by its full id until it is deleted.
        """
        return Layer(self._objects, _newest(layer_room(self._objects), name, Published, "layer"))

    def published(self, pins: AnnotationPins | PredictionPins | FusionPins) -> Layer | None:
        """The published layer with the same pins; StoreError when it is retired."""
        record = layer_room(self._objects).same_pins(pins)
        if record is None or not isinstance(record.state, Published):
            return None
        layer = Layer(self._objects, record)
        refuse_retired(self._objects, "layers", (layer.pin,))
        return layer

    def draft(self, pins: AnnotationPins | PredictionPins | FusionPins) -> LayerDraft:
        """The draft with the same pins, else a new version; safe for two drivers at once.

        StoreError when the layer would name unknown classes, or have a source that is retired.
        """
        unknown = sorted(set(pins.classes) - set(self.label_set.ids))
        if unknown:
            raise StoreError(
                f"layer {pins.name} names classes {unknown}, which {self.label_set.name} has not"
            )

        def new(version: str) -> LayerRecord:
            refuse_retired(self._objects, "layers", pins.parents)
            refuse_retired(self._objects, "models", () if pins.model is None else (pins.model,))
            return LayerRecord(type="layer", id=version, pins=pins, state=Draft(state="draft"))

        return LayerDraft(self._objects, layer_room(self._objects).take(pins, new), self.label_set)

    # prepared scans, models, scores

    def prepared(self, recipe: str) -> PreparedCache:
        """The cache of scans prepared in one way; `recipe` names all that made them."""
        return PreparedCache(self._objects, recipe)

    def models(self) -> list[ModelRecord]:
        """Every model's record, unfinished and retired ones too, by name and version."""
        return list(model_room(self._objects).records())

    def model(self, name: str) -> Model:
        """A model: `ots2` is its newest version, `ots2.v1` that one; StoreError when absent."""
        return Model(self._objects, _newest(model_room(self._objects), name, Trained, "model"))

    def trained(self, pins: ModelPins) -> Model | None:
        """The finished model with the same pins; StoreError when it is retired."""
        record = model_room(self._objects).same_pins(pins)
        if record is None or not isinstance(record.state, Trained):
            return None
        model = Model(self._objects, record)
        refuse_retired(self._objects, "models", (model.pin,))
        return model

    def write_model(
        self,
        pins: ModelPins,
        weights: Path,
        curve: Sequence[dict[str, float]],
        *,
        network: Json,
        classes: tuple[int, ...],
        activation: Literal["softmax", "sigmoid"],
        preprocessing: Json,
    ) -> Model:
        """Keep a trained network; the model with the same pins when there is one already.

        `network` is what builds it again, `preprocessing` what its input must go through, `classes` the
        label of each output channel (0 for background), `curve` one row an epoch.
        """
        return write_model(
            self._objects,
            pins,
            weights=weights,
            curve=curve,
            network=network,
            classes=classes,
            activation=activation,
            preprocessing=preprocessing,
        )

    def retired(self, room: Literal["layers", "models"]) -> dict[str, RetirementRecord]:
        """The layers or models that were given up, by id."""
        return read_retirements(self._objects, room)

    def write_scores(self, layer_id: str, reference_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Keep the scores of one layer against another, one row a case and class; replaces older ones."""
        write_scores(self._objects, self.layer(layer_id), self.layer(reference_id), rows=rows)

    def scores(self, layer_id: str, reference_id: str) -> list[dict[str, Any]] | None:
        """The scores of one layer against another; None when they were not made."""
        return read_scores(self._objects, self.layer(layer_id), self.layer(reference_id))


def _make_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file; give a folder for the store")
    strangers = path.is_dir() and any(p.name.split("#")[0] != GROUP for p in path.iterdir())
    if strangers and not (path / GROUP).exists():  # in this order: another job may be creating it just now
        raise StoreError(f"{path} holds other files and no store; give a new or an empty folder")
    path.mkdir(parents=True, exist_ok=True)


def _newest(room: Room[Any], name: str, done: type[Published] | type[Trained], noun: str) -> Any:
    check_name(name)
    match = VERSIONED.fullmatch(name)
    records = [r for r in room.records(match[1] if match else name) if match is None or r.id == name]
    retired = read_retirements(room.objects, room.folder)
    finished = [r for r in records if isinstance(r.state, done) and (match or r.id not in retired)]
    if finished:
        refuse_deleted(retired.get(finished[-1].id))
        return finished[-1]
    if drafts := [r for r in records if not isinstance(r.state, done)]:
        raise StoreError(f"{noun} {drafts[-1].id} is an unfinished draft; run its round again to finish it")
    if records:
        raise StoreError(f"{noun} {records[-1].id} is retired; {remedy(retired[records[-1].id])}")
    raise StoreError(f"the store has no {noun} {name}; `pwsseg layers` lists what it has")

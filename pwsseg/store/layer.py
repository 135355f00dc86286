"""A published layer: label volumes for many scans, one origin, for ever the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.digests import array_digest, bytes_digest
from pwsseg.store.documents import ARRAY, read_record
from pwsseg.store.measures import CHANGED_ORGANS
from pwsseg.store.objects import Objects
from pwsseg.store.plain import guess_plain
from pwsseg.store.records import CaseRecord, LayerRecord, Pin, Published
from pwsseg.store.tables import manifest_rows
from pwsseg.store.volumes import GROUP, read_voxels
from pwsseg.values import StoreError

MANIFEST = "manifest.parquet"
SIZE = ("size_z", "size_y", "size_x")
SINCE = "changes-since:"
"""The rule of a prediction whose cases say how much they differ from those of the layer named."""


def layer_path(layer: str) -> str:
    """Where a layer's version lies in the store."""
    return f"layers/{layer}"


def case_path(layer: str, case: str) -> str:
    """Where one case of a layer lies in the store."""
    return f"{layer_path(layer)}/{case}"


def read_case(objects: Objects, layer: str, case: str) -> CaseRecord | None:
    """The commit record of one case, None while there is none; StoreError when it is another case's."""
    record = read_record(objects, f"{case_path(layer, case)}/{GROUP}", CaseRecord)
    if record is not None and record.case != case:
        raise StoreError(
            f"{case_path(layer, case)} holds the record of case {record.case}; run `pwsseg verify`"
        )
    return record


def read_labels(objects: Objects, layer: str, entry: CaseRecord) -> NDArray[np.uint8]:
    """The label volume (z, y, x) that a committed case's record speaks of; StoreError when it is damaged."""
    path, shape = case_path(layer, entry.case), entry.geometry.shape
    return cast(NDArray[np.uint8], read_voxels(objects, path, entry.digest, shape))


class Layer:
    """Reads one published version; there is no way to write it. Pickles as location and record."""

    def __init__(self, objects: Objects, record: LayerRecord) -> None:
        if not isinstance(record.state, Published):
            raise StoreError(f"layer {record.id} is a draft; it can be read once it is published")
        self._objects = objects
        self._state = record.state
        self.record = record

    @property
    def id(self) -> str:
        """Name and version, such as `ots2.v1`."""
        return self.record.id

    @property
    def digest(self) -> str:
        """Digest of all its cases, see `digests.layer_digest`."""
        return self._state.digest

    @property
    def state(self) -> Published:
        """When it was published, and how much it is."""
        return self._state

    @property
    def pin(self) -> Pin:
        """What a record says to mean exactly this layer."""
        return Pin(id=self.id, digest=self.digest)

    def cases(self) -> list[str]:
        """Every case it has labels for, sorted."""
        return [row["case"] for row in self.manifest("case")]

    def manifest(self, *columns: str) -> list[dict[str, Any]]:
        """The rows of its manifest, by case; all columns, or those named. StoreError when it is damaged."""
        where = f"{layer_path(self.id)}/{MANIFEST}"
        data = self._objects.read(where)
        if data is None:
            raise StoreError(f"layer {self.id} has lost its {MANIFEST}; run `pwsseg verify`")
        if bytes_digest(data) != self._state.manifest:
            raise StoreError(f"{where} is not the one that was published; run `pwsseg verify`")
        return manifest_rows(data, where, columns)

    def changes_since(self, other: Layer, organs: Collection[int]) -> dict[str, float]:
        """The share of its organ voxels that changed, of every case whose manifest row counts from `other`.

        u is half the sum of two such shares (METHOD.md, Selection). Empty where another layer was compared.
        """
        if not counts_since(self, other):
            return {}
        voxels = [f"voxels_{c}" for c in organs if c in self.record.pins.classes]
        rows = self.manifest("case", CHANGED_ORGANS, *voxels)
        return {
            row["case"]: row[CHANGED_ORGANS] / max(1, sum(row[v] or 0 for v in voxels))
            for row in rows
            if row.get(CHANGED_ORGANS) is not None
        }

    def find(self, case: str) -> CaseRecord | None:
        """The record of one case, None when the layer has no labels for it."""
        return read_case(self._objects, self.id, case)

    def entry(self, case: str) -> CaseRecord:
        """The record of one case; StoreError when the layer has no labels for it."""
        record = self.find(case)
        if record is None:
            raise StoreError(f"layer {self.id} has no labels for case {case!r}")
        return record

    def labels(self, case: str) -> NDArray[np.uint8]:
        """The label volume (z, y, x) on the scan's grid; StoreError when absent or damaged."""
        return read_labels(self._objects, self.id, self.entry(case))

    def stored(self, row: dict[str, Any]) -> NDArray[np.uint8]:
        """The same for who has the case's row of the manifest: one object is read instead of three."""
        path, shape = case_path(self.id, row["case"]), (row["size_z"], row["size_y"], row["size_x"])
        array = guess_plain(self._objects, f"{path}/{ARRAY}", shape)
        if array is None or array_digest(array) != row["digest"]:
            return cast(NDArray[np.uint8], read_voxels(self._objects, path, row["digest"], shape))
        return array


def counts_since(after: Layer, before: Layer) -> bool:
    """Whether the manifest of `after` counts what changed since `before`."""
    return f"{SINCE}{before.id}" in after.record.pins.rules

"""A CT scan of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.documents import read_record
from pwsseg.store.objects import Objects
from pwsseg.store.parallel import side_by_side
from pwsseg.store.records import ScanRecord
from pwsseg.store.volumes import GROUP, read_voxels
from pwsseg.values import Geometry, StoreError

Split = Literal["training", "validation"]
READERS = 8
"""Records asked for at once."""


def scan_path(case: str) -> str:
    """Where a case's scan lies in the store."""
    return f"scans/{case}"


class Scan:
    """One CT volume on its native grid; reads only. Pickles as location and record."""

    def __init__(self, objects: Objects, record: ScanRecord) -> None:
        self._objects = objects
        self.record = record

    @property
    def case(self) -> str:
        """The case's id."""
        return self.record.case

    @property
    def geometry(self) -> Geometry:
        """The native grid."""
        return self.record.geometry

    @property
    def digest(self) -> str:
        """SHA-256 of the voxels, see `digests.array_digest`."""
        return self.record.digest

    def read(self) -> NDArray[np.int16]:
        """The volume (z, y, x), Hounsfield units; StoreError when it is damaged."""
        path, shape = scan_path(self.case), self.geometry.shape
        return cast(NDArray[np.int16], read_voxels(self._objects, path, self.digest, shape))


def scan_records(objects: Objects) -> Iterator[ScanRecord]:
    """The record of every scan, by case; read side by side, since each is an object of its own."""
    paths = [scan_path(name) for name in objects.folders("scans")]
    found = side_by_side(lambda path: read_record(objects, f"{path}/{GROUP}", ScanRecord), paths, READERS)
    return (record for record in found if record is not None)


def open_scan(objects: Objects, case: str) -> Scan:
    """The scan of a case; StoreError when the store has none."""
    record = read_record(objects, f"{scan_path(case)}/{GROUP}", ScanRecord)
    if record is None:
        raise StoreError(f"the store has no scan of case {case!r}; `pwsseg cases` lists those it has")
    if record.case != case:
        raise StoreError(f"{scan_path(case)} holds the record of case {record.case}; run `pwsseg verify`")
    return Scan(objects, record)

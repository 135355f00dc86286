"""A volume in the store: a group of one array, whose zarr.json is written last and makes it exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.digests import array_digest
from pwsseg.store.documents import ARRAY, group_bytes
from pwsseg.store.layout import Purpose, encode
from pwsseg.store.objects import Objects
from pwsseg.store.records import CaseRecord, PreparedRecord, ScanRecord
from pwsseg.values import StoreError, Window

GROUP = "zarr.json"

VolumeRecord = ScanRecord | CaseRecord | PreparedRecord


def write_volume(
    objects: Objects,
    path: str,
    *,
    array: NDArray[Any],
    purpose: Purpose,
    record: VolumeRecord,
    ome: Mapping[str, Any],
) -> None:
    """Put the array's objects, then the group's zarr.json: the commit record."""
    encoded = encode(array, purpose)
    for key, data in encoded.items():
        objects.write(f"{path}/{ARRAY}/{key}", data)
    objects.write(f"{path}/{GROUP}", group_bytes(record, ome=ome, arrays={ARRAY: encoded["zarr.json"]}))


def read_voxels(objects: Objects, path: str, record: VolumeRecord) -> NDArray[Any]:
    """The whole volume (z, y, x); StoreError when it is damaged or not what its record says."""
    array = _decoded(objects, path, window=None)
    if array_digest(array) != record.digest:
        raise StoreError(f"{path}: the stored voxels are not those of its record; run `pwsseg verify`")
    return array


def read_window(objects: Objects, path: str, window: Window) -> NDArray[Any]:
    """The voxels of one window; StoreError when a chunk is damaged."""
    return _decoded(objects, path, window=window)


def _decoded(objects: Objects, path: str, *, window: Window | None) -> NDArray[Any]:
    try:
        array = objects.array(f"{path}/{ARRAY}")
        return np.asarray(array[:] if window is None else array[window.slices])
    except Exception as error:  # each codec has its own way to say that bytes are damaged
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise StoreError(
            f"{path}: the stored voxels can't be read ({reason}); run `pwsseg verify`"
        ) from error

"""A volume in the store: a group of one array, whose zarr.json is written last and makes it exist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obstore.exceptions import BaseError

from pwsseg.store.digests import array_digest
from pwsseg.store.documents import ARRAY, group_bytes
from pwsseg.store.failures import sentence
from pwsseg.store.layout import CHUNK, Purpose, encode
from pwsseg.store.objects import Objects
from pwsseg.store.plain import read_plain
from pwsseg.store.records import CaseRecord, PreparedRecord, ScanRecord
from pwsseg.store.shards import MOST_SAVED, parts_of, shard_of
from pwsseg.values import StoreError, Window, first_line, shown

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


def keep_array(
    objects: Objects, path: str, array: NDArray[Any], purpose: Purpose, *, replace: bool = True
) -> tuple[NDArray[Any], bytes]:
    """Put the array's objects unless they are there; what is stored in the end, and its zarr.json.

    So of two writers of one case, the first one's voxels stay, and the record of either is about them. What
    can't be read, or has another shape, is replaced; with `replace=False` it stays, and comes back empty.
    """
    encoded = {f"{path}/{ARRAY}/{key}": data for key, data in encode(array, purpose).items()}
    metadata = f"{path}/{ARRAY}/{GROUP}"
    ours = [objects.create(key, data) for key, data in encoded.items()]
    if all(ours):
        return array, encoded[metadata]
    try:
        stored = _decoded(objects, path, window=None)
    except StoreError:
        stored = array[:0]
    if not replace or (stored.shape == array.shape and stored.dtype == array.dtype):
        return stored, objects.read(metadata) or b""
    for key, data in encoded.items():
        objects.write(key, data)
    return array, encoded[metadata]


def read_voxels(objects: Objects, path: str, digest: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The whole volume (z, y, x); StoreError when it is damaged, or not what its record says."""
    array = _decoded(objects, path, window=None, shape=shape)
    if array_digest(array) != digest:
        raise StoreError(f"{path}: the stored voxels are not those of its record; run `pwsseg verify`")
    return array


def read_window(objects: Objects, path: str, window: Window) -> NDArray[Any]:
    """The voxels of one window; StoreError when a chunk is damaged."""
    return _decoded(objects, path, window=window)


def _decoded(
    objects: Objects, path: str, *, window: Window | None, shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    try:
        return read_array(objects, path, window, shape)
    except StoreError:
        raise
    except BaseError as error:  # not damage: the store can't be reached
        raise StoreError(sentence(objects.location, error)) from error
    except Exception as error:  # each codec has its own way to say that bytes are damaged
        raise StoreError(
            f"{path}: the stored voxels can't be read ({first_line(error)}); run `pwsseg verify`"
        ) from error


def read_array(
    objects: Objects, path: str, window: Window | None = None, shape: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """The voxels of the array in the group at `path`; whatever is wrong with them is raised as it comes.

    Where `shape` says how many there must be, no memory is taken for others.
    """
    metadata = objects.read(f"{path}/{ARRAY}/{GROUP}")
    if metadata is not None:
        stated = json.loads(metadata)["shape"]
        if shape is not None and stated != list(shape):
            raise ValueError(f"they are {shown(stated)}, where the record says {list(shape)}")
        ours = _sharded(objects, f"{path}/{ARRAY}/{CHUNK}", metadata, window)
        if ours is None and window is None:
            ours = read_plain(objects, f"{path}/{ARRAY}", metadata)
        if ours is not None:
            return ours
    array = objects.array(f"{path}/{ARRAY}")
    if array.nbytes > MOST_SAVED * sum(objects.keys(f"{path}/{ARRAY}").values()):
        raise ValueError("its objects are too small to hold them")
    return np.asarray(array[:] if window is None else array[window.slices])


def _sharded(objects: Objects, key: str, metadata: bytes, window: Window | None) -> NDArray[Any] | None:
    """The voxels of an array that lies in one shard as ours do; None when it lies in another way."""
    shard = shard_of(metadata)
    if shard is None:
        return None
    if window is not None:
        return shard.unpack(partial(objects.parts, key), window.slices)
    data = objects.read(key)
    if data is None:
        raise FileNotFoundError(f"{key} is missing")
    return shard.unpack(partial(parts_of, data), Window((0, 0, 0), shard.shape).slices)


def histogram(labels: NDArray[np.uint8]) -> dict[int, int]:
    """Label -> voxels; slice by slice, since bincount widens what it counts to eight bytes a voxel."""
    counts = sum((np.bincount(s.reshape(-1), minlength=256) for s in labels), np.zeros(256, np.int64))
    return {int(i): int(counts[i]) for i in np.flatnonzero(counts)}

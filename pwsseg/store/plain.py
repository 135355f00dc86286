"""The plainest of Zarr arrays, decoded without Zarr: one chunk, whose codecs are bytes, zstd, crc32c.

That is how labels lie in the store. zarr-python takes some 4 ms to open and read such an array, however small
it is, this a tenth of that: who walks over thousands of cases notices. What is packed otherwise is left to
zarr-python.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import prod

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from pwsseg.store.layout import CHUNK
from pwsseg.store.objects import Objects
from pwsseg.store.shards import MOST_SAVED

CODECS = ["bytes", "zstd", "crc32c"]
CHECKSUM_BYTES = 4


def read_plain(objects: Objects, path: str, metadata: bytes) -> NDArray[np.uint8] | None:
    """The array at `path`, of this zarr.json; None when it is absent or not so plain.

    ValueError when its chunk is damaged.
    """
    shape = _plain_shape(metadata)
    chunk = None if shape is None else objects.read(f"{path}/{CHUNK}")
    return None if shape is None or chunk is None else _decoded(chunk, shape)


def guess_plain(objects: Objects, path: str, shape: tuple[int, int, int]) -> NDArray[np.uint8] | None:
    """The array of this shape, if it is as plain; for who knows its digest and so can tell."""
    chunk = objects.read(f"{path}/{CHUNK}")
    try:
        return None if chunk is None else _decoded(chunk, shape)
    except (ValueError, RuntimeError):
        return None


def _decoded(chunk: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    packed, checksum = chunk[:-CHECKSUM_BYTES], int.from_bytes(chunk[-CHECKSUM_BYTES:], "little")
    if google_crc32c.value(packed) != checksum:
        raise ValueError("its checksum doesn't hold")
    if prod(shape) > MOST_SAVED * len(chunk):
        raise ValueError("its chunk is too small to hold them")
    array = np.empty(shape, np.uint8)
    Zstd().decode(packed, array)
    return array


@lru_cache(maxsize=256)
def _plain_shape(metadata: bytes) -> tuple[int, ...] | None:
    """The shape that an array's zarr.json states, None unless the array is plain uint8."""
    try:
        array = json.loads(metadata)
        shape = array["shape"]
        plain = (
            array["data_type"] == "uint8"
            and array["chunk_grid"]["configuration"]["chunk_shape"] == shape
            and [codec["name"] for codec in array["codecs"]] == CODECS
            and array["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
            and not array["storage_transformers"]
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return tuple(shape) if plain else None

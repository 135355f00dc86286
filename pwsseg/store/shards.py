"""An array in one shard, packed and unpacked chunk by chunk in a plain loop.

zarr-python sends every inner chunk through its event loop and a thread, which costs a patch of forty chunks
ten times what decoding them does (docs/decisions/0020). Only the layouts that `layout.py` writes, or wrote,
are known here; whatever else stands in a zarr.json is left to zarr-python.

Reference: Zarr v3, codecs `sharding_indexed`, `bytes`, `blosc`, `zstd`, `crc32c`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray

MOST_SAVED = 1 << 15
"""Zstandard packs 128 KiB of one value into four bytes, and no codec of ours packs better."""
CHECKSUM = 4
"""Bytes of a crc32c, little-endian, behind each chunk and behind the index."""
INTACT = google_crc32c.value(bytes(CHECKSUM))
"""The crc32c of any bytes followed by their own crc32c, so that nothing need be copied to check them."""
INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")

Slices = tuple[slice, slice, slice]
Fetch = Callable[[Sequence[tuple[int, int]]], Sequence[bytes]]
"""Parts (start, length) of the object -> their bytes; a start below 0 counts from the object's end."""


@dataclass(frozen=True)
class Shard:
    """How an array (z, y, x) lies in its one shard."""

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    dtype: np.dtype[Any]
    codec: Blosc | Zstd

    @property
    def grid(self) -> tuple[int, int, int]:
        """Chunks along each axis."""
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))
        return z, y, x

    def pack(self, array: NDArray[Any]) -> bytes:
        """The bytes of the shard that holds `array`, every chunk written; beyond the edges lie zeros."""
        packed = [
            _sealed(self.codec.encode(self._chunk(array, place))) for place in product(*map(range, self.grid))
        ]
        ends = np.cumsum([len(p) for p in packed])
        index = np.stack([ends - [len(p) for p in packed], [len(p) for p in packed]], axis=1).astype("<u8")
        return b"".join([*packed, _sealed(index.tobytes())])

    def unpack(self, fetch: Fetch, window: Slices) -> NDArray[Any]:
        """The voxels of `window` (z, y, x); ValueError when a chunk that it touches is damaged."""
        size = 16 * prod(self.grid)
        (tail,) = fetch([(-(size + CHECKSUM), size + CHECKSUM)])
        index = np.frombuffer(_opened(tail, size, "the index"), "<u8").reshape(*self.grid, 2)
        axes = [_cuts(w, c) for w, c in zip(window, self.chunk, strict=True)]
        entries = index[tuple(slice(cuts[0][0], cuts[-1][0] + 1) for cuts in axes)].reshape(-1, 2)
        touched = [(int(start), int(length)) for start, length in entries]
        if any(length == 2**64 - 1 for _, length in touched):
            raise ValueError("a chunk is absent")
        voxels = np.empty([w.stop - w.start for w in window], self.dtype)
        chunk = np.empty(self.chunk, self.dtype)
        for packed, (_, length), cuts in zip(fetch(touched), touched, product(*axes), strict=True):
            intact = _opened(packed, length - CHECKSUM, "a chunk")
            if chunk.nbytes > MOST_SAVED * length or self._stated(packed) != chunk.nbytes:
                raise ValueError("a chunk holds another number of voxels than the array's zarr.json says")
            self.codec.decode(intact, out=chunk)
            voxels[tuple(cut[2] for cut in cuts)] = chunk[tuple(cut[1] for cut in cuts)]
        return voxels

    def _stated(self, packed: bytes) -> int:
        """How many bytes a chunk says that it holds; Blosc alone says so in a place of its own."""
        said = int.from_bytes(packed[4:8], "little")
        return said if isinstance(self.codec, Blosc) else prod(self.chunk) * self.dtype.itemsize

    def _chunk(self, array: NDArray[Any], place: tuple[int, ...]) -> NDArray[Any]:
        part = array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, self.chunk, strict=True))]
        if part.shape == self.chunk:
            return np.ascontiguousarray(part, self.dtype)
        whole = np.zeros(self.chunk, self.dtype)
        whole[tuple(map(slice, part.shape))] = part
        return whole


@lru_cache(maxsize=256)
def shard_of(metadata: bytes) -> Shard | None:
    """How the array of this zarr.json lies in its shard; None when it is laid out in another way."""
    said = json.loads(metadata)
    if [codec["name"] for codec in said["codecs"]] != ["sharding_indexed"]:
        return None
    sharding = said["codecs"][0]["configuration"]
    codecs = sharding["codecs"]
    codec = _codec(codecs[1]) if [c["name"] for c in codecs[::2]] == ["bytes", "crc32c"] else None
    whole = said["chunk_grid"]["configuration"]["chunk_shape"]
    ours = sharding["index_codecs"] == INDEX and sharding.get("index_location", "end") == "end"
    little = codecs[0].get("configuration", {}).get("endian", "little") == "little"
    chunk, shape = tuple(sharding["chunk_shape"]), tuple(said["shape"])
    one = all(-(-n // c) * c == w for n, c, w in zip(shape, chunk, whole, strict=True))
    if codec is None or not (ours and little and one):
        return None
    return Shard(shape, chunk, np.dtype(said["data_type"]).newbyteorder("<"), codec)


def pack_chunk(array: NDArray[Any], metadata: bytes) -> bytes:
    """The bytes of the one plain chunk of an array that this zarr.json describes."""
    _, said, _ = json.loads(metadata)["codecs"]
    codec = _codec(said)
    assert codec is not None, said
    return _sealed(codec.encode(np.ascontiguousarray(array)))


def parts_of(data: bytes, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """Parts (start, length) of an object that is in memory; a start below 0 counts from the end."""
    return [
        data[start : start + length or None] if start < 0 else data[start : start + length]
        for start, length in spans
    ]


def _codec(said: dict[str, Any]) -> Blosc | Zstd | None:
    settings = dict(said.get("configuration", {}))
    if said["name"] == "zstd":
        return Zstd(level=settings["level"], checksum=settings["checksum"])
    if said["name"] == "blosc":
        return Blosc(**{**settings, "shuffle": SHUFFLES.index(settings["shuffle"])})
    return None


def _cuts(window: slice, chunk: int) -> list[tuple[int, slice, slice]]:
    """Along one axis, for each chunk that the window touches: its number, what to take, where to put it."""
    numbers = range(window.start // chunk, -(-window.stop // chunk))
    ranges = [(n, max(window.start, n * chunk), min(window.stop, (n + 1) * chunk)) for n in numbers]
    return [
        (n, slice(a - n * chunk, b - n * chunk), slice(a - window.start, b - window.start))
        for n, a, b in ranges
    ]


def _sealed(data: bytes) -> bytes:
    checksum: bytes = google_crc32c.value(data).to_bytes(CHECKSUM, "little")
    return data + checksum


def _opened(data: bytes, size: int, what: str) -> memoryview:
    if len(data) != size + CHECKSUM or google_crc32c.value(data) != INTACT:
        raise ValueError(f"{what} of the shard has another crc32c than the one stored with it")
    return memoryview(data)[:size]

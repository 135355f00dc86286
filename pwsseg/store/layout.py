"""Chunk shapes and codecs: the only place that knows them.

A change here changes what is written from then on; what is stored says its own layout in its zarr.json
and stays readable. Every array is ONE object, a chunk or a shard, because one task writes it whole.

| array    | object    | inner chunk (z, y, x) | compressor              | why                               |
|----------|-----------|-----------------------|-------------------------|-----------------------------------|
| scan     | one shard | 64 x 128 x 128        | blosc: shuffle, zstd 3  | small; cubes suit every view      |
| labels   | one chunk | -                     | zstd 9                  | always read whole; runs pack well |
| prepared | one shard | 16 x 96 x 96          | blosc: shuffle, lz4hc 5 | patches are cut out of it, fast   |

Measured by benchmarks/storage.py; docs/decisions/0020-layout-by-measurement.md has what was tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from numpy.typing import NDArray

from pwsseg.store.shards import pack_chunk, shard_of

Purpose = Literal["scan", "labels", "prepared"]
Shape = tuple[int, int, int]
Codec = Any
"""A codec of zarr's, or as an array's `zarr.json` says it."""
AXES = ("z", "y", "x")
CHUNK = "c/0/0/0"
"""Key of the one object that holds an array's voxels."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How one array is cut and packed; crc32c comes last, so that damage is found before decoding."""

    dtype: str
    chunk: Shape | None
    """Inner chunk of the shard, 0 for the whole axis; None: one plain chunk, no shard."""
    compressor: Codec

    def chunks(self, shape: Shape) -> tuple[Shape, Shape | None]:
        """Chunk shape and shard shape for a volume of `shape`."""
        if self.chunk is None:
            return shape, None
        z, y, x = (min(c or n, n) for c, n in zip(self.chunk, shape, strict=True))
        shard = tuple(-(-n // c) * c for n, c in zip(shape, (z, y, x), strict=True))
        return (z, y, x), (shard[0], shard[1], shard[2])


def _blosc(codec: Literal["zstd", "lz4hc"], level: int) -> Codec:
    said = {"typesize": 2, "cname": codec, "clevel": level, "shuffle": "shuffle", "blocksize": 0}
    return {"name": "blosc", "configuration": said}


def _zstd(level: int) -> Codec:
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


LAYOUTS: dict[Purpose, Layout] = {
    "scan": Layout(dtype="int16", chunk=(64, 128, 128), compressor=_blosc("zstd", 3)),
    "labels": Layout(dtype="uint8", chunk=None, compressor=_zstd(9)),
    "prepared": Layout(dtype="float16", chunk=(16, 96, 96), compressor=_blosc("lz4hc", 5)),
}


def encode(array: NDArray[Any], purpose: Purpose) -> dict[str, bytes]:
    """The objects that store `array` (z, y, x): `zarr.json` and one chunk or shard, ready to be put.

    Chunks of nothing but zeros are written like any other: a missing object is always damage.
    """
    return encoded(array, LAYOUTS[purpose], purpose)


def encoded(array: NDArray[Any], layout: Layout, purpose: str) -> dict[str, bytes]:
    """As `encode`, in any layout; TypeError names the `purpose` when the array isn't fit for it."""
    if array.dtype.name != layout.dtype or array.ndim != 3:
        raise TypeError(f"{purpose} must be {layout.dtype} (z, y, x), not {array.dtype} {array.shape}")
    metadata = _metadata(layout, (array.shape[0], array.shape[1], array.shape[2]))
    shard = shard_of(metadata)
    packed = pack_chunk(array, metadata) if shard is None else shard.pack(array)
    return {"zarr.json": metadata, CHUNK: packed}


@lru_cache(maxsize=256)
def _metadata(layout: Layout, shape: Shape) -> bytes:
    """The `zarr.json` of an array, as zarr writes it: 2 ms, which many scans of one shape share."""
    import zarr  # here, since most commands only read, which needs no zarr: it takes a sixth of a second
    from zarr.storage import MemoryStore

    chunks, shards = layout.chunks(shape)
    memory = MemoryStore()
    zarr.create_array(
        memory,
        shape=shape,
        dtype=layout.dtype,
        chunks=chunks,
        shards=shards,
        compressors=[layout.compressor, {"name": "crc32c"}],
        fill_value=0,
        dimension_names=AXES,
    )
    return memory._store_dict["zarr.json"].to_bytes()

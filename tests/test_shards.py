from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from obstore.store import MemoryStore
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from pwsseg.store.layout import AXES, CHUNK, LAYOUTS, Layout, encode, encoded
from pwsseg.store.objects import Objects
from pwsseg.store.shards import parts_of, shard_of
from pwsseg.store.volumes import read_array
from pwsseg.values import Window

BLOSC = BloscCodec(typesize=2, cname="lz4hc", clevel=5, shuffle="shuffle")
BEFORE = (
    Layout("int16", (16, 0, 0), ZstdCodec(level=3)),
    Layout("uint8", None, ZstdCodec(level=5)),
    Layout("float16", (32, 128, 128), BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")),
)
"""How scans, labels and prepared scans were laid out first; stores with these must stay readable."""


def voxels(dtype: str = "int16", shape: tuple[int, int, int] = (19, 40, 35)) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_by_zarr(folder: Path, array: NDArray[Any], layout: Layout, **other: Any) -> None:
    chunks, shards = layout.chunks((array.shape[0], array.shape[1], array.shape[2]))
    given: dict[str, Any] = {"compressors": [layout.compressor, Crc32cCodec()], "shards": shards, **other}
    target = zarr.create_array(
        folder / "v" / "0", shape=array.shape, dtype=array.dtype, chunks=chunks, **given
    )
    target[...] = array


@st.composite
def window_of(draw: st.DrawFn, shape: tuple[int, ...]) -> Window:
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    (a, b), (c, d), (e, f) = ends
    return Window((a, c, e), (b, d, f))


@given(st.data())
def test_any_window_of_any_shard_is_that_of_the_volume(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    array = data.draw(hnp.arrays(np.int16, shape))
    chunk = data.draw(st.tuples(*[st.integers(1, 13)] * 3))
    objects = encoded(array, Layout("int16", chunk, BLOSC), "scan")
    shard = shard_of(objects["zarr.json"])
    assert shard is not None
    window = data.draw(window_of(shape))
    found = shard.unpack(lambda spans: parts_of(objects[CHUNK], spans), window.slices)
    assert np.array_equal(found, array[window.slices])


@pytest.mark.parametrize("layout", BEFORE, ids=lambda layout: str(layout.dtype))
def test_arrays_of_earlier_layouts_are_read(layout: Layout, tmp_path: Path) -> None:
    array = voxels(layout.dtype)
    write_by_zarr(tmp_path, array, layout)
    window = Window((3, 5, 8), (18, 40, 22))
    assert np.array_equal(read_array(Objects(str(tmp_path)), "v"), array)
    assert np.array_equal(read_array(Objects(str(tmp_path)), "v", window), array[window.slices])


def test_labels_are_packed_byte_for_byte_as_zarr_packs_them(tmp_path: Path) -> None:
    layout = LAYOUTS["labels"]
    array = voxels(layout.dtype, (70, 130, 140))
    given = {"compressors": [layout.compressor, {"name": "crc32c"}], "dimension_names": AXES, "fill_value": 0}
    write_by_zarr(tmp_path, array, layout, **given)
    for key, data in encode(array, "labels").items():
        assert data == (tmp_path / "v" / "0" / key).read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"compressors": [GzipCodec()]},
        {"compressors": [ZstdCodec()]},
        {"shards": (16, 40, 35)},
        {"shards": None},
    ],
    ids=["another codec", "no checksum", "two shards", "no shard"],
)
def test_arrays_laid_out_by_others_are_left_to_zarr(other: dict[str, Any], tmp_path: Path) -> None:
    array = voxels()
    write_by_zarr(tmp_path, array, Layout("int16", (8, 40, 35), ZstdCodec()), **other)
    assert shard_of((tmp_path / "v" / "0" / "zarr.json").read_bytes()) is None
    assert np.array_equal(read_array(Objects(str(tmp_path)), "v"), array)


@pytest.mark.parametrize("cut", [1, 4, 30, 5000])
def test_a_shard_cut_short_is_damaged(cut: int) -> None:
    objects = encoded(voxels(), Layout("int16", (8, 16, 16), BLOSC), "scan")
    shard = shard_of(objects["zarr.json"])
    assert shard is not None
    with pytest.raises(ValueError, match="another crc32c"):
        shard.unpack(lambda spans: parts_of(objects[CHUNK][:-cut], spans), np.s_[0:19, 0:40, 0:35])


def test_every_flipped_byte_of_a_shard_is_found() -> None:
    objects = encoded(voxels(shape=(3, 4, 5)), Layout("int16", (2, 2, 3), BLOSC), "scan")
    shard, data = shard_of(objects["zarr.json"]), objects[CHUNK]
    assert shard is not None
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(ValueError, match="another crc32c"):
            shard.unpack(lambda spans, flipped=flipped: parts_of(flipped, spans), np.s_[0:3, 0:4, 0:5])  # type: ignore[misc]


def test_a_chunk_that_was_never_written_is_damage(tmp_path: Path) -> None:
    array = np.zeros((8, 8, 8), np.int16)
    array[0, 0, 0] = 1
    write_by_zarr(tmp_path, array, Layout("int16", (4, 8, 8), ZstdCodec()))
    with pytest.raises(ValueError, match="a chunk is absent"):
        read_array(Objects(str(tmp_path)), "v")


def test_parts_are_the_same_from_a_file_from_memory_and_from_a_server(tmp_path: Path) -> None:
    data = bytes(range(100))
    memory = MemoryStore()
    local, remote = Objects(str(tmp_path)), Objects(str(tmp_path), memory)
    local.write("a/b", data)
    obstore.put(memory, "a/b", data)
    for spans in ([(-8, 8)], [(0, 5)], [(7, 20), (90, 10), (3, 1)]):
        expected = parts_of(data, spans)
        assert local.parts("a/b", spans) == remote.parts("a/b", spans) == expected
    assert parts_of(data, [(-8, 8), (3, 2)]) == [data[-8:], data[3:5]]
    for objects in (local, remote):
        with pytest.raises(FileNotFoundError):
            objects.parts("a/c", [(0, 5)])

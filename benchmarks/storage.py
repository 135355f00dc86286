"""How scans, prepared scans and labels are best stored, beside nnU-Net's blosc2 files and .nii.gz.

python benchmarks/storage.py

One real CT of 512 x 512 voxels a slice is grown to 300 slices and stored in every layout; each is written,
read whole, and read in patches of 48 x 192 x 192 at random places, each time opened anew, as nnU-Net's loader
does. Times are the process's CPU time on one thread with files in the page cache: on a quiet machine that is
the time one waits, and on a busy one it is still comparable. Medians, in alternating order.

`patches_vs_blosc2` is a ratio of times, ours / nnU-Net's, for a float32 patch ready for augmentation:
nnU-Net stores float32, we store float16 and widen it after reading. `patches_vs_blosc2_float16` gives blosc2
our float16 volume and widens that too, which nnU-Net does not do. `bytes_vs_niigz` compares scan and labels.

nnU-Net's way: LZ4HC, level 5, shuffle, one thread, blocks and chunks from the patch by the rule of
`comp_blosc2_params` in nnunetv2 2.8.1 (`chunk_rule` below, from its description).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, NamedTuple

import blosc2
import numcodecs.blosc
import numpy as np
import SimpleITK
import torch
import zarr
from numpy.typing import NDArray
from obstore.store import LocalStore
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.codecs.numcodecs import Delta, PCodec
from zarr.storage import ObjectStore

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.resampling import normalise, resample_scan  # noqa: E402
from pwsseg.formats.nifti import read_labels, read_scan  # noqa: E402
from pwsseg.store.layout import LAYOUTS, Layout, Purpose, Shape, encoded  # noqa: E402
from pwsseg.store.objects import Objects  # noqa: E402
from pwsseg.store.volumes import read_array  # noqa: E402
from pwsseg.values import Window  # noqa: E402

FLARE = ROOT.parent / "shared" / "data" / "flare"
SCAN, LABELS = FLARE / "imagesTr" / "crlm1004_0000.nii.gz", FLARE / "labelsTr" / "tsd.nii.gz"
SLICES = 300
PATCH = (48, 192, 192)
PATCHES = 25
READS = 3
PYTHON = "zarr.core.codec_pipeline.BatchedCodecPipeline"
RUST = "zarrs.ZarrsCodecPipeline"

Volume = NDArray[Any]
Read = Callable[[Path, Window | None], Volume]


class Row(NamedTuple):
    """One way of storing a volume."""

    name: str
    write: Callable[[Path, Volume], None]
    read: Read
    suffix: str = ""


class Figures(NamedTuple):
    """What one way costs: bytes, objects, CPU seconds."""

    bytes: int
    objects: int
    write: float
    read: float
    patch: float


# the volumes


def volumes() -> dict[Purpose, Volume]:
    """The scan, the same prepared at 2.5 mm a slice, and labels, each of 300 slices."""
    scan, labels = read_scan(SCAN).array, read_labels(LABELS).array
    resampled = resample_scan(scan, (2 * len(scan), *scan.shape[1:]))
    prepared = normalise(resampled, clip_hu=(-325, 325)).astype(np.float16)
    return {"scan": grown(scan), "prepared": grown(prepared), "labels": grown(labels)}


def grown(volume: Volume) -> Volume:
    """300 slices: the volume again and again, turned in the plane so that no compressor meets it twice."""
    turned = [volume, volume[:, ::-1], volume[:, :, ::-1], volume[:, ::-1, ::-1]]
    copies = [turned[i % 4] for i in range(-(-SLICES // len(volume)))]
    return np.ascontiguousarray(np.concatenate(copies)[:SLICES])


# our way, in any layout


def ours(name: str, layout: Layout) -> Row:
    """The store's own code."""

    def write(path: Path, volume: Volume) -> None:
        for key, data in encoded(volume, layout, name).items():
            Objects(str(path.parent)).write(f"{path.name}/0/{key}", data)

    def read(path: Path, window: Window | None) -> Volume:
        return read_array(Objects(str(path.parent)), path.name, window)

    return Row(name, write, read)


def through_zarr(name: str, layout: Layout, pipeline: str, **codecs: Any) -> Row:
    """The same by zarr-python, with its own pipeline or that of `zarrs`, over obstore."""

    def write(path: Path, volume: Volume) -> None:
        chunks, shards = layout.chunks((volume.shape[0], volume.shape[1], volume.shape[2]))
        given = {"compressors": [layout.compressor, Crc32cCodec()], **codecs}
        path.mkdir()
        with zarr.config.set({"codec_pipeline.path": pipeline, "threading.max_workers": 1}):
            store = ObjectStore(LocalStore(path))
            array = zarr.create_array(
                store, shape=volume.shape, dtype=volume.dtype, chunks=chunks, shards=shards, **given
            )
            array[...] = volume

    def read(path: Path, window: Window | None) -> Volume:
        with zarr.config.set({"codec_pipeline.path": pipeline, "threading.max_workers": 1}):
            array = zarr.open_array(ObjectStore(LocalStore(path)), mode="r")
            return np.asarray(array[:] if window is None else array[window.slices])

    return Row(name, write, read)


# the peers


def chunk_rule(image: Shape, itemsize: int) -> tuple[list[int], list[int]]:
    """nnU-Net's blocks and chunks for our patch: halve the block that covers most, then grow the chunk.

    A block starts at the patch rounded up to powers of two and is halved along the axis on which it covers
    the largest share of its target (1.5 patches) until it fits 128 KiB. A chunk grows by whole blocks along
    the axis least covered while it fits 6 MiB and its target.
    """
    target = [min(n, int(1.5 * p)) for n, p in zip(image, PATCH, strict=True)]
    block = [min(1 << (p - 1).bit_length(), n) for n, p in zip(image, PATCH, strict=True)]
    while prod(block) * itemsize > 128 * 1024:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / target[a], a))
        block[axis] = 1 << ((block[axis] - 1).bit_length() - 1)
    chunk = block.copy()
    while True:
        larger = [grow(chunk, a, block, target) for a in range(3) if chunk[a] < target[a]]
        fitting = [c for c in larger if prod(c) * itemsize <= 6 * 2**20]
        if not fitting:
            return block, chunk
        chunk = min(fitting, key=lambda c: least_covered(c, chunk, target, image))


def grow(chunk: list[int], axis: int, block: list[int], target: list[int]) -> list[int]:
    """The chunk, one block longer along an axis."""
    return [min(n + block[a], target[a]) if a == axis else n for a, n in enumerate(chunk)]


def least_covered(new: list[int], old: list[int], target: list[int], image: Shape) -> tuple[float, int, int]:
    """The order in which the rule grows: the axis least covered, then the longest, then the first."""
    axis = next(a for a in range(3) if new[a] != old[a])
    return old[axis] / target[axis], -image[axis], axis


def blosc(name: str, dtype: type[np.floating[Any]]) -> Row:
    """nnU-Net's file of blosc2, (channel, z, y, x)."""

    def write(path: Path, volume: Volume) -> None:
        shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        block, chunk = chunk_rule(shape, np.dtype(dtype).itemsize)
        settings = {
            "codec": blosc2.Codec.LZ4HC,
            "clevel": 5,
            "filters": [blosc2.Filter.SHUFFLE],
            "nthreads": 1,
        }
        blosc2.asarray(
            volume.astype(dtype)[None],
            urlpath=str(path),
            chunks=(1, *chunk),
            blocks=(1, *block),
            cparams=settings,
        )

    def read(path: Path, window: Window | None) -> Volume:
        array = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
        found: Volume = np.asarray(array[:] if window is None else array[(slice(None), *window.slices)])[0]
        return found

    return Row(name, write, read, ".b2nd")


def nifti() -> Row:
    """.nii.gz by SimpleITK; a patch needs the whole file."""

    def write(path: Path, volume: Volume) -> None:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume), path, useCompression=True)

    def read(path: Path, window: Window | None) -> Volume:
        volume: Volume = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
        return volume if window is None else volume[window.slices]

    return Row(".nii.gz", write, read, ".nii.gz")


# what is compared


def packed(codec: str, level: int, shuffle: str = "shuffle", itemsize: int = 2) -> BloscCodec:
    """A blosc compressor."""
    return BloscCodec(typesize=itemsize, cname=codec, clevel=level, shuffle=shuffle)  # type: ignore[arg-type]


def rows(purpose: Purpose) -> Iterator[Row]:
    """The chosen layout first, then the others, then the peers."""
    chosen = LAYOUTS[purpose]
    yield ours("chosen", chosen)
    variant = partial(Layout, chosen.dtype)
    slab, cube, patchy = (16, 0, 0), (64, 128, 128), (16, 96, 96)  # slab: 16 whole slices
    if purpose == "scan":
        yield ours("zstd 3, 16 slices (before)", variant(slab, ZstdCodec(level=3)))
        yield ours("bitshuffle, zstd 3", variant(cube, packed("zstd", 3, "bitshuffle")))
        yield ours("bitshuffle, lz4hc 5", variant(cube, packed("lz4hc", 5, "bitshuffle")))
        yield ours("shuffle, zstd 3, 16 slices", variant(slab, packed("zstd", 3)))
        yield through_zarr(
            "delta, zstd 3", variant(cube, ZstdCodec(level=3)), PYTHON, filters=[Delta(dtype="<i2")]
        )
        yield through_zarr(
            "pcodec", variant(cube, ZstdCodec()), PYTHON, serializer=PCodec(), compressors=[Crc32cCodec()]
        )
    elif purpose == "prepared":
        yield ours("lz4 5, 32x128x128 (before)", variant((32, 128, 128), packed("lz4", 5)))
        yield ours("lz4 5", variant(patchy, packed("lz4", 5)))
        yield ours("bitshuffle, lz4hc 5", variant(patchy, packed("lz4hc", 5, "bitshuffle")))
        yield ours("zstd 3", variant(patchy, packed("zstd", 3)))
        yield ours("16x64x64", variant((16, 64, 64), packed("lz4hc", 5)))
        yield ours("24x128x128", variant((24, 128, 128), packed("lz4hc", 5)))
    else:
        yield ours("zstd 5 (before)", variant(None, ZstdCodec(level=5)))
        yield ours("zstd 3", variant(None, ZstdCodec(level=3)))
        yield ours("zstd 9, 64x128x128", variant(cube, ZstdCodec(level=9)))
        yield ours("bitshuffle, zstd 5", variant(cube, packed("zstd", 5, "bitshuffle", 1)))
    yield through_zarr("chosen, zarr-python", chosen, PYTHON)
    yield through_zarr("chosen, zarrs", chosen, RUST)
    if purpose == "prepared":
        yield blosc("blosc2, float32 (nnU-Net)", np.float32)
        yield blosc("blosc2, float16", np.float16)
    else:
        yield nifti()


# the measurement


def measured(purpose: Purpose, volume: Volume, folder: Path) -> dict[str, Figures]:
    """The figures of each way to store this volume, by name."""
    ways = {row.name: row for row in rows(purpose)}
    paths = {name: folder / f"{purpose}-{i}{row.suffix}" for i, (name, row) in enumerate(ways.items())}
    writes = {n: seconds(partial(row.write, paths[n], volume)) for n, row in ways.items()}
    for name, row in ways.items():
        assert np.array_equal(row.read(paths[name], None), volume), (
            f"{purpose}, {name}: other voxels came back"
        )
    reads = alternating({n: partial(row.read, paths[n], None) for n, row in ways.items()}, [None] * READS)
    random = np.random.default_rng(0)
    starts = [
        tuple(int(random.integers(0, n - p + 1)) for n, p in zip(volume.shape, PATCH, strict=True))
        for _ in range(PATCHES)
    ]
    windows = [Window((z, y, x), (z + PATCH[0], y + PATCH[1], x + PATCH[2])) for z, y, x in starts]
    whole = {n for n, p in paths.items() if p.suffix == ".gz"}
    cuts = {n: patch_reader(row, paths[n], purpose) for n, row in ways.items() if n not in whole}
    patches = alternating(cuts, windows)
    return {n: Figures(*stored(paths[n]), writes[n], reads[n], patches.get(n, reads[n])) for n in ways}


def patch_reader(row: Row, path: Path, purpose: Purpose) -> Callable[[Window], Any]:
    """Opens the array and reads one patch; of a prepared scan as float32, which augmentation works on."""
    if purpose == "prepared":
        return lambda window: torch.from_numpy(row.read(path, window)).float()
    return lambda window: row.read(path, window)


def alternating(calls: dict[str, Callable[..., Any]], arguments: list[Any]) -> dict[str, float]:
    """The median CPU seconds of each call, every second turn in the opposite order."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i, argument in enumerate(arguments):
        for name in list(calls)[:: 1 if i % 2 == 0 else -1]:
            call = calls[name] if argument is None else partial(calls[name], argument)
            times[name].append(seconds(call))
    return {name: median(t) for name, t in times.items()}


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of this process, all its threads, for one call."""
    began = process_time()
    call()
    return process_time() - began


def stored(path: Path) -> tuple[int, int]:
    """Bytes and number of the files that a way made."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files), len(files)


def main() -> None:
    """Print the tables and the line of figures."""
    if not SCAN.is_file() or not LABELS.is_file():
        sys.exit(f"{FLARE} has no {SCAN.name} and {LABELS.name}; this benchmark measures on those real CTs")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
    numcodecs.blosc.use_threads = False
    figures: dict[Purpose, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for purpose, volume in volumes().items():
            figures[purpose] = measured(purpose, volume, Path(folder))
            print(f"{purpose:28}{'MB':>8}{'write s':>9}{'read s':>8}{'patch ms':>10}")
            for name, f in figures[purpose].items():
                print(f"  {name:26}{f.bytes / 1e6:8.2f}{f.write:9.2f}{f.read:8.2f}{1e3 * f.patch:10.1f}")
            print(flush=True)
    prepared = figures["prepared"]
    ours_, gz = (sum(figures[p][n].bytes for p in ("scan", "labels")) for n in ("chosen", ".nii.gz"))
    results = {
        "patches_vs_blosc2": prepared["chosen"].patch / prepared["blosc2, float32 (nnU-Net)"].patch,
        "patches_vs_blosc2_float16": prepared["chosen"].patch / prepared["blosc2, float16"].patch,
        "bytes_vs_niigz": ours_ / gz,
        "objects_per_scan": figures["scan"]["chosen"].objects + 1,  # and the group's own zarr.json
    }
    print(json.dumps({name: round(value, 3) for name, value in results.items()}))


if __name__ == "__main__":
    main()

"""The readers of other people's files, each with real files to start from and one changed file at a time.

for name, once in readers(folder, shared_data).items():
    once(Random(0))     # "read" or "refused"; any other end is an error of the reader

Used by tests/test_fuzz.py and, for longer, by benchmarks/fuzz.py.
"""

from __future__ import annotations

import json
import locale
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

import mutations
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import SimpleITK
from filled_store import filled_store

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.formats.dicom import read_series
from pwsseg.formats.nifti import read_labels, read_scan, write_labels, write_scan
from pwsseg.formats.volume import Volume
from pwsseg.rounds import RoundSettings, load_round, round_names
from pwsseg.store import Layer, Store
from pwsseg.store.compare import compare, summary
from pwsseg.store.contents import annotated_classes, class_amounts, published_layers
from pwsseg.store.digests import array_digest, bytes_digest, json_digest
from pwsseg.store.documents import UNSEALED
from pwsseg.store.graph import graph, retired_keys
from pwsseg.store.history import history
from pwsseg.store.model import check_safetensors
from pwsseg.store.repair import repair
from pwsseg.store.tables import _parquet
from pwsseg.store.verify import verify
from pwsseg.values import FLARE23, PwssegError, Window
from pwsseg.values.ids import CASE_ID

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20
"""No reader needs so long for a file of some kilobytes."""
MEMORY = 2 << 30
"""No reader may ask for so much more memory, nor all of them keep it; threads reserve a part of it."""
TAKEN = 256 << 20
"""No reader may really take so much more, for a file of some kilobytes."""
LONGEST = 2000
"""Letters of a sentence: it may repeat a value of the file, not all of it."""

TAGS = (
    *("0008|0060", "0018|0050", "0020|000d", "0020|000e", "0020|0032", "0020|0037"),
    *("0028|0030", "0028|1052", "0028|1053"),
)
"""Modality, thickness, study, series, position, orientation, spacing of pixels, rescaling."""
QUESTIONS = 3
"""Asked of a damaged store in one execution."""

Once = Callable[[Random], str]


def readers(folder: Path, data: Path) -> dict[str, Once]:
    """Every reader by name; `folder` takes what they read, `data` is the folder of real files."""
    scan = _small(data / "flare" / "imagesTr" / "ts_0000.nii.gz", read_scan)
    labels = _small(data / "flare" / "labelsTr" / "ts.nii.gz", read_labels)
    slices = sorted((data / "dicom" / "tsd").iterdir())[8:11]
    return {
        "nifti-header": partial(_nifti, _file(folder, "header"), _written(folder, scan, labels), header=True),
        "nifti-bytes": partial(_nifti, _file(folder, "bytes"), _written(folder, scan, labels), header=False),
        "dicom-packed": partial(_dicom, _file(folder, "packed"), [path.read_bytes() for path in slices]),
        "dicom-plain": partial(_dicom, _file(folder, "plain"), _plain_slices(folder, slices)),
        "tables": partial(_tables, _file(folder, "tables"), scan),
        "settings": partial(_settings, _copied(ROOT / "jobs", folder / "settings")),
        "records": partial(_store, filled_store(_file(folder, "records")), ("zarr.json", ".json")),
        "manifests": partial(_store, filled_store(_file(folder, "manifests")), (".parquet",)),
        "voxels": partial(_store, filled_store(_file(folder, "voxels")), ("c/0/0/0", "0/zarr.json")),
        "weights": partial(_weights, _file(folder, "weights")),
    }


_pages_at_first: list[int] = []


@contextmanager
def bounded() -> Iterator[None]:
    """An error where a reader takes more than SECONDS or more than MEMORY beside what is taken already."""

    def late(*_: object) -> None:
        raise TimeoutError(f"a reader took more than {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before_mib = _peak_mib(anew=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    _pages_at_first.append(pages)
    pages = min(pages, _pages_at_first[0] + MEMORY // resource.getpagesize())  # what leaks adds up
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        taken = _peak_mib() - before_mib
        assert taken << 20 <= TAKEN, f"a reader took {taken} MiB"


def _peak_mib(*, anew: bool = False) -> int:
    """The most memory that this process has had, ever or since this moment (getrusage counts parents in)."""
    if anew:
        with suppress(OSError):  # some containers forbid it: then only what exceeds all before is seen
            Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def outcome(*reads: Callable[[], object]) -> str:
    """`read` when every reading ends well, `refused` when one ends in a sentence of ours."""
    said = "read"
    for read in reads:
        try:
            with bounded(), np.errstate(all="ignore"):
                read()
        except PwssegError as error:
            check_sentence(str(error))
            said = "refused"
    return said


def check_sentence(said: str) -> None:
    """AssertionError unless it is one sentence that a person can read."""
    assert said.strip(), "the error says nothing"
    assert "\n" not in said, f"the error has several lines: {said!r}"
    assert len(said) <= LONGEST, f"the error has {len(said)} letters"
    assert "Traceback" not in said


# files


def _nifti(folder: Path, seeds: dict[str, bytes], chance: Random, *, header: bool) -> str:
    name = chance.choice(sorted(seeds))
    data = seeds[name]
    if header:
        data = mutations.changed_nifti(chance, data)
    elif chance.random() < 0.5:
        data = mutations.changed_bytes(chance, data, within=chance.choice((None, 360)))
    packed = chance.random() < 0.5
    path = folder / f"{name}{'.nii.gz' if packed else '.nii'}"
    path.write_bytes(mutations.zipped(chance, data) if packed else data)

    def scan() -> None:
        check_volume(read_scan(path, any_range=True), "int16")

    def labels() -> None:
        volume = read_labels(path, may_be_unknown=True)
        check_volume(volume, "uint8")
        assert set(np.unique(volume.array).tolist()) <= {0, 255, *FLARE23.ids}

    said = outcome(scan, labels)
    path.unlink()
    return said


def check_volume(volume: Volume, dtype: str) -> None:
    """AssertionError unless the grid is the array's, and one that a person could lie in."""
    geometry = volume.geometry
    assert volume.array.dtype.name == dtype
    assert volume.array.shape == geometry.shape
    assert all(0.01 <= mm <= 1000 for mm in geometry.spacing), geometry.spacing
    assert all(mm <= 100_000 for mm in geometry.extent_mm), geometry.extent_mm
    assert all(abs(mm) <= 1e6 for mm in geometry.origin), geometry.origin


def _dicom(folder: Path, slices: Sequence[bytes], chance: Random) -> str:
    changed = list(slices[: chance.choice((1, 3, 3, 3))])
    which = chance.randrange(len(changed))
    for i in range(len(changed)):
        if i == which or chance.random() < 0.1:
            kind = chance.choice(("element", "element", "header", "any"))
            changed[i] = (
                mutations.changed_dicom(chance, changed[i])
                if kind == "element"
                else mutations.changed_bytes(chance, changed[i], within=3000 if kind == "header" else None)
            )
    shutil.rmtree(folder)
    folder.mkdir()
    for i, data in enumerate(changed):
        (folder / f"{i}.dcm").write_bytes(data)
    return outcome(lambda: check_volume(read_series(folder, any_range=True), "int16"))


def _tables(folder: Path, scan: Volume, chance: Random) -> str:
    """annotated.csv and .json, and a dataset.json beside the files it lists."""
    csv = "case,classes\nts,1 2 3\ngate449,\ns0024,14\n"
    listed = {"ts": [1, 2, 3], "gate449": [], "s0024": [14]}
    dataset = {
        "name": "d", "file_ending": ".nii.gz", "labels": {"background": 0, "liver": 1, "spleen": 2},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], "test": [],
    }  # fmt: skip
    dataset |= chance.choice(({"channel_names": {"0": "CT"}}, {"modality": {"0": "CT"}}))
    kind = chance.choice(("csv", "json", "dataset"))
    if kind == "dataset":
        root = folder / "dataset"
        if not root.exists():
            for name in ("imagesTr", "labelsTr"):
                write_labels(root / name / "a.nii.gz", Volume(scan.array > 0, scan.geometry))
        (root / "dataset.json").write_bytes(mutations.changed_json(chance, json.dumps(dataset).encode()))

        def find() -> None:
            found = find_cases(root)
            assert all(CASE_ID.fullmatch(c.case) and root in c.scan.parents for c in found.cases)
            for fault in found.faults:
                check_sentence(fault.message)

        return outcome(find)
    path = folder / f"annotated.{kind}"
    if kind == "csv":
        path.write_bytes(_changed_csv(chance, csv))
    else:
        path.write_bytes(mutations.changed_json(chance, json.dumps(listed).encode()))

    def read() -> None:
        for case, classes in read_annotated(path).items():
            assert CASE_ID.fullmatch(case)
            assert classes <= set(FLARE23.ids)

    return outcome(read)


def _changed_csv(chance: Random, text: str) -> bytes:
    cells = [line.split(",") for line in text.splitlines()]
    strange = (*mutations.STRINGS, "1" * 200_000, '"', "1,2", "1 1", "0", "15", "+1", "1.0", "0x1", "\u0661")
    cells[chance.randrange(len(cells))][chance.randrange(2)] = chance.choice(strange)
    data = "\n".join(",".join(row) for row in cells).encode("utf-8", "surrogatepass")
    return mutations.changed_bytes(chance, data) if chance.random() < 0.3 else data


def _settings(folder: Path, chance: Random) -> str:
    """One file of rounds or scales, changed and put back."""
    path = chance.choice(sorted(folder.glob("*/*.toml")))
    text = path.read_text(encoding="utf-8")
    name = path.stem if path.parent.name == "rounds" else chance.choice(("os1", "ots2"))
    scale = path.stem if path.parent.name == "scales" else "laptop"
    try:
        path.write_text(mutations.changed_toml(chance, text), encoding="utf-8")
        return outcome(
            lambda: check_settings(load_round(name, scale, folder=folder)), lambda: round_names(folder)
        )
    finally:
        path.write_text(text, encoding="utf-8")


def check_settings(settings: RoundSettings) -> None:
    """Everything that a round derives from its settings can be derived."""
    assert len(settings.recipe) == len("prepared-") + 12
    for one in (settings, settings.coarse):
        if one is not None:
            json_digest(one.pinned())
            json_digest(one.prediction.model_dump(mode="json"))
            assert one.channels
            assert one.epochs >= 1


# the store


def _store(store: Store, endings: tuple[str, ...], chance: Random) -> str:
    """One object of a store, changed and put back; half of the time with seals and digests that fit it."""
    root = Path(store.location)
    keys = sorted(key for key in store.objects.keys("") if key.endswith(endings))
    path = root / chance.choice(keys)
    original = path.read_bytes()
    changes: dict[Path, bytes] = {path: changed_object(chance, path.name, original)}
    if chance.random() < 0.5:
        changes |= restated(path, changes[path])
    before = {p: p.read_bytes() for p in changes}
    try:
        for p, data in changes.items():
            p.write_bytes(data)
        return outcome(*_questions(root, chance))
    finally:
        for p, data in before.items():
            p.write_bytes(data)


def changed_object(chance: Random, name: str, data: bytes) -> bytes:
    """Another object of the same kind."""
    if name.endswith(".json"):
        return mutations.changed_json(chance, data)
    if name.endswith(".parquet") and chance.random() < 0.7:
        table = pa.parquet.read_table(pa.BufferReader(data))
        rows = mutations.changed_rows(chance, table.to_pylist())
        for schema in (table.schema, None):  # with the types that were there, if the rows still fit them
            with suppress(pa.ArrowException, OverflowError, ValueError, TypeError):
                return bytes(_parquet(pa.Table.from_pylist(rows, schema=schema)))
    return mutations.changed_bytes(chance, data)


def restated(path: Path, data: bytes) -> dict[Path, bytes]:
    """The changed object and the record beside it, so that their digests and seals fit once more."""
    found = {path: sealed(data) if path.name.endswith(".json") else data}
    if path.name == "manifest.parquet":
        record = path.parent / "zarr.json"
        said = json.loads(record.read_bytes())
        said["attributes"]["pwsseg"]["record"]["state"]["manifest"] = bytes_digest(data)
        found[record] = sealed(json.dumps(said).encode())
    elif path.parent.name == "scores" and path.name.endswith(".parquet"):
        record = path.with_suffix(".json")
        said = json.loads(record.read_bytes())
        said["pwsseg"]["record"]["table"] = bytes_digest(data)
        found[record] = sealed(json.dumps(said).encode())
    elif path.name == "zarr.json" and path.parent.name == "0":
        record = path.parents[1] / "zarr.json"
        said = json.loads(record.read_bytes())
        said["attributes"]["pwsseg"]["arrays"]["0"] = bytes_digest(data)
        found[record] = sealed(json.dumps(said).encode())
    return found


def sealed(data: bytes) -> bytes:
    """The document with a seal that holds, where it has a place for one."""
    try:
        document = json.loads(data)
        document.get("attributes", document)["pwsseg"]["seal"] = UNSEALED
        text = json.dumps(document)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return data
    return text.replace(UNSEALED, bytes_digest(text.encode()), 1).encode()


def _questions(root: Path, chance: Random) -> list[Callable[[], object]]:
    """Some of what people ask of a store, and whether it is whole."""
    case = chance.choice(("case-a", "case-b", "case-c"))
    layer = chance.choice(("annotation", "os1", "os1-fused", "os1.v2"))
    asked: list[Callable[[Store], object]] = [
        _read_scans,
        lambda s: s.cases("training"),
        _read_layers,
        lambda s: s.layer(layer).labels(case),
        lambda s: [s.models(), graph(s), retired_keys(s), annotated_classes(s)],
        lambda s: [s.model("os1").weights_bytes(), s.model("os1").curve()],
        lambda s: history(s, case),
        lambda s: summary(list(compare(s.layer("annotation"), s.layer("os1")))),
        lambda s: s.scores("os1", "annotation"),
        _read_prepared,
    ]
    chosen = [*chance.sample(asked, QUESTIONS), _verified]
    return [partial(_ask, root, question) for question in chosen]


def _ask(root: Path, question: Callable[[Store], object]) -> None:
    question(Store.open(root))


def _read_scans(store: Store) -> None:
    for case in store.cases():
        scan = store.scan(case)
        assert scan.case == case
        array = scan.read()
        assert (array.shape, array_digest(array)) == (scan.geometry.shape, scan.digest)


def _read_layers(store: Store) -> None:
    for layer in published_layers(store):
        class_amounts(layer)
        _check_layer(layer)


def _check_layer(layer: Layer) -> None:
    for row in layer.manifest():
        case = row["case"]
        assert CASE_ID.fullmatch(case)
        entry = layer.entry(case)
        assert entry.case == case
        assert layer.labels(case).shape == entry.geometry.shape
        layer.stored(row)


def _read_prepared(store: Store) -> None:
    cache = store.prepared("spacing-4-2-2")
    array, geometry = cache.read("case-a")
    assert array.shape == geometry.shape
    cache.read_window("case-a", Window((0, 0, 0), (2, 3, 4)))


def _verified(store: Store) -> None:
    """A verification of what is damaged finds it; it never ends before its time."""
    try:
        findings = list(verify(store))
        repair(store, findings, older_than=timedelta(0), dry_run=True)
    except PwssegError as error:
        raise AssertionError(f"the verification did not end: {error}") from error
    for finding in findings:
        check_sentence(finding.what)


def _weights(folder: Path, chance: Random) -> str:
    header = {"conv.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    text = mutations.changed_json(chance, json.dumps(header).encode())
    length = chance.choice((len(text), len(text), 0, 2**63, 2**64 - 1)).to_bytes(8, "little")
    path = folder / "weights.safetensors"
    path.write_bytes(mutations.changed_bytes(chance, length + text + bytes(24)))
    return outcome(lambda: check_safetensors(path))


# seeds


def _small(path: Path, read: Callable[[Path], Volume]) -> Volume:
    """A few voxels from the middle of a real file, where they lie."""
    volume = read(path)
    middle = [n // 2 for n in volume.array.shape]
    window = Window((middle[0], middle[1], middle[2]), (middle[0] + 4, middle[1] + 6, middle[2] + 8))
    return Volume(volume.array[window.slices].copy(), volume.geometry.cropped(window))


def _written(folder: Path, scan: Volume, labels: Volume) -> dict[str, bytes]:
    """The bytes of small .nii files: a scan, labels, an oblique scan and one of floats with a scale."""
    write_scan(folder / "seed.nii", scan)
    seeds = {"scan": (folder / "seed.nii").read_bytes()}
    write_labels(folder / "seed.nii", labels)
    seeds["labels"] = (folder / "seed.nii").read_bytes()
    turn = np.radians(20)
    direction = (0.0, np.sin(turn), np.cos(turn), 0.0, np.cos(turn), -np.sin(turn), 1.0, 0.0, 0.0)
    oblique = scan.geometry.model_copy(update={"direction": tuple(map(float, direction))})
    write_scan(folder / "seed.nii", Volume(scan.array, oblique))
    seeds["oblique"] = (folder / "seed.nii").read_bytes()
    scaled = bytearray(seeds["scan"])
    scaled[112:120] = np.array([0.5, -24], "<f4").tobytes()
    seeds["scaled"] = bytes(scaled)
    return seeds


def _plain_slices(folder: Path, slices: Sequence[Path]) -> list[bytes]:
    """The middle of real slices, uncompressed, with the tags that they had."""
    found = []
    before = locale.setlocale(locale.LC_ALL)  # GDCM leaves C behind: what is read as text would be ASCII
    for path in slices:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        whole = reader.Execute()
        part = whole[240:264, 240:272]
        for key in TAGS:
            part.SetMetaData(key, reader.GetMetaData(key).strip(" \0"))
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / "seed.dcm"))
        writer.Execute(part)
        found.append((folder / "seed.dcm").read_bytes())
    locale.setlocale(locale.LC_ALL, before)
    return found


def _file(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name


def _copied(source: Path, target: Path) -> Path:
    for kind in ("rounds", "scales"):
        shutil.copytree(source / kind, target / kind)
    return target


@contextmanager
def opened(data: Path) -> Iterator[dict[str, Once]]:
    """The readers in a folder that goes again."""
    with tempfile.TemporaryDirectory() as folder:
        yield readers(Path(folder), data)

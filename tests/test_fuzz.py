"""Damaged and hostile files are read, or refused in one sentence; benchmarks/fuzz.py looks for longer.

Below: what fuzzing has found, one file each, so that it stays found.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import SimpleITK
from filled_store import filled_store
from fuzzed import Once, bounded, check_sentence, outcome, readers, restated, sealed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import DEEP, changed_dicom, changed_json, changed_nifti, dicom_elements
from road import REPOSITORY

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.formats.dicom import read_series
from pwsseg.formats.nifti import read_scan
from pwsseg.rounds import load_round, round_names
from pwsseg.store import Store
from pwsseg.store.model import check_safetensors
from pwsseg.store.verify import verify
from pwsseg.values import InputError, PwssegError, SettingsError, StoreError

EXAMPLES = {
    "nifti-header": 300,
    "nifti-bytes": 300,
    "dicom-packed": 15,
    "dicom-plain": 300,
    "tables": 500,
    "settings": 200,
    "records": 40,
    "manifests": 40,
    "voxels": 40,
    "weights": 200,
}
"""Examples a reader: the whole takes less than a minute."""
MANY_DIGITS, BRACKETS = "9" * 5000, "[" * DEEP


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> dict[str, Once]:
    return readers(tmp_path_factory.mktemp("fuzz"), shared_data)


def test_every_reader_has_its_number_of_examples(all_readers: dict[str, Once]) -> None:
    assert set(all_readers) == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_changed_file_is_read_or_refused_in_a_sentence(name: str, all_readers: dict[str, Once]) -> None:
    met = set()

    # the same examples each time: a run that surprises nobody who changed something else
    # and none is made smaller: what a library leaks would add up
    @settings(
        max_examples=EXAMPLES[name],
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(chance=st.randoms(use_true_random=False))
    def each(chance: Any) -> None:
        met.add(all_readers[name](chance))

    each()
    assert "refused" in met, "no change did any harm: nothing was tried"


def test_the_long_run_counts_executions_and_exits_by_its_findings() -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "fuzz.py"), "--minutes", "0.05", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures["executions"]) == set(EXAMPLES)
    assert not figures["findings"]


# the fuzzing itself


def test_a_reader_that_fails_in_its_own_way_is_a_finding() -> None:
    def breaks() -> None:
        raise KeyError("case")

    with pytest.raises(KeyError):
        outcome(breaks)


@pytest.mark.parametrize(
    ("array", "ends_in"),
    [
        ("np.zeros(3 << 30, np.uint8)", "MemoryError"),  # only asked for: the pages are never touched
        ("np.ones(400 << 20, np.uint8)", "AssertionError: a reader took"),
        ("np.ones(100 << 20, np.uint8)", ""),
    ],
)
def test_a_reader_that_takes_too_much_memory_is_a_finding(array: str, ends_in: str) -> None:
    """In a process of its own: this one may have been larger before."""
    code = f"import numpy as np; from fuzzed import bounded\nwith bounded(): {array}"
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode == 0) == (ends_in == "")
    assert ends_in in done.stderr


def test_a_reader_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzed.SECONDS", 0.1)
    with pytest.raises(TimeoutError), bounded():
        time.sleep(10)


@pytest.mark.parametrize("said", ["", " ", "two\nlines", "x" * 3000])
def test_what_nobody_can_read_is_no_sentence(said: str) -> None:
    with pytest.raises(AssertionError):
        check_sentence(said)


def test_changes_reach_fields_elements_and_values(shared_data: Path) -> None:
    """The changes are what they are called: most leave the rest of the file as it was."""
    from random import Random

    slices = sorted((shared_data / "dicom" / "tsd").iterdir())
    data = slices[0].read_bytes()
    assert len(dicom_elements(data)) > 50
    assert len({changed_dicom(Random(n), data) for n in range(50)}) > 40
    header = bytes(352)
    assert all(len(changed_nifti(Random(n), header)) == 352 for n in range(50))
    document = json.dumps({"a": [1, {"b": 2}]}).encode()
    assert len({changed_json(Random(n), document) for n in range(50)}) > 30


# what was found


def refused(read: Callable[[], object], kind: type[PwssegError], because: str) -> None:
    with bounded(), pytest.raises(kind, match=because) as caught:
        read()
    check_sentence(str(caught.value))


@pytest.mark.parametrize("text", [f'{{"a": [{MANY_DIGITS}]}}', BRACKETS, '{"a":' * DEEP])
def test_json_of_thousands_of_digits_or_brackets_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    refused(lambda: read_annotated(tmp_path / "t.json"), InputError, "too many digits|too deep")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(text)
    refused(lambda: find_cases(tmp_path), InputError, "too many digits|too deep")


def test_a_cell_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("case,classes\n" + "1" * 1_000_000)
    refused(lambda: read_annotated(tmp_path / "t.csv"), InputError, "field larger")


def test_a_value_of_any_length_is_repeated_in_part(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"x" * 70_000: [1]}))
    refused(lambda: read_annotated(tmp_path / "t.json"), InputError, "is no case id")


@pytest.mark.parametrize("name", ["\ud800.nii.gz", "a\0.nii.gz", "a\n.nii.gz", "x" * 5000, {"a": 1}])
def test_a_listed_file_that_can_not_be_one_is_a_fault(tmp_path: Path, name: Any) -> None:
    (tmp_path / "imagesTr").mkdir()
    dataset = {
        "labels": {"0": "background", "1": "liver"},
        "modality": {"0": "CT"},
        "training": [{"image": name}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    (fault,) = find_cases(tmp_path).faults
    assert "is listed in dataset.json and is not there" in fault.message
    check_sentence(fault.message)


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("clip_hu = [nan, 325.0]", "nan is no finite number"),
        ("clip_hu = [-325.0, inf]", "inf is no finite number"),
        ("weight_decay = 1e999", "1e999 is no finite number"),
        (f"weight_decay = {MANY_DIGITS}", "not valid TOML"),
        (f"classes = {BRACKETS}", "not valid TOML"),
    ],
)
def test_settings_that_are_no_numbers_are_refused(tmp_path: Path, line: str, because: str) -> None:
    folder = settings_with(tmp_path, line)
    refused(lambda: load_round("os1", "laptop", folder=folder), SettingsError, because)


@pytest.mark.parametrize("line", ["learns_from = 1", "learns_from = {}", "stage = ['os']"])
def test_rounds_of_other_types_are_refused(tmp_path: Path, line: str) -> None:
    folder = settings_with(tmp_path, line)
    assert "os1" in round_names(folder)
    refused(lambda: load_round("os1", "laptop", folder=folder), SettingsError, line.partition(" ")[0])
    if line.startswith("stage"):  # os2 goes on from os1, and reads its stage
        assert load_round("os2", "laptop", folder=folder).science.starts_from == "scratch"


def test_settings_of_nothing_are_refused(tmp_path: Path) -> None:
    folder = settings_with(tmp_path, "classes = []")
    refused(lambda: load_round("os1", "laptop", folder=folder), SettingsError, "classes must be ids")
    path = folder / "scales" / "laptop.toml"
    path.write_text(path.read_text().replace("stem = [2, 2, 2]", "stem = [0, 2, 2]"))
    refused(lambda: load_round("os2", "laptop", folder=folder), SettingsError, "stem.0: .*greater than")


def settings_with(folder: Path, line: str) -> Path:
    """The settings of the repository, with one line of os1.toml replaced."""
    key = line.partition(" ")[0]
    for kind in ("rounds", "scales"):
        (folder / kind).mkdir()
        for path in (REPOSITORY / "jobs" / kind).glob("*.toml"):
            (folder / kind / path.name).write_text(path.read_text())
    path = folder / "rounds" / "os1.toml"
    lines = [line if said.partition(" ")[0] == key else said for said in path.read_text().splitlines()]
    assert line in lines
    path.write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(("spacing", "origin"), [(0.003, 0.0), (3000.0, 0.0), (1.0, 3e38), (1.0, -2e7)])
def test_a_scan_that_no_scanner_makes_is_refused(tmp_path: Path, spacing: float, origin: float) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
    image.SetSpacing((spacing,) * 3)
    SimpleITK.WriteImage(image, str(tmp_path / "scan.nii"))
    raw = bytearray((tmp_path / "scan.nii").read_bytes())
    raw[292:296] = raw[268:272] = struct.pack("<f", origin)
    (tmp_path / "scan.nii").write_bytes(raw)
    refused(lambda: read_scan(tmp_path / "scan.nii", any_range=True), InputError, "mm|100 m")


@pytest.mark.parametrize("code", [252, 254], ids=["qform", "sform"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3e38])
def test_a_place_that_itk_would_decompose_for_ever_is_refused(
    tmp_path: Path, code: int, number: float
) -> None:
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(tmp_path / "scan.nii")
    )
    raw = bytearray((tmp_path / "scan.nii").read_bytes())
    raw[252:256] = bytes(4)
    raw[code : code + 2] = b"\1\0"
    at = {252: 256, 254: 280}[code]
    raw[at : at + 4] = struct.pack("<f", number)
    (tmp_path / "scan.nii").write_bytes(raw)
    refused(
        lambda: read_scan(tmp_path / "scan.nii", any_range=True), InputError, "qform or sform|contradicts"
    )


@pytest.mark.parametrize("value", [b"1.2.826.", b"\xff\xff\xff\x7f"])
def test_an_element_longer_than_its_file_takes_no_memory(
    tmp_path: Path, shared_data: Path, value: bytes
) -> None:
    """GDCM takes, and keeps, as much memory as an element says it has bytes."""
    data = sorted((shared_data / "dicom" / "tsd").iterdir())[0].read_bytes()
    start, _, _ = dicom_elements(data)[5]
    (tmp_path / "1.dcm").write_bytes(data[: start + 4] + value + data[start + 8 :])
    refused(lambda: read_series(tmp_path), InputError, "no whole DICOM image: its element")


def test_an_item_without_a_sequence_takes_no_memory(tmp_path: Path, shared_data: Path) -> None:
    data = sorted((shared_data / "dicom" / "tsd").iterdir())[0].read_bytes()
    at = data.index(b"\x08\x00\x40\x11SQ") + 8
    (tmp_path / "1.dcm").write_bytes(data[:at] + bytes(4) + data[at + 4 :])
    refused(lambda: read_series(tmp_path), InputError, "no whole DICOM image")


def test_pixels_that_the_file_is_too_short_for_take_no_memory(tmp_path: Path, shared_data: Path) -> None:
    data = sorted((shared_data / "dicom" / "tsd").iterdir())[0].read_bytes()
    for tag in (b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US"):
        at = data.index(tag) + 8
        data = data[:at] + b"\xff\xff" + data[at + 2 :]
    (tmp_path / "1.dcm").write_bytes(data)
    refused(lambda: read_series(tmp_path), InputError, "65535 x 65535 pixels and is too short")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


def test_a_damaged_manifest_is_told_by_whoever_reads_it(store: Store) -> None:
    path = Path(store.location) / "layers" / "os1.v1" / "manifest.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    refused(store.layer("os1").cases, StoreError, "not the one that was published")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"voxels_1": "many"}, "another type"),
        ({"case": None}, "missing"),
        ({"digest": 4}, "another type"),
        ({"case": "../../../etc/x"}, "no case id"),
    ],
)
def test_a_forged_manifest_is_refused(store: Store, change: dict[str, Any], because: str) -> None:
    """Its digest is the one that the record states, and the record's seal holds."""
    path = Path(store.location) / "layers" / "os1.v1" / "manifest.parquet"
    table = pq.read_table(path)
    rows = [row | change for row in table.to_pylist()]
    fits = set(change) == {"case"}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema if fits else None), path)
    for changed, data in restated(path, path.read_bytes()).items():
        changed.write_bytes(data)
    refused(Store.open(store.location).layer("os1").manifest, StoreError, because)
    assert [f for f in verify(store) if f.where == "layers/os1.v1/manifest.parquet"]


def test_bytes_that_are_no_table_are_refused_as_scores(store: Store) -> None:
    path = Path(store.location) / "scores" / "os1.v1--annotation.v1.parquet"
    for changed, data in restated(path, path.read_bytes()[:-9]).items():
        changed.write_bytes(data)
    refused(lambda: store.scores("os1", "annotation"), StoreError, "can't be read as Parquet")


def test_a_manifest_that_does_not_count_what_it_states_is_refused(store: Store) -> None:
    path = Path(store.location) / "layers" / "os1.v1" / "manifest.parquet"
    table = pq.read_table(path)
    rows = [row | {"voxels_1": None} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    for changed, data in restated(path, path.read_bytes()).items():
        changed.write_bytes(data)
    refused(Store.open(store.location).layer("os1").manifest, StoreError, "does not count")


def test_a_layer_whose_record_names_a_class_twice_is_damage_that_verify_tells(store: Store) -> None:
    path = Path(store.location) / "layers" / "os1.v1" / "zarr.json"
    said = json.loads(path.read_bytes())
    said["attributes"]["pwsseg"]["record"]["pins"]["classes"] = [1, 1, 2, 14]
    path.write_bytes(sealed(json.dumps(said).encode()))
    assert [f for f in verify(store) if f.where == "layers/os1.v1/manifest.parquet"]


@pytest.mark.parametrize("key", ["scans/case-a", "layers/os1.v1/case-a", "prepared/spacing-4-2-2/case-a"])
def test_an_array_that_promises_more_than_its_record_takes_no_memory(store: Store, key: str) -> None:
    path = Path(store.location) / key / "0" / "zarr.json"
    said = json.loads(path.read_bytes())
    said["shape"] = [40_000, 40_000, 40_000]
    said["chunk_grid"]["configuration"]["chunk_shape"] = said["shape"]
    for changed, data in restated(path, json.dumps(said).encode()).items():
        changed.write_bytes(data)
    reads = {
        "scans": lambda: store.scan("case-a").read(),
        "layers": lambda: store.layer("os1").labels("case-a"),
        "prepared": lambda: store.prepared("spacing-4-2-2").read("case-a"),
    }
    refused(reads[key.partition("/")[0]], StoreError, "40000")
    assert [f for f in verify(store) if f.where == key]


@pytest.mark.parametrize("key", ["scans/case-a", "layers/os1.v1/case-a"])
def test_a_record_that_promises_more_than_is_stored_takes_no_memory(store: Store, key: str) -> None:
    """Both documents are forged, digests and seals fit: the bytes can't hold so many voxels."""
    folder = Path(store.location) / key
    array = json.loads((folder / "0" / "zarr.json").read_bytes())
    array["shape"] = array["chunk_grid"]["configuration"]["chunk_shape"] = [40_000, 40_000, 40_000]
    for changed, data in restated(folder / "0" / "zarr.json", json.dumps(array).encode()).items():
        changed.write_bytes(data)
    record = json.loads((folder / "zarr.json").read_bytes())
    record["attributes"]["pwsseg"]["record"]["geometry"]["shape"] = [40_000, 40_000, 40_000]
    (folder / "zarr.json").write_bytes(sealed(json.dumps(record).encode()))
    if key.startswith("scans"):
        refused(lambda: store.scan("case-a").read(), StoreError, "can't be read")
    else:
        refused(lambda: store.layer("os1").labels("case-a"), StoreError, "can't be read")


@pytest.mark.parametrize(
    "text", [BRACKETS.encode(), b'{"pwsseg":' * DEEP, b'{"pwsseg": ' + MANY_DIGITS.encode() + b"}"]
)
def test_a_document_too_deep_to_follow_is_no_record(store: Store, text: bytes) -> None:
    (Path(store.location) / "scans" / "case-a" / "zarr.json").write_bytes(text)
    refused(lambda: store.scan("case-a"), StoreError, "no readable 'pwsseg' record")
    assert [f for f in verify(store) if f.where == "scans/case-a/zarr.json"]


def test_weights_whose_header_is_too_deep_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(BRACKETS).to_bytes(8, "little") + BRACKETS.encode())
    refused(lambda: check_safetensors(path), StoreError, "no safetensors file")

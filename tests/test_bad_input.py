"""Every file that a reader would pass over, refused in one sentence that names it."""

import gzip
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.formats.dicom import read_series
from pwsseg.formats.nifti import check_same_grid, read_labels, read_scan, write_labels
from pwsseg.formats.reading import read_volume, source_digest
from pwsseg.formats.volume import Volume
from pwsseg.values import InputError
from pwsseg.values.ids import check_case_id

VERDICTS = {
    "MADE_truncated_ts_example_ct.nii.gz": "truncated",
    "MR_truncated.dcm": "no whole DICOM image",
    "SC_rgb_small_odd.dcm": "modality OT, expected CT",
    "no_meta.dcm": "no whole DICOM image",
    "dicom_ct_3slices_gaps_62_94mm": "62 mm apart where 78 mm is usual",
    "dicom_ct_gantrytilt_4slices": "gantry tilt of 14.0 degrees",
    "dicom_ct_missing_slice_4slices": "10 mm apart where 5 mm is usual",
    "nifti_MR_wrong_modality_ts_example_mr_sm.nii.gz": "-47 to 833; a CT in HU has air",
    "nifti_RGB24_ct_perfusion.nii.gz": "RGB colours",
    "nifti_complex64_not_ct.nii.gz": "complex numbers",
    "nifti_ct_oblique_sheared_uint8_CT_pitch.nii.gz": "0 to 255; a CT in HU has air",
}
"""Files of the shared folder bad/ that must be refused, and what the refusal must say."""

ODD_BUT_RIGHT = {
    "CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm": ((1, 512, 512), -3024, 1378),
    "nifti_ct_axes_permuted_PLI_qform0.nii.gz": ((13, 512, 512), -1024, 1228),
}
"""Files of bad/ that must be read: shape (z, y, x), lowest and highest HU."""


def refused(read: Callable[[], object], *, path: Path, because: str) -> None:
    """Assert that `read` ends in one sentence that names `path` and says `because`."""
    with pytest.raises(InputError) as caught:
        read()
    sentence = str(caught.value)
    assert str(path) in sentence
    assert because in sentence
    assert "\n" not in sentence
    assert ";" in sentence, "what to do comes last"
    assert not re.search(r"ITK|Traceback|0x", sentence)


def place(source: Path, tmp_path: Path) -> Path:
    """Where `source` can be read: a loose DICOM file goes into a folder of its own."""
    if source.suffix != ".dcm":
        return source
    shutil.copy(source, tmp_path)
    return tmp_path


def write(path: Path, array: np.ndarray, **fields: bytes) -> Path:
    """Write with SimpleITK, then overwrite header bytes at `at_OFFSET`."""
    image = SimpleITK.GetImageFromArray(array)
    SimpleITK.WriteImage(image, str(path))
    raw = bytearray(path.read_bytes())
    for key, value in fields.items():
        at = int(key.removeprefix("at_"))
        raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


@pytest.fixture
def hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (6, 7, 8), dtype=np.int16)


@pytest.fixture
def series(shared_data: Path, tmp_path: Path) -> Path:
    """Five slices of a real series, free to be broken."""
    folder = tmp_path / "series"
    folder.mkdir()
    for path in sorted((shared_data / "dicom" / "tsd").iterdir())[:5]:
        shutil.copy(path, folder)
    return folder


def test_every_bad_file_has_a_verdict(shared_data: Path) -> None:
    assert {p.name for p in (shared_data / "bad").iterdir()} == {*VERDICTS, *ODD_BUT_RIGHT}


@pytest.mark.parametrize("name", VERDICTS)
def test_real_bad_file_is_refused(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = place(shared_data / "bad" / name, tmp_path)
    refused(lambda: read_volume(path), path=path, because=VERDICTS[name])


@pytest.mark.parametrize("name", ODD_BUT_RIGHT)
def test_real_odd_file_is_read(shared_data: Path, tmp_path: Path, name: str) -> None:
    shape, low, high = ODD_BUT_RIGHT[name]
    scan = read_volume(place(shared_data / "bad" / name, tmp_path))
    assert (scan.array.shape, scan.array.min(), scan.array.max()) == (shape, low, high)


def test_range_rule_can_be_overruled(shared_data: Path) -> None:
    path = shared_data / "bad" / "nifti_MR_wrong_modality_ts_example_mr_sm.nii.gz"
    assert read_volume(path, any_range=True).array.max() == 833


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_truncated_gzip_is_refused(tmp_path: Path, hu: np.ndarray, keep: float) -> None:
    path = write(tmp_path / "scan.nii.gz", hu)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    refused(lambda: read_scan(path), path=path, because="truncated")


def test_gzip_closed_too_early_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    raw = write(tmp_path / "whole.nii", hu).read_bytes()
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(raw[:-10]))
    refused(lambda: read_scan(path), path=path, because="truncated")


def test_flipped_bit_in_gzip_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    path = write(tmp_path / "scan.nii.gz", hu)
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(raw)
    refused(lambda: read_scan(path), path=path, because="is damaged")


@pytest.mark.parametrize("length", [0, 100, 400])
def test_truncated_plain_nifti_is_refused(tmp_path: Path, hu: np.ndarray, length: int) -> None:
    path = write(tmp_path / "scan.nii", hu)
    path.write_bytes(path.read_bytes()[:length])
    refused(
        lambda: read_scan(path), path=path, because="truncated" if length > 348 else "inside its 348-byte"
    )


def test_header_that_promises_a_huge_volume_is_refused_before_memory_is_taken(
    tmp_path: Path, hu: np.ndarray
) -> None:
    path = write(tmp_path / "scan.nii", hu, at_42=struct.pack("<3h", 32767, 32767, 32767))
    refused(lambda: read_scan(path), path=path, because="truncated")


def test_four_dimensional_volume_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    frames = [SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16)) for _ in range(2)]
    SimpleITK.WriteImage(SimpleITK.JoinSeries(frames), str(path))
    refused(lambda: read_scan(path), path=path, because="4 axes (4, 3, 2, 2)")


def test_flat_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4), np.int16)), str(path))
    refused(lambda: read_scan(path), path=path, because="2 axes (4, 3)")


def test_vectors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 3), np.float32), isVector=True)
    SimpleITK.WriteImage(image, str(path))
    refused(lambda: read_scan(path), path=path, because="5 axes")


@pytest.mark.parametrize("spacing", [0.0, -1.5, float("nan"), float("inf")])
def test_impossible_spacing_is_refused(tmp_path: Path, hu: np.ndarray, spacing: float) -> None:
    path = write(tmp_path / "scan.nii", hu, at_88=struct.pack("<f", spacing))
    refused(lambda: read_scan(path), path=path, because="spacing")


def test_sheared_sform_is_refused_though_a_qform_stands_beside(tmp_path: Path, hu: np.ndarray) -> None:
    steps = (-1, 0, 0, 0, 0, -1, np.sin(0.2), 0, 0, 0, np.cos(0.2), 0)
    path = write(tmp_path / "scan.nii", hu, at_280=struct.pack("<12f", *steps))
    refused(lambda: read_scan(path), path=path, because="sheared")


def test_sform_that_contradicts_the_spacing_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    path = write(tmp_path / "scan.nii", hu, at_80=struct.pack("<f", 2.0))
    refused(lambda: read_scan(path), path=path, because="contradicts itself")


def test_nan_origin_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    nan = struct.pack("<f", np.nan)
    path = write(tmp_path / "scan.nii", hu, at_268=nan, at_292=nan)
    refused(lambda: read_scan(path), path=path, because="origin")


def test_scan_without_orientation_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    path = write(tmp_path / "scan.nii", hu, at_252=struct.pack("<2h", 0, 0))
    refused(lambda: read_scan(path), path=path, because="left and right")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxel_that_is_no_number_is_refused(tmp_path: Path, hu: np.ndarray, value: float) -> None:
    values = hu.astype(np.float32)
    values[1, 2, 3] = value
    path = write(tmp_path / "scan.nii.gz", values)
    refused(lambda: read_scan(path), path=path, because="1 voxels that are NaN")


@pytest.mark.parametrize("value", [40000, -40000])
def test_value_beyond_int16_is_refused(tmp_path: Path, hu: np.ndarray, value: int) -> None:
    values = hu.astype(np.int32)
    values[0, 0, 0] = value
    path = write(tmp_path / "scan.nii.gz", values)
    refused(lambda: read_scan(path), path=path, because="not in HU")


def test_missing_and_wrong_files_are_refused(tmp_path: Path) -> None:
    refused(lambda: read_volume(tmp_path / "a.nii.gz"), path=tmp_path / "a.nii.gz", because="does not exist")
    refused(lambda: source_digest(tmp_path / "a.nii"), path=tmp_path / "a.nii", because="can't be read")
    (tmp_path / "scan.nrrd").write_text("NRRD0004")
    refused(lambda: read_volume(tmp_path / "scan.nrrd"), path=tmp_path / "scan.nrrd", because="no NIfTI file")
    (tmp_path / "text.nii.gz").write_text("hello " * 100)
    refused(lambda: read_volume(tmp_path / "text.nii.gz"), path=tmp_path / "text.nii.gz", because="gzip")
    (tmp_path / "text.nii").write_text("hello " * 100)
    refused(lambda: read_volume(tmp_path / "text.nii"), path=tmp_path / "text.nii", because="no NIfTI header")


@pytest.mark.parametrize("value", [15, 99, 255, -1, 1000])
def test_label_outside_the_set_is_refused(tmp_path: Path, value: int) -> None:
    labels = np.zeros((2, 3, 4), np.int16)
    labels[0, 1, 2] = value
    path = write(tmp_path / "labels.nii.gz", labels)
    refused(lambda: read_labels(path), path=path, because=f"the values {value}, which FLARE23 does not name")


def test_fractional_labels_are_refused_and_whole_floats_taken(tmp_path: Path) -> None:
    labels = np.full((2, 3, 4), 3.0, np.float32)
    assert (read_labels(write(tmp_path / "whole.nii.gz", labels)).array == 3).all()
    labels[0, 0, 0] = 2.5
    path = write(tmp_path / "labels.nii.gz", labels)
    refused(lambda: read_labels(path), path=path, because="fractions")


def test_labels_of_another_grid_are_refused(tmp_path: Path, hu: np.ndarray) -> None:
    scan = read_scan(write(tmp_path / "scan.nii.gz", hu))
    path = tmp_path / "labels.nii.gz"
    write_labels(
        path, Volume(np.zeros((5, 7, 8), np.uint8), scan.geometry.model_copy(update={"shape": (5, 7, 8)}))
    )
    refused(lambda: check_same_grid(scan, read_labels(path), path), path=path, because="shape (5, 7, 8)")


def test_slice_missing_from_a_series_is_refused(series: Path) -> None:
    sorted(series.iterdir())[2].unlink()
    refused(lambda: read_series(series), path=series, because="4 mm apart where 2 mm is usual")


def test_doubled_slice_is_refused(series: Path) -> None:
    shutil.copy(sorted(series.iterdir())[2], series / "again.dcm")
    refused(lambda: read_series(series), path=series, because="0 mm apart")


def test_several_series_in_one_folder_are_refused(series: Path, shared_data: Path) -> None:
    shutil.copy(shared_data / "bad" / "dicom_ct_3slices_gaps_62_94mm" / "000301.dcm", series)
    refused(lambda: read_series(series), path=series, because="2 DICOM series")


def test_truncated_slice_is_refused_by_name(series: Path) -> None:
    path = sorted(series.iterdir())[1]
    path.write_bytes(path.read_bytes()[:-500])
    refused(lambda: read_series(series), path=path, because="no whole DICOM image")


def test_stray_file_in_a_series_is_named(series: Path) -> None:
    (series / "viewer.exe").write_bytes(b"MZ" * 100)
    refused(lambda: read_series(series), path=series / "viewer.exe", because="no whole DICOM image")


def test_notes_beside_slices_are_no_slices(series: Path) -> None:
    before = source_digest(series)
    (series / "README.txt").write_text("hello")
    (series / ".DS_Store").write_text("hello")
    assert read_series(series).array.shape == (5, 512, 512)
    assert source_digest(series) == before


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    refused(lambda: read_series(tmp_path), path=tmp_path, because="is empty")
    refused(lambda: find_cases(tmp_path), path=tmp_path, because="holds no scan")
    refused(lambda: find_cases(tmp_path / "no"), path=tmp_path / "no", because="is no folder")
    refused(lambda: find_cases(tmp_path, tmp_path / "no"), path=tmp_path / "no", because="is no folder")


@pytest.mark.parametrize("case", ["../x", "", ".x", "a b", "a/b", "-a", "x" * 65, "a\n", "ä"])
def test_impossible_case_id_is_refused(case: str) -> None:
    with pytest.raises(InputError, match="is no case id"):
        check_case_id(case)


@pytest.mark.parametrize("case", ["a", "FLARE23_0001", "1.2.840", "x" * 64])
def test_possible_case_id_is_taken(case: str) -> None:
    assert check_case_id(case) == case


def test_faults_of_one_case_leave_the_others(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    names = (
        "good_0000.nii.gz",
        "two.nii.gz",
        "two_0000.nii.gz",
        "bad id.nii.gz",
        "loose.dcm",
        "empty/",
        "_x.nii",
    )
    for folder, files in ((images, names), (labels, ("good.nii.gz", "alone.nii.gz"))):
        folder.mkdir()
        for name in files:
            (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    found = find_cases(images, labels)
    assert [c.case for c in found.cases] == ["good"]
    assert [f.case for f in found.faults] == ["_x.nii", "alone", "bad id.nii.gz", "empty", "loose.dcm", "two"]
    for fault in found.faults:
        assert str(tmp_path) in fault.message


def test_id_claimed_by_both_splits_is_a_fault(tmp_path: Path) -> None:
    for name in ("imagesTr/a_0000.nii.gz", "imagesVal/a_0000.nii.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = find_cases(tmp_path)
    assert found.cases == []
    assert "both claim the case id a" in found.faults[0].message


@pytest.mark.parametrize(
    ("name", "text", "because"),
    [
        ("t.csv", "", "line 1"),
        ("t.csv", "a,1 2\n", "line 1"),
        ("t.csv", "case,classes\na,1 2\nb\n", "line 3 has 1 cells"),
        ("t.csv", "case,classes\na,1,2\n", "line 2 has 3 cells"),
        ("t.csv", "case,classes\na,1 x\n", "line 2 has the class 'x'"),
        ("t.csv", "case,classes\na,15\n", "line 2 has the class '15'"),
        ("t.csv", "case,classes\na,0\n", "line 2 has the class '0'"),
        ("t.csv", "case,classes\na,1\nb,2\na,3\n", "line 4 names case 'a' a second time"),
        ("t.csv", "case,classes\n../x,1\n", "line 2: '../x' is no case id"),
        ("t.json", '{"a": [1,\n}', "line 2 is no JSON"),
        ("t.json", "[1, 2]", "no JSON object"),
        ("t.json", '{"a": 1}', "case 'a' has 1"),
        ("t.json", '{"a": {"b": 1}}', "case 'a' has"),
        ("t.json", '{"a": [true]}', "the class True"),
        ("t.json", '{"a": [1.5]}', "the class 1.5"),
        ("t.json", '{"a": [1], "a": [2]}', "a second time"),
        ("t.xlsx", "", "expected .csv or .json"),
    ],
)
def test_malformed_table_is_refused(tmp_path: Path, name: str, text: str, because: str) -> None:
    (tmp_path / name).write_text(text)
    refused(lambda: read_annotated(tmp_path / name), path=tmp_path / name, because=because)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    refused(lambda: read_annotated(tmp_path / "t.csv"), path=tmp_path / "t.csv", because="can't be read")

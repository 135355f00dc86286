"""What goes in comes out: voxels, places, files, tables."""

import gzip
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.formats.dicom import read_series
from pwsseg.formats.found import SourceCase
from pwsseg.formats.nifti import check_same_grid, read_labels, read_scan, write_labels, write_scan
from pwsseg.formats.reading import read_volume, source_digest
from pwsseg.formats.volume import Volume
from pwsseg.values import Geometry, InputError

REAL = ("crlm1004", "gate449", "s0024", "s0028", "ts", "tsd")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Place = tuple[tuple[float, ...], ...]


def itk_place(path: Path) -> Place:
    """Size, spacing, origin, direction, as SimpleITK reads them."""
    image = SimpleITK.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def write_with_itk(path: Path, direction: tuple[float, ...] = IDENTITY) -> Path:
    array = np.arange(-1000, -1000 + 24, dtype=np.int16).reshape(2, 3, 4)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((0.7123, 0.8456, 2.5))
    image.SetOrigin((-101.3, 55.7, 1203.9))
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path))
    return path


def labels_beside(path: Path) -> Path:
    """Labels written with the geometry read from `path`."""
    scan = read_scan(path, any_range=True)
    out = path.with_name("labels.nii.gz")
    write_labels(out, Volume(np.ones(scan.array.shape, np.uint8), scan.geometry))
    return out


@pytest.mark.parametrize("case", REAL)
def test_real_scan_is_read_voxel_for_voxel(shared_data: Path, case: str) -> None:
    path = shared_data / "flare" / "imagesTr" / f"{case}_0000.nii.gz"
    scan = read_scan(path)
    assert scan.array.dtype == np.int16
    assert np.array_equal(scan.array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    assert scan.geometry.shape == scan.array.shape


@pytest.mark.parametrize("case", REAL)
def test_labels_on_a_real_scan_get_exactly_its_place(shared_data: Path, tmp_path: Path, case: str) -> None:
    path = shared_data / "flare" / "imagesTr" / f"{case}_0000.nii.gz"
    geometry = read_scan(path).geometry
    labels = np.random.default_rng(0).integers(0, 15, geometry.shape, dtype=np.uint8)
    write_labels(tmp_path / "labels.nii.gz", Volume(labels, geometry))
    assert itk_place(tmp_path / "labels.nii.gz") == itk_place(path)
    assert np.array_equal(read_labels(tmp_path / "labels.nii.gz").array, labels)


@pytest.mark.parametrize("case", ["s0024", "s0028", "ts", "tsd"])
def test_real_labels_lie_on_their_scan(shared_data: Path, case: str) -> None:
    path = shared_data / "flare" / "labelsTr" / f"{case}.nii.gz"
    labels = read_labels(path)
    check_same_grid(read_scan(shared_data / "flare" / "imagesTr" / f"{case}_0000.nii.gz"), labels, path)
    assert labels.array.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([".nii", ".nii.gz"]))
def test_any_oblique_direction_comes_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flipped: bool, ending: str
) -> None:
    matrix = Rotation.random(random_state=seed).as_matrix()
    matrix[:, 2] *= -1 if flipped else 1
    path = tmp_path_factory.mktemp("oblique") / f"scan{ending}"
    write_with_itk(path, tuple(matrix.ravel().tolist()))
    assert itk_place(labels_beside(path)) == itk_place(path)


@pytest.mark.parametrize("codes", [(0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (1, 2)])
def test_place_comes_back_from_qform_and_sform_alike(tmp_path: Path, codes: tuple[int, int]) -> None:
    matrix = Rotation.from_euler("xyz", [7, -12, 3], degrees=True).as_matrix()
    path = write_with_itk(tmp_path / "scan.nii", tuple(matrix.ravel().tolist()))
    raw = bytearray(path.read_bytes())
    raw[252:256] = struct.pack("<2h", *codes)
    path.write_bytes(raw)
    assert itk_place(labels_beside(path)) == itk_place(path)


@pytest.mark.parametrize(
    "direction",
    [
        (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
        (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_permuted_axes_come_back(tmp_path: Path, direction: tuple[float, ...]) -> None:
    path = write_with_itk(tmp_path / "scan.nii.gz", direction)
    assert itk_place(labels_beside(path)) == itk_place(path)


def test_geometry_places_every_voxel_where_itk_does(tmp_path: Path) -> None:
    matrix = Rotation.from_euler("xyz", [20, 5, -30], degrees=True).as_matrix()
    path = write_with_itk(tmp_path / "scan.nii.gz", tuple(matrix.ravel().tolist()))
    image, geometry = SimpleITK.ReadImage(str(path)), read_scan(path).geometry
    z, y, x = 1, 2, 3
    ours = np.asarray(geometry.origin) + geometry.direction_matrix @ (
        np.asarray(geometry.spacing) * (z, y, x)
    )
    assert ours == pytest.approx(image.TransformIndexToPhysicalPoint((x, y, z)), abs=1e-9)


def test_numbers_no_header_can_hold_come_back_closely(tmp_path: Path) -> None:
    matrix = Rotation.from_euler("xyz", [20, 5, -30], degrees=True).as_matrix()
    geometry = Geometry(
        shape=(2, 3, 4),
        spacing=(1 / 3, 0.1, 0.7),
        origin=(-499.1, 0.3, 1 / 7),
        direction=tuple(matrix.ravel()),
    )
    write_labels(tmp_path / "labels.nii.gz", Volume(np.zeros((2, 3, 4), np.uint8), geometry))
    assert read_labels(tmp_path / "labels.nii.gz").geometry.same_grid(geometry, tolerance_mm=2e-5)


def test_scan_written_is_scan_read(tmp_path: Path) -> None:
    scan = read_scan(write_with_itk(tmp_path / "a.nii.gz"))
    for name in ("b.nii.gz", "b.nii", "deep/er/b.nii.gz"):
        write_scan(tmp_path / name, scan)
        again = read_scan(tmp_path / name)
        assert np.array_equal(again.array, scan.array)
        assert again.geometry == scan.geometry


def test_write_leaves_nothing_else_behind(tmp_path: Path) -> None:
    scan = read_scan(
        write_with_itk(tmp_path / "a.nii.gz", tuple(Rotation.random(random_state=1).as_matrix().ravel()))
    )
    write_scan(tmp_path / "out" / "b.nii.gz", scan)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.nii.gz"]
    assert (tmp_path / "out" / "b.nii.gz").stat().st_mode & 0o777 == 0o644


def test_float_scan_is_rounded_and_scaled_header_is_obeyed(tmp_path: Path) -> None:
    path = write_with_itk(tmp_path / "scan.nii")
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<2f", 2.0, 900.25)
    path.write_bytes(raw)
    expected = np.rint(np.arange(-1000, -976) * 2.0 + 900.25).astype(np.int16)
    assert np.array_equal(read_scan(path).array.ravel(), expected)


def test_big_endian_nifti_is_read(tmp_path: Path) -> None:
    path = write_with_itk(tmp_path / "scan.nii")
    raw = bytearray(path.read_bytes())
    layout = [
        (0, 4, 1),
        (40, 2, 8),
        (68, 2, 4),
        (76, 4, 8),
        (108, 4, 3),
        (252, 2, 2),
        (256, 4, 18),
        (352, 2, 24),
    ]
    for start, width, count in layout:
        for at in range(start, start + width * count, width):
            raw[at : at + width] = raw[at : at + width][::-1]
    (tmp_path / "big.nii").write_bytes(raw)
    assert np.array_equal(read_scan(tmp_path / "big.nii").array, read_scan(path).array)
    assert itk_place(tmp_path / "big.nii") == itk_place(path)


def test_four_axes_of_which_one_is_empty_are_a_volume(tmp_path: Path) -> None:
    path = write_with_itk(tmp_path / "scan.nii")
    raw = bytearray(path.read_bytes())
    raw[40:50] = struct.pack("<5h", 4, 4, 3, 2, 1)
    path.write_bytes(raw)
    assert read_scan(path).array.shape == (2, 3, 4)


def test_gzip_in_several_members_is_read(tmp_path: Path) -> None:
    path = write_with_itk(tmp_path / "scan.nii")
    raw = path.read_bytes()
    (tmp_path / "two.nii.gz").write_bytes(gzip.compress(raw[:360]) + gzip.compress(raw[360:]))
    assert np.array_equal(read_scan(tmp_path / "two.nii.gz").array, read_scan(path).array)


def test_dicom_equals_the_nifti_of_the_same_scan(shared_data: Path) -> None:
    dicom = read_volume(shared_data / "dicom" / "tsd")
    nifti = read_volume(shared_data / "flare" / "imagesTr" / "tsd_0000.nii.gz")
    assert np.array_equal(dicom.array, nifti.array)
    assert dicom.geometry == nifti.geometry


def test_labels_on_a_dicom_series_get_its_place(shared_data: Path, tmp_path: Path) -> None:
    geometry = read_series(shared_data / "dicom" / "tsd").geometry
    write_labels(tmp_path / "labels.nii.gz", Volume(np.zeros(geometry.shape, np.uint8), geometry))
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(shared_data / "dicom" / "tsd"))
    series = SimpleITK.ReadImage(files)
    size, spacing, origin, direction = itk_place(tmp_path / "labels.nii.gz")
    assert size == series.GetSize()
    assert spacing == series.GetSpacing()
    assert origin == series.GetOrigin()
    assert direction == series.GetDirection()


def test_source_digest_knows_content_and_not_names(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom" / "tsd"
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / f"{number}.dcm")
    assert source_digest(tmp_path) == source_digest(folder)
    (tmp_path / "3.dcm").unlink()
    assert source_digest(tmp_path) != source_digest(folder)


def test_flare_root_gives_scans_with_their_labels(shared_data: Path) -> None:
    found = find_cases(shared_data / "flare")
    assert [c.case for c in found.cases] == sorted(REAL)
    assert found.faults == []
    labelled = {c.case: c.labels.name for c in found.cases if c.labels}
    assert labelled == {c: f"{c}.nii.gz" for c in ("s0024", "s0028", "ts", "tsd")}


def test_validation_folder_is_held_out(tmp_path: Path) -> None:
    for name in ("imagesTr/a_0000.nii.gz", "imagesVal/b_0000.nii.gz", "labelsVal/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a = SourceCase("a", tmp_path / "imagesTr/a_0000.nii.gz", None, "training")
    b = SourceCase("b", tmp_path / "imagesVal/b_0000.nii.gz", tmp_path / "labelsVal/b.nii.gz", "validation")
    assert find_cases(tmp_path).cases == [a, b]


def test_series_is_found_as_folder_and_in_its_parent(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "tsd"
    assert find_cases(folder).cases == find_cases(folder.parent).cases
    assert find_cases(folder).cases == [SourceCase("tsd", folder, None, "training")]


def test_relative_folder_names_its_case(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared_data / "dicom" / "tsd")
    assert [c.case for c in find_cases(Path(os.curdir)).cases] == ["tsd"]


def test_nifti_and_dicom_may_lie_in_one_folder(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "dicom" / "tsd", tmp_path / "series")
    (tmp_path / "a.nii").touch()
    (tmp_path / "README.txt").touch()
    found = find_cases(tmp_path)
    assert [c.case for c in found.cases] == ["a", "series"]
    assert found.faults == []


def test_annotated_table_is_the_same_as_csv_and_json(shared_data: Path, tmp_path: Path) -> None:
    table = read_annotated(shared_data / "flare" / "annotated.csv")
    assert table["s0024"] == {4, 13}
    assert table["crlm1004"] == frozenset()
    (tmp_path / "t.json").write_text(json.dumps({case: sorted(ids) for case, ids in table.items()}))
    assert read_annotated(tmp_path / "t.json") == table


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfcase,classes\r\na,"1 2"\r\n\r\nb,\r\n')
    assert read_annotated(tmp_path / "t.csv") == {"a": {1, 2}, "b": frozenset()}


def test_check_same_grid_takes_what_lies_alike() -> None:
    geometry = Geometry(shape=(2, 3, 4), spacing=(1, 1, 1), origin=(0, 0, 0), direction=IDENTITY[::-1])
    nearly = geometry.model_copy(update={"origin": (0.001, 0, 0)})
    labels = Volume(np.zeros((2, 3, 4), np.uint8), nearly)
    check_same_grid(Volume(labels.array, geometry), labels, Path("labels.nii.gz"))
    away = Volume(labels.array, geometry.model_copy(update={"origin": (0.5, 0, 0)}))
    with pytest.raises(InputError, match=r"labels\.nii\.gz is not on its scan's grid: origin"):
        check_same_grid(Volume(labels.array, geometry), away, Path("labels.nii.gz"))

"""The whole road on real CTs: NIfTI and DICOM in, four rounds, labels out on every scan's own grid."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from road import Road, answer, job, round_job, tree, write_settings

from pwsseg.formats.annotated import read_annotated
from pwsseg.store import Store

NIFTI = ("crlm1004", "gate449", "s0024", "s0028", "ts", "tsd")
SERIES = "tsd-series"
LEAST = "labelled_at_least = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]"
ROUNDS = {"os1": 14, "os2": 14, "ots1": 15, "ots2": 15}
REFUSED = {
    "MADE_truncated_ts_example_ct": "truncated",
    "MR_truncated": "no whole DICOM image",
    "SC_rgb_small_odd": "modality OT, expected CT",
    "no_meta": "no whole DICOM image",
    "dicom_ct_3slices_gaps_62_94mm": "62 mm apart where 78 mm is usual",
    "dicom_ct_gantrytilt_4slices": "gantry tilt of 14.0 degrees",
    "dicom_ct_missing_slice_4slices": "10 mm apart where 5 mm is usual",
    "nifti_MR_wrong_modality_ts_example_mr_sm": "a CT in HU has air",
    "nifti_RGB24_ct_perfusion": "RGB colours",
    "nifti_complex64_not_ct": "complex numbers",
    "nifti_ct_oblique_sheared_uint8_CT_pitch": "a CT in HU has air",
}


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Six real scans and one of them again as DICOM, after four rounds that ask for less annotation."""
    folder = tmp_path_factory.mktemp("real")
    store, series = folder / "store", folder / "series"
    flare = shared_data / "flare"
    job("ingest", "--store", store, "--images", flare, "--annotated", flare / "annotated.csv").expect(0)
    shutil.copytree(shared_data / "dicom" / "tsd", series / SERIES)
    job("ingest", "--store", store, "--images", series).expect(0)
    settings = write_settings(
        folder / "settings",
        (LEAST, "labelled_at_least = [4]"),
        ("partial_needs = [14]", "partial_needs = []"),
    )
    said = round_job("all", settings, store).expect(0).said
    return Road(flare, settings, store, said)


def source_image(shared_data: Path, case: str) -> SimpleITK.Image:
    if case != SERIES:
        return SimpleITK.ReadImage(str(shared_data / "flare" / "imagesTr" / f"{case}_0000.nii.gz"))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(shared_data / "dicom" / "tsd")))
    return reader.Execute()


def test_annotation_states_what_the_table_says(real: Road) -> None:
    layer = Store.open(real.store).layer("annotation")
    stated = read_annotated(real.corpus / "annotated.csv")
    assert {c: set(layer.entry(c).annotated_classes) for c in layer.cases()} == {
        case: set(classes) for case, classes in stated.items() if classes
    }


def test_every_round_is_published_on_real_scans(real: Road) -> None:
    states = {layer["id"]: layer["state"]["state"] for layer in answer("layers", real.store)}
    assert states == dict.fromkeys(
        ["annotation.v1", *(f"{r}{part}.v1" for r in ROUNDS for part in ("", "-targets"))], "published"
    )
    assert answer("verify", real.store)["errors"] == 0


def test_what_nobody_states_in_any_case_is_neither_learnt_nor_labelled(real: Road) -> None:
    """The esophagus is stated in one case that os1 takes for unlabelled; nobody states a tumor anywhere."""
    store, organs = Store.open(real.store), set(range(1, 14))
    classes = {name: set(store.layer(name).record.pins.classes) for name in ROUNDS}
    assert classes == {"os1": organs - {10}, "os2": organs, "ots1": organs, "ots2": organs}
    assert "esophagus (10) is left out: no case that is learnt from speaks about it" in real.said
    assert "tumor (14) is left out: no case that is learnt from speaks about it" in real.said


@pytest.mark.parametrize("name", ROUNDS)
def test_exported_labels_lie_exactly_on_their_source_file(
    real: Road, shared_data: Path, tmp_path: Path, name: str
) -> None:
    answer("export", "--store", real.store, "--layer", name, "--out", tmp_path)
    layer = Store.open(real.store).layer(name)
    assert {p.name.removesuffix(".nii.gz") for p in tmp_path.iterdir()} == set(layer.cases())
    for case in layer.cases():
        scan = source_image(shared_data, case)
        labels = SimpleITK.ReadImage(str(tmp_path / f"{case}.nii.gz"))
        for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(labels, fact)() == getattr(scan, fact)(), (case, fact)
        assert labels.GetPixelID() == SimpleITK.sitkUInt8
        voxels = SimpleITK.GetArrayViewFromImage(labels)
        assert np.array_equal(voxels, layer.labels(case))
        assert voxels.max() < ROUNDS[name]


def test_same_scan_as_dicom_has_the_same_voxels(real: Road) -> None:
    store = Store.open(real.store)
    nifti, dicom = store.scan("tsd"), store.scan(SERIES)
    assert nifti.record.source.format == "nifti"
    assert dicom.record.source.format == "dicom"
    assert np.array_equal(np.sort(nifti.read(), axis=None), np.sort(dicom.read(), axis=None))


def test_bad_files_are_refused_one_by_one_and_leave_nothing(
    real: Road, shared_data: Path, tmp_path: Path
) -> None:
    for name in REFUSED:
        source = next(
            p
            for p in (shared_data / "bad").iterdir()
            if p.name.removesuffix(".nii.gz").removesuffix(".dcm") == name
        )
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)
        elif source.suffix == ".dcm":
            (tmp_path / name).mkdir()
            shutil.copy(source, tmp_path / name)
        else:
            shutil.copy(source, tmp_path)
    before = tree(real.store)
    done = job("ingest", "--store", real.store, "--images", tmp_path).expect(1)
    assert "Traceback" not in done.said
    for name, reason in REFUSED.items():
        (line,) = [x for x in done.said.splitlines() if x.startswith(f"  refused {name}: ")]
        assert reason in line
    assert f"0 of {len(REFUSED)} scans are in the store" in done.said
    assert tree(real.store) == before

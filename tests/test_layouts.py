"""Data sets as others lay them out: which scans and labels they hold, and what their label values mean."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from road import Road, job
from test_bad_input import refused

from pwsseg.formats.cases import find_cases
from pwsseg.formats.edited import find_edited
from pwsseg.formats.found import SourceCase
from pwsseg.formats.names import class_named, parse_classes, parse_meanings
from pwsseg.formats.nifti import read_labels, write_labels
from pwsseg.formats.volume import Volume
from pwsseg.store import Store
from pwsseg.values import Geometry, InputError, SettingsError

GEOMETRY = Geometry(
    shape=(2, 3, 4), spacing=(1, 1, 1), origin=(0, 0, 0), direction=(0, 0, 1, 0, 1, 0, 1, 0, 0)
)
NNUNET: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "spleen": 1, "kidney_right": 2, "ignore": 3},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
MSD: dict[str, Any] = {
    "name": "Liver",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "liver", "2": "cancer"},
    "training": [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}],
    "test": ["./imagesTs/liver_7.nii.gz"],
}


def data_set(root: Path, says: dict[str, Any], *files: str) -> Path:
    """Empty files of these names, and a dataset.json."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dataset.json").write_text(json.dumps(says))
    return root


def nnunet(root: Path, says: dict[str, Any] = NNUNET, *more: str) -> Path:
    return data_set(root, says, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", *more)


def msd(root: Path, says: dict[str, Any] = MSD, *more: str) -> Path:
    files = ("imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz", "imagesTs/liver_7.nii.gz")
    return data_set(root, says, *files, "imagesTr/._liver_0.nii.gz", *more)


def labels_at(path: Path, *values: int) -> Path:
    array = np.zeros(GEOMETRY.shape, np.uint8)
    array.ravel()[: len(values)] = values
    write_labels(path, Volume(array, GEOMETRY))
    return path


def test_nnunet_raw_data_is_followed(tmp_path: Path) -> None:
    root = nnunet(tmp_path, NNUNET, "imagesTs/b_0000.nii.gz")
    meanings = {0: 0, 1: 3, 2: 2, 3: 255}
    a = SourceCase("a", root / "imagesTr/a_0000.nii.gz", root / "labelsTr/a.nii.gz", "training", meanings)
    b = SourceCase("b", root / "imagesTs/b_0000.nii.gz", None, "training", meanings)
    found = find_cases(root)
    assert found.cases == [a, b]
    assert found.faults == []
    assert found.stated == frozenset({2, 3})


def test_nnunet_test_scans_with_labels_are_held_out(tmp_path: Path) -> None:
    root = nnunet(tmp_path, NNUNET, "imagesTs/b_0000.nii.gz", "labelsTs/b.nii.gz", "imagesVal/c_0000.nii.gz")
    assert [(c.case, c.split) for c in find_cases(root).cases] == [
        ("a", "training"),
        ("b", "validation"),
        ("c", "validation"),
    ]


def test_nnunet_files_may_end_in_nii_and_channel_names_be_those_of_version_1(tmp_path: Path) -> None:
    plain = NNUNET | {"file_ending": ".nii"}
    root = data_set(tmp_path / "a", plain, "imagesTr/x_y_0000.nii", "labelsTr/x_y.nii")
    assert [(c.case, c.labels and c.labels.name) for c in find_cases(root).cases] == [("x_y", "x_y.nii")]
    root = nnunet(tmp_path / "b", MSD)
    assert [(c.case, c.meanings) for c in find_cases(root).cases] == [("a", {0: 0, 1: 1, 2: 14})]


def test_msd_is_followed(tmp_path: Path) -> None:
    root, meanings = msd(tmp_path), {0: 0, 1: 1, 2: 14}
    found = find_cases(root, split="validation")
    image, truth = root / "imagesTr/liver_0.nii.gz", root / "labelsTr/liver_0.nii.gz"
    assert found.cases == [
        SourceCase("liver_0", image, truth, "validation", meanings),
        SourceCase("liver_7", root / "imagesTs/liver_7.nii.gz", None, "validation", meanings),
    ]
    assert (found.faults, found.stated) == ([], frozenset({1, 14}))


def test_msd_without_lists_goes_by_its_folders(tmp_path: Path) -> None:
    says = {key: MSD[key] for key in ("modality", "labels")}
    found = find_cases(msd(tmp_path, says, "imagesTr/FLARE22_Tr_0001.nii.gz"))
    assert [c.case for c in found.cases] == ["FLARE22_Tr_0001", "liver_0", "liver_7"]


def test_msd_list_and_folder_that_differ_are_faults(tmp_path: Path) -> None:
    rows = [*MSD["training"], {"image": "imagesTr/gone.nii.gz"}, {"image": "../x.nii.gz"}]
    found = find_cases(msd(tmp_path, MSD | {"training": rows}, "imagesTr/extra.nii.gz"))
    assert [c.case for c in found.cases] == ["liver_0", "liver_7"]
    assert [(f.case, "not listed" in f.message) for f in found.faults] == [
        ("extra", True),
        ("gone", False),
        ("x", False),
    ]


def test_further_channels_are_faults(tmp_path: Path) -> None:
    found = find_cases(nnunet(tmp_path, NNUNET, "imagesTr/a_0001.nii.gz", "imagesTr/b.nii.gz"))
    assert [c.case for c in found.cases] == ["a"]
    assert [f.case for f in found.faults] == ["a_0001.nii.gz", "b.nii.gz"]


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "2 channels ['CT', 'PET'], expected one"),
        ({"channel_names": {}}, "0 channels"),
        ({"channel_names": {"0": "MRI"}}, "holds MRI scans"),
        ({"file_ending": ".nrrd"}, "end in '.nrrd'"),
        ({"dataset": {"a": {}}}, "under 'dataset'"),
        ({"labels": {}}, "no labels"),
        ({"labels": {"background": 0, "kidneys": [1, 2]}}, "a region of the values [1, 2]"),
        ({"labels": {"liver": 1, "spleen": 1}}, "'spleen' the value 1"),
        ({"labels": {"liver": 1.5}}, "the value 1.5"),
        ({"labels": {"liver": 300}}, "the value 300"),
        ({"labels": {"background": 0, "bladder": 1, "kidney": 2}}, "--map 'bladder=?,kidney=?'"),
    ],
)
def test_dataset_that_can_not_be_followed_is_refused(
    tmp_path: Path, changes: dict[str, Any], because: str
) -> None:
    root = nnunet(tmp_path, NNUNET | changes)
    refused(lambda: find_cases(root), path=root / "dataset.json", because=because)


@pytest.mark.parametrize("text", ["", "[1]", '{"labels":'])
def test_dataset_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    root = nnunet(tmp_path)
    (root / "dataset.json").write_text(text)
    refused(lambda: find_cases(root), path=root / "dataset.json", because="JSON")


def test_folder_of_a_data_set_is_refused_where_its_meanings_would_be_lost(tmp_path: Path) -> None:
    images = nnunet(tmp_path) / "imagesTr"
    refused(lambda: find_cases(images, tmp_path / "labelsTr"), path=tmp_path, because="meanings of their own")


def test_meanings_can_be_said_by_name_or_value(tmp_path: Path) -> None:
    root = nnunet(tmp_path, NNUNET | {"labels": {"background": 0, "portal vein": 1, "cyst": 2, "liver": 3}})
    found = find_cases(root, meanings=parse_meanings("portal vein=0, 2=tumor"))
    assert found.cases[0].meanings == {0: 0, 1: 0, 2: 14, 3: 1}
    assert found.stated == frozenset({1, 14})
    with pytest.raises(InputError, match="has no label 'vein', which --map names; its labels are background"):
        find_cases(root, meanings={"vein": 0})
    assert find_cases(root, scans_only=True).cases == [
        SourceCase("a", root / "imagesTr/a_0000.nii.gz", None, "training")
    ]


def test_values_of_a_plain_folder_can_be_given_meanings(tmp_path: Path) -> None:
    for name in ("images/a.nii.gz", "labels/a.nii.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    folders = tmp_path / "images", tmp_path / "labels"
    found = find_cases(*folders, meanings={"6": 1, "1": 3})
    assert (found.cases[0].meanings, found.stated) == ({0: 0, 6: 1, 1: 3}, None)
    for old in ("liver", "256"):
        with pytest.raises(InputError, match=f"the label '{old}', and there is no dataset.json"):
            find_cases(*folders, meanings={old: 1})


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_label_values_are_read_by_their_meanings(tmp_path: Path, ending: str) -> None:
    path = labels_at(tmp_path / f"a{ending}", 1, 2, 3, 0)
    labels = read_labels(path, meanings={0: 0, 1: 3, 2: 2, 3: 255})
    assert labels.array.ravel()[:4].tolist() == [3, 2, 255, 0]
    refused(
        lambda: read_labels(path, meanings={0: 0, 1: 3}), path=path, because="the values 2, 3, which neither"
    )


def test_unknown_voxels_of_an_export_are_read_where_they_may_be(tmp_path: Path) -> None:
    path = labels_at(tmp_path / "a.nii.gz", 255, 1)
    assert read_labels(path, may_be_unknown=True).array.ravel()[:2].tolist() == [255, 1]
    refused(lambda: read_labels(path), path=path, because="the values 255")


@pytest.mark.parametrize(
    ("label", "spellings"),
    [
        (1, "liver,Liver"),
        (2, "right kidney,kidney_right,Right_Kidney,rkid,RK"),
        (5, "aorta,arota"),
        (6, "inferior_vena_cava,IVC,inferior vena cava (IVC),postcava"),
        (7, "right adrenal gland,adrenal_gland_right,Right adrenal gland (RAG)"),
        (9, "gallbladder,gall bladder"),
        (10, "esophagus,oesophagus"),
        (13, "left kidney,kidney_left"),
        (14, "tumor,tumour,cancer"),
        (None, "kidney,bladder,PA,LAD,vena cava,,lesion"),
    ],
)
def test_names_of_other_data_sets_are_known(label: int | None, spellings: str) -> None:
    assert {name: class_named(name) for name in spellings.split(",")} == dict.fromkeys(
        spellings.split(","), label
    )


def test_classes_are_ids_or_names() -> None:
    assert parse_classes("1, tumor,kidney_left") == {1, 13, 14}
    for bad in ("", "0", "15", "1 14", "bladder"):
        with pytest.raises(SettingsError, match="is no class of FLARE23; give ids or names of 1 liver"):
            parse_classes(bad)


@pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=1,a=2", "a=77", "a=255"])
def test_map_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_meanings(text)


def test_edited_files_name_their_cases(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii", "b.nii.gz", "bad id.nii.gz", "notes.txt", "sub/c.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, faults = find_edited([tmp_path, tmp_path / "sub" / "c.nii.gz"])
    assert found == {"a": tmp_path / "a.nii.gz", "c": tmp_path / "sub" / "c.nii.gz"}
    assert [f.case for f in faults] == ["b", "bad id.nii.gz"]
    assert find_edited([tmp_path / "a.nii.gz"], "x") == ({"x": tmp_path / "a.nii.gz"}, [])
    with pytest.raises(InputError, match="--case x was given with 4 files"):
        find_edited([tmp_path], "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no label file"):
        find_edited([tmp_path / "empty"])


def test_data_set_goes_into_the_store_by_what_its_dataset_says(ingested: Road, tmp_path: Path) -> None:
    root = nnunet(
        tmp_path / "set", NNUNET | {"labels": {"background": 0, "Liver": 1, "cyst": 2, "ignore": 3}}
    )
    shutil.copy(ingested.corpus / "imagesTr" / "phantom_0003_0000.nii.gz", root / "imagesTr/a_0000.nii.gz")
    theirs = read_labels(ingested.corpus / "labelsTr" / "phantom_0003.nii.gz")
    values = np.zeros(256, np.uint8)
    values[[1, 2, 3]] = 1, 2, 3
    write_labels(root / "labelsTr/a.nii.gz", Volume(values[theirs.array], theirs.geometry))
    options = ("--images", root, "--annotated", "dataset", "--map", "cyst=tumor")
    done = job("ingest", "--store", tmp_path / "store", *options).expect(0)
    assert "1 of 1 scans are in the store; annotation is annotation.v1" in done.said
    entry = Store.open(tmp_path / "store").layer("annotation").entry("a")
    counts = np.bincount(theirs.array.ravel(), minlength=4)
    assert entry.annotated_classes == (1, 14)
    assert entry.voxels == {"1": counts[1], "14": counts[2], "255": counts[3]}
    assert entry.notes[0].endswith(" map:0=0,1=1,2=14,3=255")

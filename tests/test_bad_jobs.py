"""Whatever is wrong with a job's input: one sentence, exit code 1, and a store as it was."""

import json
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from road import JOBS, Done, Road, job, tree

from pwsseg.store import Store

SCAN = "phantom_0003"
REFUSED = {
    "cut": "truncated",
    "frames": "4 axes",
    "colours": "RGB",
    "flat": "spacing",
    "backward": "spacing",
    "nothing": "1 voxels that are NaN",
    "othergrid": "grid",
    "strange": "the values 77, which FLARE23 does not name",
    "twice": "both claim the case id twice",
    "~up_0000.nii.gz": "case id",
    "empty": "holds no DICOM file",
    "gap": "4 mm apart where 2 mm is usual",
}
"""Case or file, and what its refusal must say."""


def one_sentence(done: Done, *parts: str) -> None:
    """Assert exit code 1 and a last line that says each of `parts` and, after a semicolon, what to do."""
    done.expect(1)
    assert "Traceback" not in done.said
    (line,) = [x for x in done.said.splitlines() if x.startswith("error: ")]
    assert all(part in line for part in parts), line
    assert ";" in line, "what to do comes last"


def write_bad_batch(folder: Path, corpus: Path, shared_data: Path) -> None:
    """One good scan with labels, and beside it one of each bad kind."""
    images, truth = folder / "imagesTr", folder / "labelsTr"
    images.mkdir(parents=True)
    truth.mkdir()
    scan = SimpleITK.ReadImage(str(corpus / "imagesTr" / f"{SCAN}_0000.nii.gz"))
    labels = SimpleITK.ReadImage(str(corpus / "labelsTr" / f"{SCAN}.nii.gz"))

    def write(case: str, image: SimpleITK.Image, ending: str = "_0000.nii.gz") -> Path:
        SimpleITK.WriteImage(image, str(images / f"{case}{ending}"))
        return images / f"{case}{ending}"

    for case in ("good", "othergrid", "strange", "twice"):
        write(case, scan)
        SimpleITK.WriteImage(labels, str(truth / f"{case}.nii.gz"))
    SimpleITK.WriteImage(labels[:, :, 1:], str(truth / "othergrid.nii.gz"))
    voxels = SimpleITK.GetArrayFromImage(labels)
    voxels[0, 0, 0] = 77
    strange = SimpleITK.GetImageFromArray(voxels)
    strange.CopyInformation(labels)
    SimpleITK.WriteImage(strange, str(truth / "strange.nii.gz"))
    write("twice", scan, ".nii.gz")
    write("~up", scan)
    whole = write("cut", scan)
    whole.write_bytes(whole.read_bytes()[:-2000])
    write("frames", SimpleITK.JoinSeries([scan[:, :, :4]] * 2))
    colours = shared_data / "bad" / "nifti_RGB24_ct_perfusion.nii.gz"
    shutil.copy(colours, images / "colours_0000.nii.gz")
    for case, spacing in (("flat", 0.0), ("backward", -1.5)):
        path = write(case, scan[:, :, :4], "_0000.nii")
        raw = bytearray(path.read_bytes())
        raw[88:92] = struct.pack("<f", spacing)
        path.write_bytes(raw)
    values = SimpleITK.GetArrayFromImage(scan).astype(np.float32)
    values[1, 2, 3] = np.nan
    nothing = SimpleITK.GetImageFromArray(values)
    nothing.CopyInformation(scan)
    write("nothing", nothing)
    (images / "empty").mkdir()
    shutil.copytree(shared_data / "dicom" / "tsd", images / "gap")
    sorted((images / "gap").iterdir(), key=lambda p: p.name)[9].unlink()
    rows = [f"{case},1 2 3 4 13" for case in ("good", "othergrid", "strange", "twice")]
    (folder / "annotated.csv").write_text("\n".join(["case,classes", *rows, ""]))


def test_good_scans_of_a_batch_go_in_and_bad_ones_are_listed(
    ingested: Road, shared_data: Path, tmp_path: Path
) -> None:
    batch, location = tmp_path / "batch", tmp_path / "store"
    write_bad_batch(batch, ingested.corpus, shared_data)
    done = job("ingest", "--store", location, "--images", batch, "--annotated", batch / "annotated.csv")
    done.expect(1)
    assert "Traceback" not in done.said
    for name, reason in REFUSED.items():
        (line,) = [x for x in done.said.splitlines() if x.startswith(f"  refused {name}: ")]
        assert reason in line
        assert ";" in line, "what to do comes last"
    assert f"1 of {len(REFUSED) + 1} scans are in the store; annotation is annotation.v1" in done.said
    store = Store.open(location)
    assert store.cases() == ["good"]
    assert store.layer("annotation").cases() == ["good"]
    assert not [p for p in tree(location) if re.search("|".join(map(re.escape, REFUSED)), p)]


def test_case_id_that_leaves_the_folder_is_refused_in_the_table(ingested: Road, tmp_path: Path) -> None:
    table = tmp_path / "annotated.json"
    table.write_text(json.dumps({"../phantom_0001": [1]}))
    before = tree(ingested.store)
    done = job("ingest", "--store", ingested.store, "--images", ingested.corpus, "--annotated", table)
    one_sentence(done, "../phantom_0001")
    assert tree(ingested.store) == before


def test_folder_without_scans_is_refused_before_a_store_is_made(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    done = job("ingest", "--store", tmp_path / "store", "--images", tmp_path / "images")
    one_sentence(done, "holds no scan", "expected NIfTI")
    assert not (tmp_path / "store").exists()


def test_labels_without_a_statement_are_refused(ingested: Road, tmp_path: Path) -> None:
    done = job("ingest", "--store", tmp_path / "store", "--images", ingested.corpus)
    one_sentence(done, "--annotated present")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--round", "os3"), ("unknown round 'os3'", "os1, os2, ots1, ots2")),
        (("--round", "../os1"), ("unknown round '../os1'",)),
        (("--round", "os1", "--scale", "huge"), ("unknown scale 'huge'", "laptop")),
        (("--round", "os2"), ("os1, which is not published", "--round os1")),
        (("--round", "os1", "--scale", "flare23"), ("1 GPUs (found 0)", "--scale laptop")),
    ],
)
def test_round_that_can_not_run_is_refused(
    ingested: Road, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before = tree(ingested.store)
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    given = options if "--scale" in options else (*options, "--scale", "laptop")
    one_sentence(job("round", "--store", ingested.store, *given, environment=hidden), *parts)
    assert tree(ingested.store) == before


def test_malformed_settings_are_refused_naming_the_file(ingested: Road, tmp_path: Path) -> None:
    shutil.copytree(JOBS / "rounds", tmp_path / "rounds")
    shutil.copytree(JOBS / "scales", tmp_path / "scales")
    (tmp_path / "rounds" / "os1.toml").write_text("stage = [")
    before = tree(ingested.store)
    options = ("--round", "os1", "--scale", "laptop", "--settings", tmp_path, "--store", ingested.store)
    one_sentence(job("round", *options), f"{tmp_path / 'rounds' / 'os1.toml'} is not valid TOML")
    assert tree(ingested.store) == before


@pytest.mark.parametrize("name", ["ingest", "round", "evaluate", "predict"])
def test_zarr_group_of_others_is_left_alone(ingested: Road, tmp_path: Path, name: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ours": False}})
    )
    before = tree(theirs)
    options = {
        "ingest": ("--images", ingested.corpus, "--annotated", ingested.corpus / "annotated.csv"),
        "round": ("--round", "os1", "--scale", "laptop"),
        "evaluate": ("--layer", "os1"),
        "predict": ("--model", "os1", "--images", ingested.corpus / "imagesVal", "--out", tmp_path / "out"),
    }[name]
    one_sentence(job(name, "--store", theirs, *options), str(theirs))
    assert tree(theirs) == before

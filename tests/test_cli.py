import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filled_store import GEOMETRY, annotation_pins, filled_store, label_volume

from pwsseg.cli import main
from pwsseg.formats.nifti import read_labels
from pwsseg.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("cli"))


@pytest.fixture(autouse=True)
def here(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PWSSEG_STORE", store.location)
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pwsseg: ")
    assert err.count("\n") == 1
    return err


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def test_cases_say_what_is_annotated_and_who_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in said(capsys, "cases").splitlines()]
    assert lines == [
        "case split size z y x spacing mm annotated layers",
        "case-a training 7 12 10 2.5 0.8 0.75 1-2 14 annotation.v1 os1.v1 os1-fused.v1",
        "case-b training 7 12 10 2.5 0.8 0.75 1-2 14 annotation.v1 os1.v1",
        "case-c validation 7 12 10 2.5 0.8 0.75 - os1.v1",
    ]
    rows = parsed(capsys, "cases")
    assert [r["annotated_classes"] for r in rows] == [[1, 2, 14], [1, 2, 14], []]


def test_layers_draw_what_was_made_from_what(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "layers").splitlines()
    assert [line[:22].rstrip() for line in lines[1:]] == [
        "● annotation.v1      2",
        "● model os1.v1       3",
        "├─○ os1.v2           -",
        "● os1.v1             3",
        "● os1-fused.v1       1",
    ]
    assert lines[3].split()[-2:] == ["-", "annotation.v1"]
    assert max(map(len, lines)) <= 100


def test_layers_as_a_table_show_drafts_and_parents(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in said(capsys, "layers", "--table").splitlines()]
    assert [line[0] for line in lines[1:]] == ["annotation.v1", "os1.v1", "os1.v2", "os1-fused.v1"]
    assert lines[3][1:3] == ["prediction", "draft"]
    assert "annotation.v1" in lines[2]
    states = [r["state"]["state"] for r in parsed(capsys, "layers")]
    assert states == ["published", "published", "draft", "published"]


def test_columns_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "layers", "--table").splitlines()
    words = ("kind", "annotation  pub", "prediction")
    assert len({line.find(word) for line, word in zip(lines, words, strict=False)}) == 1
    assert all(line == line.rstrip() for line in lines)


def test_models_say_what_they_learned_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "models").splitlines()[1].split()[:3] == ["os1.v1", "published", "3"]
    assert [m["pins"]["targets"][0]["id"] for m in parsed(capsys, "models")] == ["annotation.v1"]
    assert "activation    softmax" in said(capsys, "show", "os1", "--model")
    assert parsed(capsys, "show", "os1.v1", "--model")["type"] == "model"
    assert "no model os9" in refused(capsys, "show", "os9", "--model")


def test_the_log_of_a_case_says_what_each_layer_changed(capsys: pytest.CaptureFixture[str]) -> None:
    events = parsed(capsys, "log", "case-b")["layers"]
    assert [(e["layer"], e["against"], e["changed_voxels"]) for e in events] == [
        ("annotation.v1", None, None),
        ("os1.v1", "annotation.v1", 48),
    ]
    assert events[1]["annotated_classes"] == [1, 2, 14]
    lines = said(capsys, "log", "case-a").splitlines()
    assert lines[0] == "case-a, from case-a_0000.nii.gz"
    assert [line.split()[2] for line in lines[2:]] == ["annotation.v1", "os1.v1", "os1-fused.v1"]
    assert "same" in lines[3]
    assert "no scan" in refused(capsys, "log", "case-z")


def test_show_says_a_setting_a_line_however_deep(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = Store.create(tmp_path / "deep")
    fixes = [{"case": "case-a", "classes": [1]}, {"case": "case-b", "classes": [2]}]
    store.draft(annotation_pins().model_copy(update={"name": "deep", "settings": {"fixes": fixes, "a": {}}}))
    lines = said(capsys, "show", "deep.v1", "--store", store.location).splitlines()
    settings = [line.split("setting")[1].strip() for line in lines if line.startswith("setting")]
    assert settings[:2] == ['fixes[1].case = "case-a"', "fixes[1].classes = [1]"]
    assert settings[-1] == "a = {}"


def test_show_gives_the_record_and_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", "os1")
    for part in ("os1.v1", "prediction", "largest-component", "overlap = 0.5", "2 right kidney"):
        assert part in text
    value = parsed(capsys, "show", "os1")
    assert value["per_class"][0] == {
        "class": 1,
        "name": "liver",
        "stated_in": 3,
        "present_in": 3,
        "voxels": 432,
        "ml": pytest.approx(432 * GEOMETRY.voxel_ml),
    }
    assert "draft" in said(capsys, "show", "os1.v2")
    assert "no layer os9" in refused(capsys, "show", "os9")


def test_diff_counts_gained_and_lost(capsys: pytest.CaptureFixture[str]) -> None:
    value = parsed(capsys, "diff", "annotation", "os1.v1", "--case", "case-b")
    liver = value["classes"][0]
    assert (liver["gained"], liver["lost"], liver["dice"]) == (24, 24, pytest.approx(240 / 288))
    assert liver["gained_ml"] == pytest.approx(24 * GEOMETRY.voxel_ml)
    assert "0.8333" in said(capsys, "diff", "annotation", "os1", "--case", "case-b")
    assert [row["case"] for row in parsed(capsys, "diff", "annotation", "os1")["most"]] == ["case-b"]
    assert parsed(capsys, "diff", "annotation", "os1", "--most", "0")["most"] == []
    assert "not in both" in refused(capsys, "diff", "annotation", "os1", "--case", "case-c")
    assert "draft" in refused(capsys, "diff", "annotation", "os1.v2")


def test_verify_exits_with_one_when_a_byte_is_wrong(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert "every object is as it was written" in said(capsys, "verify")
    path = Path(store.location) / "layers/os1.v1/case-b/0/c/0/0/0"
    original = path.read_bytes()
    path.write_bytes(original[:9] + bytes([original[9] ^ 4]) + original[10:])
    try:
        assert main(["verify", "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
    finally:
        path.write_bytes(original)
    assert found["errors"] >= 1
    assert "layers/os1.v1/case-b" in {f["where"] for f in found["findings"]}


def test_export_writes_each_scans_own_geometry(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said(capsys, "export", "--layer", "os1", "--case", "case-b", "case-c", "--out", "labels")
    assert sorted(p.name for p in (tmp_path / "labels").iterdir()) == ["case-b.nii.gz", "case-c.nii.gz"]
    volume = read_labels(tmp_path / "labels" / "case-b.nii.gz")
    assert np.array_equal(volume.array, label_volume(1))
    assert volume.geometry.same_grid(GEOMETRY)
    assert "no labels for case case-z" in refused(
        capsys, "export", "--layer", "os1", "--case", "case-z", "--out", "x"
    )
    assert not (tmp_path / "x").exists()


def test_the_store_is_found_by_argument_option_variable_and_default(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = said(capsys, "layers")
    monkeypatch.delenv("PWSSEG_STORE")
    assert "pwsseg-store does not exist" in refused(capsys, "layers")
    assert (
        said(capsys, "layers", store.location) == said(capsys, "layers", "--store", store.location) == wanted
    )
    (tmp_path / "pwsseg-store").symlink_to(store.location)
    assert said(capsys, "layers") == wanted
    assert "two stores" in refused(capsys, "layers", "a", "--store", "b")


def test_an_empty_store_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Store.create(tmp_path / "new")
    for command in ("cases", "layers"):
        assert "no " in said(capsys, command, "new")
        assert parsed(capsys, command, "new") == []
    assert "every object" in said(capsys, "verify", "new")


def test_no_heavy_library_is_imported_until_needed(store: Store) -> None:
    code = (
        "import sys, pwsseg.cli; assert not {'numpy', 'zarr', 'pydantic'} & set(sys.modules), 'at import'; "
        "pwsseg.cli.main(['cases', '--json']); "
        "assert not {'ray', 'torch', 'SimpleITK', 'matplotlib'} & set(sys.modules), 'by cases'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_reader_that_left_is_no_traceback(store: Store) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pwsseg.cli", "layers"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")

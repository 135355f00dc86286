"""Science x size: every round at every scale, and one sentence for every way to get it wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pwsseg
from pwsseg.networks.prediction import BoxSettings
from pwsseg.rounds import RoundSettings, load_round, round_names
from pwsseg.store.digests import code_digest, package_digest
from pwsseg.values import FLARE23, SettingsError

JOBS = Path(__file__).resolve().parents[1] / "jobs"
ROUNDS = ("os1", "os2", "ots1", "ots2")
SCALES = sorted(p.stem for p in (JOBS / "scales").glob("*.toml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of jobs/ that a test may break."""
    for part in ("rounds", "scales"):
        shutil.copytree(JOBS / part, tmp_path / part)
    return tmp_path


def change(path: Path, key: str, value: str | None) -> None:
    """Say `value` for a key such as `os.patch`; None takes the line away, a new key gets one."""
    table, _, name = key.rpartition(".")
    lines = path.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"[{table}]") + 1 if table else 0
    stop = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
    place = next((i for i in range(start, stop) if lines[i].split(" = ")[0] == name), None)
    said = [] if value is None else [f"{name} = {value}"]
    lines[slice(start, start) if place is None else slice(place, place + 1)] = said
    path.write_text("\n".join(lines), encoding="utf-8")


def refusal(folder: Path, name: str = "os2", scale: str = "laptop") -> str:
    with pytest.raises(SettingsError) as refused:
        load_round(name, scale, folder=folder)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ROUNDS)
def test_every_round_loads_at_every_scale(name: str, scale: str) -> None:
    settings = load_round(name, scale, folder=JOBS, seed=3)
    assert (settings.name, settings.scale_name, settings.seed) == (name, scale, 3)
    assert settings.stage is getattr(settings.scale, settings.science.stage)
    assert RoundSettings.model_validate(settings.model_dump(mode="json")) == settings
    assert all(p % d == 0 for p, d in zip(settings.stage.patch, settings.network.divisor, strict=True))


def test_the_papers_size_and_the_laptops_are_there() -> None:
    assert {"flare23", "laptop"} <= set(SCALES)


def test_rounds_come_in_the_order_in_which_they_learn_from_each_other() -> None:
    assert round_names(JOBS) == list(ROUNDS)


def test_order_follows_learns_from_and_not_the_names(folder: Path) -> None:
    shutil.copy(folder / "rounds" / "ots2.toml", folder / "rounds" / "a.toml")
    assert round_names(folder) == ["os1", "os2", "ots1", "a", "ots2"]


def test_rounds_that_learn_from_each_other_in_a_circle_are_refused(folder: Path) -> None:
    change(folder / "rounds" / "os2.toml", "learns_from", '["annotation", "ots1"]')
    with pytest.raises(SettingsError, match=r"os2, ots1, ots2 learn from each other in a circle"):
        round_names(folder)


def test_pseudo_labels_come_from_the_last_round_learnt_from() -> None:
    pseudo = [load_round(n, "laptop", folder=JOBS).pseudo for n in ROUNDS]
    assert pseudo == [None, "os1", "os2", "ots1"]


def test_organ_rounds_have_a_channel_an_organ_and_others_one_more_for_background() -> None:
    channels = [len(load_round(n, "laptop", folder=JOBS).channels) for n in ROUNDS]
    assert channels == [13, 13, 15, 15]


def test_a_round_from_scratch_trains_the_stages_epochs_and_others_those_of_going_on() -> None:
    for name in ROUNDS:
        settings = load_round(name, "laptop", folder=JOBS)
        fresh = name == "os1"
        assert settings.epochs == (settings.stage.epochs if fresh else settings.stage.epochs_going_on)


def test_prediction_settings_hold_all_that_decides_a_prediction() -> None:
    settings = load_round("ots2", "laptop", folder=JOBS)
    prediction = settings.prediction
    assert prediction.network == settings.network
    assert prediction.activation == "softmax"
    assert prediction.classes == FLARE23.ids
    assert prediction.patch == settings.stage.patch
    assert prediction.post_processing.floor_ml[1] == 2


@pytest.mark.parametrize("name", ["os3", "../scales/laptop", "", "/etc/hosts", "OS1"])
def test_unknown_round_is_refused_with_those_there_are(folder: Path, name: str) -> None:
    sentence = refusal(folder, name)
    assert f"unknown round '{name}'" in sentence
    assert "os1, os2, ots1, ots2" in sentence
    assert "give one of these or add" in sentence


def test_unknown_scale_is_refused_with_those_there_are(folder: Path) -> None:
    sentence = refusal(folder, scale="desktop")
    assert "unknown scale 'desktop'" in sentence
    assert "flare23, flare23-larger, laptop" in sentence


def test_a_folder_without_rounds_is_told_so(tmp_path: Path) -> None:
    assert "has none" in refusal(tmp_path)


ROUND, SCALE = "rounds/os2.toml", "scales/laptop.toml"


@pytest.mark.parametrize(
    ("file", "key", "value", "found"),
    [
        pytest.param(ROUND, "stage", "os", "is not valid TOML", id="malformed round"),
        pytest.param(SCALE, "os.epochs", "= 3", "is not valid TOML", id="malformed scale"),
        pytest.param(ROUND, "ramp_up", None, "ramp_up: field required", id="missing key"),
        pytest.param(ROUND, "x", "1", "x: extra inputs", id="unknown key"),
        pytest.param(SCALE, "os.x", "1", "os.x: extra inputs", id="unknown key of a stage"),
        pytest.param(SCALE, "ots.patch", None, "ots.patch: field required", id="missing key of a stage"),
        pytest.param(SCALE, "overlap", "1.0", "(found 1.0)", id="overlap of one"),
        pytest.param(SCALE, "os.epochs", "0", "os.epochs: ", id="no epochs"),
        pytest.param(ROUND, "loss", '"dice"', "(found 'dice')", id="unknown loss"),
        pytest.param(ROUND, "fusion", '"best"', "fusion: ", id="unknown fusion rule"),
        pytest.param(ROUND, "classes", "[1, 15]", "FLARE23 (1..14)", id="unknown class"),
        pytest.param(ROUND, "classes", "[1, 1]", "each once", id="class twice"),
        pytest.param(ROUND, "learns_from", '["os1"]', "must begin with", id="no annotation"),
        pytest.param(ROUND, "learns_from", '["annotation"]', "cases are fused", id="nothing to fuse with"),
        pytest.param(ROUND, "learns_from", '["annotation", "os9"]', "builds on os9", id="unknown parent"),
        pytest.param(ROUND, "starts_from", '"os9"', "builds on os9", id="unknown start"),
        pytest.param(ROUND, "clip_hu", "[325.0, -325.0]", "(low, high)", id="range upside down"),
        pytest.param(SCALE, "os.patch", "[33, 64, 64]", "must be a multiple of (", id="patch"),
        pytest.param(SCALE, "os.network.strides", "[]", "4 widths need 3 strides", id="too few strides"),
        pytest.param(SCALE, "os.network.kind", '"net"', "os.network: ", id="unknown kind of network"),
        pytest.param(
            SCALE, "os.margin_mm", "20", "os.margin_mm: extra", id="margin without a coarse network"
        ),
        pytest.param(SCALE, "os.resized", "true", "add [os.coarse]", id="resized without a coarse network"),
        pytest.param(SCALE, "mirrored", '["w"]', "mirrored.0: ", id="unknown axis"),
        pytest.param(SCALE, "least_training_workers", "3", "more than training_workers", id="least workers"),
        pytest.param(SCALE, "os.labelled_batch", "3", "split evenly over 2", id="batch not divisible"),
    ],
)
def test_refusal_names_the_file_and_what_was_found(
    folder: Path, file: str, key: str, value: str | None, found: str
) -> None:
    change(folder / SCALE, "training_workers", "2")
    change(folder / file, key, value)
    sentence = refusal(folder)
    assert sentence.startswith(str(folder / file)), sentence
    assert found in sentence, sentence


@pytest.mark.parametrize(
    ("name", "key", "value", "remedy"),
    [
        ("os2", "x", "1", "correct the file"),
        ("os2", "learns_from", '["annotation"]', "add one"),
        ("os2", "learns_from", '["annotation", "os9"]', "add it or name another round"),
        ("ots1", "cases.unlabelled", '"unlabelled"', "say dropped"),
        ("ots2", "selection.over", '["os9", "os2", "ots1"]', "add it or name another round"),
    ],
)
def test_refusal_says_what_to_do(folder: Path, name: str, key: str, value: str, remedy: str) -> None:
    change(folder / "rounds" / f"{name}.toml", key, value)
    assert refusal(folder, name).endswith(remedy)


def test_a_key_in_both_files_is_refused_naming_both(folder: Path) -> None:
    change(folder / SCALE, "seedling", "1")
    change(folder / ROUND, "seedling", "1")
    sentence = refusal(folder)
    for said in ("seedling", "rounds/os2.toml", "scales/laptop.toml", "remove it from one of them"):
        assert said in sentence


def test_bytes_that_are_not_utf_8_are_not_toml(folder: Path) -> None:
    (folder / ROUND).write_bytes(b'about = "\xff"')
    assert "is not valid TOML" in refusal(folder)


def pinned(folder: Path, name: str = "os2", seed: int = 0) -> dict[str, object]:
    return load_round(name, "laptop", folder=folder, seed=seed).pinned()


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        pytest.param(ROUND, "about", '"Something else"', id="about"),
        pytest.param(SCALE, "ots.learning_rate", "0.777", id="the other stage"),
        pytest.param(SCALE, "cached_volumes", "777", id="cache"),
        pytest.param(SCALE, "needs.memory_gb", "777", id="needs"),
        pytest.param(SCALE, "windows_a_batch", "777", id="windows a batch"),
        pytest.param(SCALE, "compiled", "true", id="compiled"),
    ],
)
def test_what_decides_no_label_is_not_pinned(folder: Path, file: str, key: str, value: str) -> None:
    before = load_round("os2", "laptop", folder=folder)
    change(folder / file, key, value)
    after = load_round("os2", "laptop", folder=folder)
    assert after != before
    assert after.pinned() == before.pinned()


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        pytest.param(SCALE, "os.learning_rate", "0.777", id="the own stage"),
        pytest.param(SCALE, "overlap", "0.777", id="overlap"),
        pytest.param(SCALE, "mirrored", '["z"]', id="mirror images"),
        pytest.param(SCALE, "spacing", "[7.7, 7.7, 7.7]", id="spacing"),
        pytest.param(SCALE, "patches_each", "777", id="patches each"),
        pytest.param(SCALE, "training_workers", "1", id="training workers"),
        pytest.param(SCALE, "least_training_workers", "1", id="least training workers"),
        pytest.param(ROUND, "foreground", "0.777", id="foreground"),
        pytest.param(ROUND, "tumor_division.reach_mm", "7.77", id="reach"),
    ],
)
def test_what_decides_labels_is_pinned(folder: Path, file: str, key: str, value: str) -> None:
    before = pinned(folder)
    change(folder / file, key, value)
    assert pinned(folder) != before


def test_seed_and_round_are_pinned() -> None:
    assert pinned(JOBS, seed=0) != pinned(JOBS, seed=1)
    assert pinned(JOBS, "os1") != pinned(JOBS, "os2")


def test_rounds_share_a_prepared_cache_until_spacing_or_range_differ(folder: Path) -> None:
    recipes = {load_round(n, "laptop", folder=folder).recipe for n in ROUNDS}
    assert len(recipes) == 1
    change(folder / ROUND, "clip_hu", "[-300.0, 325.0]")
    assert load_round("os2", "laptop", folder=folder).recipe not in recipes
    assert load_round("os1", "flare23", folder=folder).recipe not in recipes


def test_coarse_network_is_a_round_of_its_own_name_before_the_organ_round() -> None:
    coarse = load_round("os2", "flare23", folder=JOBS).coarse
    assert coarse is not None
    assert (coarse.name, coarse.science.starts_from, coarse.coarse) == ("os2-coarse", "os1-coarse", None)
    assert (coarse.stage.patch, coarse.stage.resized) == ((160, 160, 160), True)
    assert coarse.network.kind == "coarse-unet"
    assert coarse.epochs == 500
    assert RoundSettings.model_validate(coarse.model_dump(mode="json")) == coarse


def test_only_organ_rounds_of_a_scale_that_asks_have_a_coarse_network() -> None:
    asked = {(n, s) for n in ROUNDS for s in SCALES if load_round(n, s, folder=JOBS).coarse}
    assert asked == {(n, s) for n in ("os1", "os2") for s in ("flare23", "flare23-larger")}


def test_a_round_whose_parent_has_another_network_begins_from_scratch() -> None:
    starts = {s: [load_round(n, s, folder=JOBS).science.starts_from for n in ROUNDS] for s in SCALES}
    assert starts["laptop"] == ["scratch", "os1", "os2", "ots1"]
    assert starts["flare23"] == ["scratch", "os1", "scratch", "ots1"]


def test_prepared_scans_of_another_box_or_cube_are_others() -> None:
    whole = load_round("os2", "flare23", folder=JOBS)
    box = BoxSettings(coarse="os2-coarse.v1", digest="d", margin_mm=20, around="os2-targets.v1")
    boxed = whole.model_copy(update={"box": box})
    other = whole.model_copy(update={"box": box.model_copy(update={"digest": "e"})})
    assert whole.coarse is not None
    assert len({s.recipe for s in (whole, boxed, other, whole.coarse)}) == 4
    assert boxed.prediction.box == box
    assert boxed.pinned() != whole.pinned()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, which a test may edit."""
    copy = tmp_path / "pwsseg"
    source = Path(pwsseg.__file__).parent
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def append_line(path: Path) -> None:
    with path.open("a", encoding="utf-8") as source:
        source.write("\n")


def test_the_same_code_elsewhere_has_the_same_digest(package: Path) -> None:
    assert package_digest(package) == code_digest()


@pytest.mark.parametrize(
    "file", ["rounds.py", "arrays/fusion.py", "networks/losses.py", "pipelines/train.py", "values/labels.py"]
)
def test_code_digest_changes_with_a_computing_file(package: Path, file: str) -> None:
    append_line(package / file)
    assert package_digest(package) != code_digest()


def test_code_digest_changes_with_a_file_more_and_with_a_files_name(package: Path) -> None:
    (package / "arrays" / "new.py").write_text("", encoding="utf-8")
    more = package_digest(package)
    (package / "arrays" / "new.py").rename(package / "arrays" / "newer.py")
    assert len({code_digest(), more, package_digest(package)}) == 3


@pytest.mark.parametrize("file", ["report/page.py", "report/style.py", "cli/files.py"])
def test_code_digest_ignores_what_only_reads(package: Path, file: str) -> None:
    append_line(package / file)
    assert package_digest(package) == code_digest()


def test_code_edited_while_a_process_runs_is_not_what_it_pins(package: Path) -> None:
    program = """
from pathlib import Path
from pwsseg.store import digests
before = digests.code_digest()
path = Path("pwsseg/arrays/fusion.py")
path.write_text(path.read_text() + "# edited")
assert digests.code_digest() == before
assert digests.package_digest(Path("pwsseg")) != before
"""
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    subprocess.run([sys.executable, "-c", program], cwd=package.parent, env=environment, check=True)

"""Every flipped byte is found and named; a repair removes what nothing names, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from filled_store import CASES, model_pins, store_at_work, weights_file

from pwsseg.cli import main
from pwsseg.store import Store
from pwsseg.store.check import Finding
from pwsseg.store.objects import Objects
from pwsseg.store.repair import repair
from pwsseg.store.verify import verify

NOW, DAY = timedelta(0), timedelta(days=1)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_at_work(tmp_path_factory.mktemp("integrity"))


@pytest.fixture
def store(pristine: Store, tmp_path: Path) -> Store:
    shutil.copytree(pristine.location, tmp_path / "store")
    return Store.open(tmp_path / "store")


def objects(store: Store) -> list[str]:
    return sorted(store.objects.keys(""))


def errors(store: Store) -> list[Finding]:
    return [f for f in verify(store) if f.level == "error"]


def place(key: str) -> str:
    """The folder of the volume that an object belongs to, else the object itself."""
    parts = key.split("/")
    depth = {"scans": 2, "layers": 3, "prepared": 3}.get(parts[0], 0)
    return "/".join(parts[:depth]) if depth and len(parts) > depth else key


def test_a_flipped_byte_in_each_object_is_found_and_named(store: Store) -> None:
    dice = random.Random(20261124)
    for key in objects(store):
        path = Path(store.location) / key
        original = path.read_bytes()
        changed = bytearray(original)
        changed[dice.randrange(len(changed))] ^= dice.randrange(1, 256)
        path.write_bytes(changed)
        found = errors(store)
        path.write_bytes(original)
        assert [f for f in found if f.where.startswith(place(key))], key
    assert not errors(store)


def test_a_finding_names_case_and_layer(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(store.location) / "layers/os1.v2/case-a/0/c/0/0/0"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert main(["verify", store.location, "--json"]) == 1
    (found,) = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["level"] == "error"]
    assert (found["layer"], found["case"]) == ("os1.v2", "case-a")
    assert Finding("error", "scans/case-b/zarr.json", "").case == "case-b"
    assert Finding("error", "layers/os1.v1/manifest.parquet", "").case is None


# repairing


def repaired(store: Store, older_than: timedelta = NOW) -> list[str]:
    """What a repair removed, by place."""
    return [f.where for f in repair(store, list(verify(store)), older_than=older_than).removed]


def test_a_repair_of_a_healthy_store_takes_unfinished_drafts_only(store: Store) -> None:
    before = objects(store)
    assert repaired(store) == ["layers/os1.v2"]
    assert objects(store) == [key for key in before if not key.startswith("layers/os1.v2/")]
    assert not list(verify(store))


def test_what_a_job_may_be_writing_stays(store: Store) -> None:
    before = objects(store)
    done = repair(store, list(verify(store)), older_than=DAY)
    assert (done.removed, [f.where for f in done.fresh]) == ([], ["layers/os1.v2"])
    old = time.time() - 2 * DAY.total_seconds()
    for path in (Path(store.location) / "layers/os1.v2").rglob("*.json"):
        os.utime(path, (old, old))
    assert not repaired(store, DAY), "one object of the draft is new"
    assert objects(store) == before


def test_a_draft_published_meanwhile_stays(store: Store) -> None:
    findings = list(verify(store))
    pins = next(r.pins for r in store.layers() if r.id == "os1.v2")
    store.draft(pins).publish(["case-a"])
    assert not repair(store, findings, older_than=NOW).removed
    assert not list(verify(store))


def test_orphans_of_each_room_go(store: Store) -> None:
    wanted = [key for key in objects(store) if not key.startswith("layers/os1.v2/")]
    for key in (
        "layers/os1.v1/case-z/0/c/0/0/0",
        "scans/case-y/0/zarr.json",
        "models/os1.v1/curve-000000000000.json",
        "scores/a--b.parquet",
        "prepared/spacing-4-2-2/case-b/0/zarr.json",
    ):
        store.objects.write(key, b"x")
    repaired(store)
    assert objects(store) == wanted
    assert not list(verify(store))


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_unfinished_training_goes(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(store)
    pins = model_pins(store.layer("annotation")).model_copy(update={"code": "later"})
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Objects, "write", interrupted)
        store.write_model(
            pins, weights_file(tmp_path), [], network={}, classes=(0,), activation="softmax", preprocessing={}
        )
    assert [m.state.state for m in store.models()] == ["published", "draft"]
    assert "models/os1.v2" in repaired(store)
    assert objects(store) == [key for key in before if not key.startswith("layers/os1.v2/")]


def test_strangers_are_told_of_and_stay(store: Store) -> None:
    for key in ("notes.txt", "layers/notes.txt", "elsewhere/zarr.json"):
        store.objects.write(key, b"x")
    repaired(store)
    assert {f.where for f in errors(store)} == {"notes.txt", "layers/notes.txt", "elsewhere/zarr.json"}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_no_damage_makes_a_repair_remove_what_was_published(store: Store, damage: str) -> None:
    """Whatever is lost or changed: once it is put back, the store is whole again, so nothing else went."""
    repaired(store)
    for key in objects(store):
        if key.startswith("scores/"):  # a table without its record is an orphan; scores can be made again
            continue
        path = Path(store.location) / key
        original = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(original[: len(original) // 2] + b"~" + original[len(original) // 2 + 1 :])
        repaired(store)
        path.write_bytes(original)
    left = [f for f in verify(store) if not f.where.startswith("prepared/")]
    assert not left


def test_the_command_says_what_can_go_and_removes_it_only_when_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.objects.write("scans/case-z/0/zarr.json", b"x")
    before = objects(store)
    assert main(["verify", store.location]) == 1
    assert "fresh  scans/case-z/0/zarr.json" in capsys.readouterr().out
    assert main(["verify", store.location, "--older-than", "0"]) == 1
    assert "can go  scans/case-z/0/zarr.json" in capsys.readouterr().out
    assert objects(store) == before
    assert main(["verify", store.location, "--repair", "--older-than", "0"]) == 0
    out = capsys.readouterr().out
    assert "removed  layers/os1.v2, 4 objects" in out
    assert "every object is as it was written" in out
    assert main(["verify", store.location]) == 0
    assert Store.open(store.location).layer("os1").cases() == list(CASES)

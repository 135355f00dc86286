"""What lies on the disk is damaged, or there is no disk or memory left."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from road import PATIENCE_S, REPOSITORY, Done, Road, answer, clean_environment, job, round_job

from faults.disturbing import os1, same_layer
from pwsseg.formats.nifti import read_scan, write_scan
from pwsseg.pipelines.needs import free_bytes
from pwsseg.store import Store
from pwsseg.store.verify import verify

VOXELS = "0/c/0/0/0"


def changed(path: Path) -> None:
    """One byte in the middle is another: of voxels, of an index, of a record."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (changed, VOXELS),
    (cut_short, VOXELS),
    (Path.unlink, VOXELS),
    (changed, "0/zarr.json"),
    (cut_short, "zarr.json"),
]


def test_damaged_prepared_scans_are_made_again(undisturbed: Path, settings: Path, tmp_path: Path) -> None:
    """Each in another way: one that is learnt from, and those that are predicted."""
    store = tmp_path / "store"
    shutil.copytree(undisturbed, store)
    for made in ("layers/os1.v1", "models/os1.v1"):
        shutil.rmtree(store / made)
    (cache,) = store.glob("prepared/prepared-*")
    (learnt, *_) = Store.open(store).layer("os1-targets").cases()
    predicted = Store.open(undisturbed).layer("os1").cases()
    changed(cache / learnt / VOXELS)
    for (damage, part), case in zip(DAMAGES, predicted, strict=True):
        damage(cache / case / part)
    damaged = {f.where for f in verify(Store.open(store)) if f.where.startswith("prepared/")}
    assert len(damaged) >= 6
    said = round_job("os1", settings, store).expect(0).said
    assert "os1 · prepare       1/1 scans" in said, "the one without a readable record"
    same_layer(store, undisturbed)
    assert not list(verify(Store.open(store)))
    notes = {c: Store.open(store).layer("os1").entry(c).notes for c in predicted}
    for case, what in notes.items():
        assert all(f"  {case}: {note}" in said for note in what), said
    assert not list(verify(Store.open(undisturbed)))


class Damaged(NamedTuple):
    """A store in which one scan is damaged, what round os1 says, and what it says with --allow-missing."""

    store: Path
    case: str
    refused: Done
    allowed: Done


@pytest.fixture(scope="module")
def damaged(ingested: Road, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """The scan is the one without labels, which the round predicts."""
    store = tmp_path_factory.mktemp("damaged") / "store"
    shutil.copytree(ingested.store, store)
    opened = Store.open(store)
    (case,) = set(opened.cases(split="training")) - set(opened.layer("annotation").cases())
    changed(store / "scans" / case / VOXELS)
    refused = round_job("os1", settings, store)
    published = [layer.id for layer in opened.layers() if layer.state.state == "published"]
    assert published == ["annotation.v1", "os1-targets.v1"]
    return Damaged(store, case, refused, round_job("os1", settings, store, "--allow-missing"))


def test_round_with_a_damaged_scan_is_not_published(damaged: Damaged) -> None:
    said = damaged.refused.expect(1).said
    case = damaged.case
    assert f"error: 1 scans can't be prepared, first {case}: scans/{case}: the stored voxels" in said
    assert "--allow-missing" in said
    assert "Traceback" not in said


def test_allowed_to_it_is_published_with_case_and_reason_in_its_record(damaged: Damaged) -> None:
    store, case = damaged.store, damaged.case
    said = damaged.allowed.expect(0).said
    assert f"  {case} is left out: scans/{case}: the stored voxels" in said
    assert f", without 1 that failed: {case}" in said
    layer = Store.open(store).layer("os1")
    assert case not in layer.cases()
    assert len(layer.cases()) == 4
    (missing,) = answer("show", "os1", "--store", store)["state"]["missing"]
    assert missing["case"] == case
    assert missing["reason"].startswith(f"scans/{case}: the stored voxels")
    assert {f.case for f in verify(Store.open(store)) if f.level == "error"} == {case}


def test_layer_without_a_case_is_learnt_from_and_made_anew_once_the_scan_is_repaired(
    damaged: Damaged, ingested: Road, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    damaged.allowed.expect(0)
    store, case = tmp_path / "store", damaged.case
    shutil.copytree(damaged.store, store)
    shutil.copytree(ingested.store / "scans" / case, store / "scans" / case, dirs_exist_ok=True)
    said = round_job("os2", settings, store).expect(0).said
    assert f"  {case} is missing in a layer before" in said
    assert case not in Store.open(store).layer("os2-targets").cases()
    assert case in Store.open(store).layer("os2").cases()
    round_job("os1", settings, store).expect(0)
    again, wanted = Store.open(store).layer("os1"), Store.open(undisturbed).layer("os1")
    assert (again.id, again.digest, again.state.missing) == ("os1.v2", wanted.digest, ())


FILLING = """
mount -t tmpfs -o size=24m tmpfs "$1" || exit 90
cp -r "$2" "$1/store"
dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null
truncate -s -$3 "$1/filler"
shift 3
"$@"; echo "ended with $?"
rm "$0/filler"
"$@"; echo "ended with $?"
cp -r "$0/store" "$0.after"
"""


def on_a_full_disk(store: Path, settings: Path, folder: Path, *, free: int) -> str:
    """What round os1 says on a small disk of its own that has so many bytes left: it ends with 1.

    Then the disk is emptied, and the same command ends with 0; the store is left as `folder`/disk.after.
    """
    disk = folder / "disk"
    disk.mkdir()
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    probe = subprocess.run([*own, "mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False)
    if probe.returncode and not os.environ.get("CI"):
        pytest.skip("no small disk can be mounted here (a container without that right)")
    shell = [*own, "sh", "-c", FILLING, str(disk), str(disk), str(store), str(free)]
    done = subprocess.run(
        [*shell, *os1(settings, disk / "store")],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    full, _, freed = done.stdout.partition("ended with 1\n")
    assert freed.endswith("ended with 0\n"), done.stdout
    assert "Traceback" not in full
    return full


def test_full_disk_refuses_and_loses_nothing(
    trained: Path, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Some of the cases find room."""
    full = on_a_full_disk(trained, settings, tmp_path, free=40_960)
    assert "the store " in full
    assert "error: os1.v1 is not published: " in full
    same_layer(tmp_path / "disk.after", undisturbed)


def test_disk_that_is_full_in_training_loses_no_more_than_the_epoch(
    trained: Path, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """A checkpoint or two find room."""
    shutil.rmtree(trained / "models" / "os1.v1")
    full = on_a_full_disk(trained, settings, tmp_path, free=409_600)
    assert "error: the training was cut off (" in full
    assert "No space left on device" in full
    same_layer(tmp_path / "disk.after", undisturbed)


def nearly_full(more: int) -> dict[str, str]:
    """The environment of a Ray that takes a node for full when so many bytes more than now are in use."""
    total, free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), free_bytes(torch.device("cpu"))
    return {"RAY_memory_usage_threshold": str(round(min(0.95, (total - free + more) / total), 3))}


def test_scan_larger_than_the_memory_is_reported_and_the_others_go_in(ingested: Road, tmp_path: Path) -> None:
    """Ray's memory monitor kills its reader as often as it begins."""
    images = tmp_path / "images"
    images.mkdir()
    (good, *_) = sorted(ingested.corpus.glob("imagesTr/*.nii.gz"))
    shutil.copy(good, images / "good_0000.nii.gz")
    volume = read_scan(good)
    write_scan(images / "huge_0000.nii", volume)
    with (images / "huge_0000.nii").open("r+b") as file:  # 8 GB of zeros that take no disk
        file.seek(42)
        file.write(struct.pack("<3h", 1000, 1000, 1000))
        file.seek(70)
        file.write(struct.pack("<2h", 64, 64))
        file.truncate(352 + 8 * 1000**3)
    done = job(
        "ingest", "--store", tmp_path / "store", "--images", images, environment=nearly_full(5_000_000_000)
    )
    said = done.expect(1).said
    assert "huge: its process died every time (out of memory" in said
    assert "Traceback" not in said
    assert Store.open(tmp_path / "store").cases() == ["good"]

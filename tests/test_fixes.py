"""What people correct: which voxels it touches, what is kept of it, and that later rounds learn from it."""

import runpy
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from filled_store import AXIAL, GEOMETRY, add_scan, model_pins, prediction_pins, weights_file
from numpy.typing import NDArray
from road import JOBS, Road, job, tree, write_settings

from pwsseg.arrays.restating import restate
from pwsseg.formats.nifti import read_labels, write_labels
from pwsseg.formats.reading import source_digest
from pwsseg.formats.volume import Volume
from pwsseg.pipelines import annotation as annotations
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.evaluate import _score
from pwsseg.pipelines.fixes import Fix, FixReport, fix
from pwsseg.pipelines.fuse import target_labels
from pwsseg.pipelines.ingest import _annotate
from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.sources import pin_sources
from pwsseg.rounds import RoundSettings, load_round
from pwsseg.store import Layer, Store
from pwsseg.store.verify import verify
from pwsseg.values import FLARE23, UNKNOWN, Geometry, PwssegError, StoreError

ORGANS = frozenset(FLARE23.organs)
Labels = NDArray[np.uint8]
Box = tuple[slice, slice, slice]

LEFT, MIDDLE, RIGHT = (np.s_[1:5, 2:6, n : n + 3] for n in (0, 3, 6))


def drawn(boxes: Mapping[int, Box]) -> Labels:
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    for label, box in boxes.items():
        labels[box] = label
    return labels


PSEUDO = drawn({1: LEFT, 3: MIDDLE, 14: RIGHT})
"""What the round before says of every case."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """`full` has all organs annotated, `partial` spleen and tumor, `bare` nothing; `held` is held out."""
    store = Store.create(tmp_path / "store")
    for case in ("bare", "full", "partial"):
        add_scan(store, case)
    add_scan(store, "held", "validation")
    draft = store.draft(annotations.next_pins(None, settings={}, rules=("stated-by-people",)))
    stated = {"full": ORGANS, "held": ORGANS, "partial": frozenset({3, 14})}
    for case, classes in stated.items():
        labels = drawn({3: LEFT, 14: MIDDLE} if case == "partial" else {1: LEFT, 13: MIDDLE})
        draft.write(case, labels, annotated_classes=classes, seconds={}, notes=("source:" + "a" * 64,))
    layer = draft.publish(stated)
    add_pseudo_labels(store, layer, tmp_path)
    return store


def add_pseudo_labels(store: Store, annotation: Layer, folder: Path) -> None:
    model = store.write_model(
        model_pins(annotation).model_copy(update={"name": "os2", "cases": ("full",)}),
        weights_file(folder),
        [{"epoch": 0, "loss": 1.0}],
        network={},
        classes=(0, *FLARE23.ids),
        activation="softmax",
        preprocessing={},
    )
    pins = prediction_pins(annotation, model).model_copy(update={"name": "os2", "classes": FLARE23.ids})
    draft = store.draft(pins)
    for case in store.cases():
        draft.write(case, PSEUDO, annotated_classes=FLARE23.ids, seconds={})
    draft.publish(store.cases())


@pytest.fixture(scope="module")
def ots1(tmp_path_factory: pytest.TempPathFactory) -> RoundSettings:
    return load_round("ots1", "tiny", folder=write_settings(tmp_path_factory.mktemp("settings")))


def edited(folder: Path, case: str, labels: Labels, geometry: Geometry = GEOMETRY) -> Path:
    write_labels(folder / f"{case}.nii.gz", Volume(labels, geometry))
    return folder / f"{case}.nii.gz"


def fixed(store: Store, folder: Path, case: str, boxes: Mapping[int, Box], *classes: int) -> FixReport:
    return fix(store, [Fix(case, edited(folder, case, drawn(boxes)), frozenset(classes))])


def target(store: Store, settings: RoundSettings, case: str) -> Labels:
    """What the round teaches of a case: its newest annotation fused with the pseudo labels."""
    sources = pin_sources(store, settings)
    return target_labels(
        sources.annotation.labels(case),
        sources.pseudo.labels(case) if sources.pseudo and sources.is_fused(case) else None,
        settings=settings,
        annotated=sources.annotated[case],
        spacing=GEOMETRY.spacing,
    )


@pytest.mark.parametrize(
    ("old", "drawn_as", "stated", "new"),
    [
        (0, 1, {1}, 1),
        (0, 2, {1}, 0),
        (13, 1, {1}, 1),
        (1, 0, {1}, UNKNOWN),
        (1, 13, {1}, UNKNOWN),
        (1, 13, {1, 13}, 13),
        (1, 0, {1, 13, 14}, 0),
        (UNKNOWN, 0, {1}, UNKNOWN),
        (UNKNOWN, 0, {1, 13, 14}, 0),
        (14, 1, {1}, 14),
        (14, 1, {1, 14}, 1),
        (1, 14, {14}, 14),
        (13, UNKNOWN, {1}, 13),
        (1, UNKNOWN, {1}, UNKNOWN),
    ],
)
def test_voxel_of_a_fixed_case(old: int, drawn_as: int, stated: set[int], new: int) -> None:
    before, now = (np.full((1, 1, 1), value, np.uint8) for value in (old, drawn_as))
    after = restate(before, now, annotated={1, 13, 14}, stated=stated, tumor=14)
    assert after.dtype == np.uint8
    assert after.item() == new


def test_fixed_class_wins_over_pseudo_labels(store: Store, ots1: RoundSettings, tmp_path: Path) -> None:
    assert pin_sources(store, ots1).kinds["bare"] == "unlabelled"
    report = fixed(store, tmp_path, "bare", {14: LEFT, 9: RIGHT}, 14)
    assert report.annotation is not None
    assert report.annotation.id == "annotation.v2"
    assert report.annotation.entry("bare").annotated_classes == (14,)
    learnt = target(store, ots1, "bare")
    assert (learnt[LEFT] == 14).all()
    assert (learnt[MIDDLE] == 3).all()
    assert (learnt[RIGHT] == UNKNOWN).all(), "a pseudo tumor that the person did not draw is wrong"
    assert report.changed["bare"][1].startswith("ignores what the file says of 9 gallbladder")


def test_fixed_absence_wins_over_pseudo_labels(store: Store, ots1: RoundSettings, tmp_path: Path) -> None:
    report = fixed(store, tmp_path, "partial", {}, 14)
    assert report.annotation is not None
    assert report.annotation.entry("partial").voxels["14"] == 0
    assert not (target(store, ots1, "partial") == 14).any()
    fixed(store, tmp_path, "full", {}, 14)
    assert store.layer("annotation").entry("full").annotated_classes == FLARE23.ids
    assert not (target(store, ots1, "full") == 14).any()


def test_other_classes_of_the_case_and_other_cases_stay(store: Store, tmp_path: Path) -> None:
    first = store.layer("annotation")
    report = fixed(store, tmp_path, "partial", {14: RIGHT, 2: LEFT}, 14)
    now = store.layer("annotation")
    labels = now.labels("partial")
    assert (labels[LEFT] == 3).all()
    assert (labels[MIDDLE] == UNKNOWN).all(), "nobody said whether spleen lies where the tumor was"
    assert (labels[RIGHT] == 14).all()
    assert any("48 freed voxels are unknown now; state 3 spleen, too" in s for s in report.changed["partial"])
    assert now.cases() == first.cases()
    assert all(now.entry(c) == first.entry(c) for c in ("full", "held"))
    assert list(verify(store)) == []


def test_fix_keeps_file_origin_and_note(store: Store, tmp_path: Path) -> None:
    path = edited(tmp_path, "partial", drawn({14: RIGHT}))
    origin = store.layer("os2")
    report = fix(store, [Fix("partial", path, frozenset({14}))], note="JD: it is a cyst", origin=origin)
    assert report.annotation is not None
    pins, said = report.annotation.record.pins, report.annotation.entry("partial").notes
    assert [p.id for p in pins.parents] == ["annotation.v1"]
    assert pins.rules == ("restated-by-people",)
    assert said == (
        "source:" + "a" * 64,
        f"fix:{source_digest(path)} partial.nii.gz, classes 14, on annotation.v1, "
        f"exported from os2.v1 {origin.digest[:12]}; JD: it is a cyst",
    )
    assert pins.settings == {"fixes": {"partial": said[1]}}


def test_fix_that_changes_nothing_makes_no_version(store: Store, tmp_path: Path) -> None:
    before = tree(Path(store.location))
    report = fixed(store, tmp_path, "partial", {14: MIDDLE, 1: RIGHT}, 14)
    assert (report.changed, report.unchanged) == ({}, ["partial"])
    assert report.annotation is not None
    assert report.annotation.id == "annotation.v1"
    assert tree(Path(store.location)) == before


def test_bad_files_are_refused_and_the_good_ones_go_in(store: Store, tmp_path: Path) -> None:
    shifted = GEOMETRY.model_copy(update={"origin": (-39.0, 12.5, 300.0)})
    good, strange = drawn({14: RIGHT}), drawn({77: LEFT})
    files = {
        "bare": edited(tmp_path, "bare", good),
        "full": edited(tmp_path, "full", good, shifted),
        "held": edited(tmp_path, "held", strange),
        "nobody": edited(tmp_path, "nobody", good),
        "partial": tmp_path / "gone.nii.gz",
    }
    report = fix(store, [Fix(case, path, frozenset({14})) for case, path in files.items()])
    assert list(report.changed) == ["bare"]
    assert store.layer("annotation").id == "annotation.v2"
    reasons = {
        "full": "not on its scan's grid: origin",
        "held": "77",
        "nobody": "give --case",
        "partial": "exist",
    }
    assert report.faults.keys() == reasons.keys()
    for case, reason in reasons.items():
        assert reason in report.faults[case]
        assert ";" in report.faults[case]
    report = fix(store, [Fix("bare", files["bare"], frozenset())])
    assert "nothing states the classes" in report.faults["bare"]
    assert store.layer("annotation").id == "annotation.v2"


def test_rounding_by_an_editor_is_no_other_grid(store: Store, tmp_path: Path) -> None:
    direction = tuple(v + 1e-6 * (-1) ** n for n, v in enumerate(AXIAL))
    noisy = GEOMETRY.model_copy(update={"direction": direction, "origin": (-40.00002, 12.5, 300.00001)})
    path = edited(tmp_path, "partial", drawn({14: RIGHT}), noisy)
    report = fix(store, [Fix("partial", path, frozenset({14}))])
    assert report.faults == {}
    assert store.layer("annotation").entry("partial").geometry == GEOMETRY


def test_held_out_truth_may_be_corrected_and_says_so(store: Store, tmp_path: Path) -> None:
    report = fixed(store, tmp_path, "held", {1: RIGHT}, 1)
    assert any("it is held out" in line for line in report.changed["held"])


def test_voxels_that_a_fix_left_unknown_count_for_no_score(store: Store, tmp_path: Path) -> None:
    fixed(store, tmp_path, "held", {}, 1)
    scored = _score(Item("held"), location=store.location, layer="os2", reference="annotation")
    (liver,) = [row for row in scored.fields["rows"] if row["class"] == 1]
    assert (liver["dsc"], liver["nsd"]) == (1, 1), "os2 says liver only where nobody knows"


def test_organ_drawn_over_a_tumor_says_that_the_tumor_stays(store: Store, tmp_path: Path) -> None:
    report = fixed(store, tmp_path, "partial", {3: MIDDLE}, 3)
    assert (store.layer("annotation").labels("partial")[MIDDLE] == 14).all()
    assert any("48 voxels drawn as organ stay tumor" in line for line in report.changed["partial"])


def test_annotation_published_meanwhile_is_not_lost(store: Store, tmp_path: Path) -> None:
    base = store.layer("annotation")

    def write_slowly(*_: object) -> list[Item]:
        fixed(store, tmp_path, "bare", {14: LEFT}, 14)
        return []

    pins = annotations.next_pins(base, settings={"slow": True}, rules=())
    with pytest.raises(StoreError, match=r"annotation.v3 was published while .*; run the same command again"):
        annotations.publish_next(store, base, pins, new=["full"], write=write_slowly)
    assert [r.id for r in store.layers() if r.pins.name == "annotation"] == ["annotation.v1", "annotation.v3"]


def test_ingest_does_not_undo_a_fix(store: Store, tmp_path: Path) -> None:
    fixed(store, tmp_path, "partial", {14: RIGHT}, 14)

    def ingested_again(digest: str, classes: list[int]) -> Item:
        fields = {"labels": "p.nii.gz", "meanings": None, "labels_digest": digest, "annotated": classes}
        item = Item("partial", fields)
        layer = _annotate(store, [item], Resources(cpus=1, gpus=0, memory_gb=1))
        assert layer is not None
        assert layer.id == "annotation.v2"
        return item

    assert ingested_again("a" * 64, [3, 14]).error == ""
    assert "corrected by hand since (annotation.v2); give it by --fix" in ingested_again("b" * 64, [3]).error
    assert "corrected by hand" in ingested_again("a" * 64, [1, 3, 14]).error


def test_exported_labels_come_back_as_a_new_version(ingested: Road, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    shutil.copytree(ingested.store, store)
    layer = Store.open(store).layer("annotation")
    first, second = layer.cases()[:2]
    for case in (first, second):
        write_labels(out / f"{case}.nii.gz", Volume(layer.labels(case), layer.entry(case).geometry))
    whole = read_labels(out / f"{first}.nii.gz")
    box = np.where(whole.array == 1, 14, whole.array).astype(np.uint8)
    write_labels(out / f"{first}.nii.gz", Volume(box, whole.geometry))
    done = job("ingest", "--store", store, "--fix", out, "--classes", "liver,14", "--note", "JD").expect(0)
    assert "  phantom" in done.said
    assert "states 1 liver (absent" in done.said
    assert "2 files changed the annotation; annotation is annotation.v2" in done.said
    entry = Store.open(store).layer("annotation").entry(first)
    assert (entry.voxels["1"], entry.notes[-1].endswith("on annotation.v1; JD")) == (0, True)
    assert list(verify(Store.open(store))) == []


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ("--classes 1,14", "--annotated TABLE")),
        (("--classes", "liver", "--any-range"), ("--any-range goes with --images",)),
        (("--classes", "bladder"), ("'bladder' is no class of FLARE23",)),
        (("--classes", "1", "--from", "os9"), ("no layer os9",)),
    ],
)
def test_fix_with_wrong_options_is_refused(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    path, before = edited(tmp_path, "full", drawn({})), tree(Path(store.location))
    command = ["ingest.py", "--store", store.location, "--fix", str(path), *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(PwssegError) as refusal:
        runpy.run_path(str(JOBS / "ingest.py"))["main"]()
    assert all(part in str(refusal.value) for part in (*parts, ";"))
    assert tree(Path(store.location)) == before

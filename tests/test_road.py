"""The whole road on phantoms: files in, four rounds, label layers, scores and files out."""

import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from road import Road, answer, job, tree
from tensorboardX.proto import event_pb2

from pwsseg.arrays.fusion import Provenance
from pwsseg.pipelines.fuse import target_labels
from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.provenance import provenance_of
from pwsseg.pipelines.selection import _compare
from pwsseg.pipelines.sources import pin_sources
from pwsseg.rounds import load_round
from pwsseg.store import Store
from pwsseg.values import FLARE23, UNKNOWN

PARENTS = {
    "annotation.v1": set(),
    "os1-targets.v1": {"annotation.v1"},
    "os1.v1": {"annotation.v1"},
    "os2-targets.v1": {"annotation.v1", "os1.v1"},
    "os2.v1": {"annotation.v1", "os1.v1"},
    "ots1-targets.v1": {"annotation.v1", "os2.v1"},
    "ots1.v1": {"annotation.v1", "os2.v1"},
    "ots2-targets.v1": {"annotation.v1", "ots1.v1", "os1.v1", "os2.v1"},
    "ots2.v1": {"annotation.v1", "ots1.v1", "os1.v1", "os2.v1"},
}
ALL = {f"phantom_000{n}" for n in range(1, 8)}
FULL, VALIDATION, NOT_TUMOR = {"phantom_0001", "phantom_0002"}, {"phantom_0007"}, {"phantom_0003"}
CASES = {
    "annotation.v1": ALL - {"phantom_0006"},
    "os1-targets.v1": FULL,
    "os1.v1": ALL - FULL,
    "os2-targets.v1": ALL - VALIDATION,
    "os2.v1": ALL - FULL,
    "ots1-targets.v1": ALL - VALIDATION - NOT_TUMOR - {"phantom_0006"},
    "ots1.v1": ALL,
    "ots2-targets.v1": ALL - VALIDATION,
    "ots2.v1": ALL,
}


@pytest.fixture(scope="session")
def layers(road: Road) -> dict[str, Any]:
    return {layer["id"]: layer for layer in answer("layers", road.store)}


def test_every_round_publishes_its_targets_and_its_layer(layers: dict[str, Any]) -> None:
    assert {i for i, layer in layers.items() if layer["state"]["state"] == "published"} == set(PARENTS)


def scalars(board: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard would draw: value by step by name, read from the records as their format says."""
    found: dict[str, dict[int, float]] = {}
    for file in board.iterdir():
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])  # then a checksum, the event, another checksum
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            data = data[16 + length :]
    return found


@pytest.mark.parametrize("name", ["os1", "os2", "ots1", "ots2"])
def test_tensorboard_draws_the_curve_that_the_store_keeps(road: Road, name: str) -> None:
    (board,) = (road.store.parent / "boards").glob(f"{name}-*")
    curve = Store.open(road.store).model(name).curve()
    drawn = scalars(board)
    assert set(drawn) == {f"train/{term}" for term in curve[0]} - {"train/epoch"}
    for row in curve:
        assert drawn["train/loss"][int(row["epoch"])] == pytest.approx(row["loss"], rel=1e-6)


@pytest.mark.parametrize("name", PARENTS)
def test_layer_pins_its_parents_by_digest(layers: dict[str, Any], name: str) -> None:
    parents = layers[name]["pins"]["parents"]
    assert {p["id"] for p in parents} == PARENTS[name]
    assert all(p["digest"] == layers[p["id"]]["state"]["digest"] for p in parents)


@pytest.mark.parametrize("name", CASES)
def test_layer_has_the_cases_of_its_round(road: Road, name: str) -> None:
    assert set(Store.open(road.store).layer(name).cases()) == CASES[name]


def test_predictions_pin_the_model_that_made_them(road: Road, layers: dict[str, Any]) -> None:
    store = Store.open(road.store)
    for name in ("os1", "os2", "ots1", "ots2"):
        pin = layers[f"{name}.v1"]["pins"]["model"]
        assert pin == {"id": f"{name}.v1", "digest": store.model(name).digest}
    assert store.model("os2").record.pins.starts_from == store.model("os1").pin


@pytest.mark.parametrize(("before", "after"), [("os1", "os2"), ("os2", "ots1"), ("ots1", "ots2")])
def test_predictions_count_what_they_changed(road: Road, before: str, after: str) -> None:
    store = Store.open(road.store)
    since, layer = store.layer(before), store.layer(after)
    shares = layer.changes_since(since, FLARE23.organs)
    assert set(shares) == set(layer.cases()) & set(since.cases()) != set()
    assert layer.changes_since(layer, FLARE23.organs) == {}
    tumor_compared = FLARE23.tumor in since.record.pins.classes
    for row in layer.manifest():
        if row["case"] not in shares:
            continue
        first, second = since.labels(row["case"]), layer.labels(row["case"])
        compared = _compare(Item(row["case"]), before=since, after=layer)
        assert shares[row["case"]] == compared.fields["share"]
        for label in since.record.pins.classes:
            assert row[f"changed_{label}"] == ((first == label) != (second == label)).sum()
        assert (row.get("changed_14") is not None) == tumor_compared


def test_store_is_whole(road: Road) -> None:
    assert answer("verify", road.store)["errors"] == 0


def test_terminal_stays_free_of_noise(road: Road) -> None:
    told = r"  |os1: |os2: |ots1: |ots2: "
    strange = [line for line in road.said.splitlines() if not re.match(told, line)]
    assert strange == []


@pytest.mark.parametrize("name", ["os1", "os2", "ots1", "ots2"])
def test_targets_can_be_computed_again_from_their_parents(road: Road, name: str) -> None:
    store = Store.open(road.store)
    settings = load_round(name, "tiny", folder=road.settings)
    sources = pin_sources(store, settings)
    targets = store.layer(f"{name}-targets")
    annotated = set(sources.annotation.cases())
    for case in targets.cases():
        again = target_labels(
            sources.annotation.labels(case) if case in annotated else None,
            sources.pseudo.labels(case) if sources.pseudo and sources.is_fused(case) else None,
            settings=settings,
            annotated=sources.annotated[case],
            spacing=store.scan(case).geometry.spacing,
        )
        assert np.array_equal(again, targets.labels(case))
        sources_of_voxels = provenance_of(store, targets, case)
        assert np.array_equal(sources_of_voxels == Provenance.UNKNOWN, again == UNKNOWN)


@pytest.mark.parametrize("name", ["ots1", "ots2"])
def test_only_a_found_tumor_replaces_what_people_drew(road: Road, name: str) -> None:
    store = Store.open(road.store)
    annotation, targets = store.layer("annotation"), store.layer(f"{name}-targets")
    for case in set(targets.cases()) & set(annotation.cases()):
        drawn, learnt = annotation.labels(case), targets.labels(case)
        stated = annotation.entry(case).annotated_classes
        replaced = set(np.unique(learnt[(drawn > 0) & (learnt != drawn)]))
        assert replaced <= ({FLARE23.tumor} - set(stated))
        assert not np.isin(learnt[drawn == 0], stated).any()


def test_tumors_become_organs_before_os2(road: Road) -> None:
    store = Store.open(road.store)
    assert (store.layer("annotation").labels("phantom_0005") == FLARE23.tumor).any()
    assert FLARE23.tumor not in store.layer("os2-targets").labels("phantom_0005")
    assert set(np.unique(store.layer("os2-targets").labels("phantom_0005"))) <= {0, UNKNOWN, *FLARE23.organs}


def test_round_run_again_changes_nothing_and_says_so(road: Road) -> None:
    before = tree(road.store)
    said = road.round("ots2").expect(0).said
    digest = Store.open(road.store).layer("ots2").digest
    assert f"ots2: nothing to do, ots2.v1 has these pins already (digest {digest[:12]})" in said
    assert tree(road.store) == before


def test_layer_is_scored_against_the_annotation(road: Road, tmp_path: Path) -> None:
    store = shutil.copytree(road.store, tmp_path / "store")
    said = job("evaluate", "--store", store, "--layer", "os1", "ots2").expect(0).said
    assert "Against annotation.v1, validation cases" in said
    rows = Store.open(store).scores("ots2.v1", "annotation.v1")
    assert rows is not None
    assert {(r["case"], r["class"]) for r in rows} == {("phantom_0007", c) for c in FLARE23.ids}
    assert all(0 <= r["dsc"] <= 1 and 0 <= r["nsd"] <= 1 for r in rows)
    truth = Store.open(store).layer("annotation").labels("phantom_0007")
    assert all(r["voxels_reference"] == np.count_nonzero(truth == r["class"]) for r in rows)
    assert [r["class"] for r in rows if r["lesions"] is not None] == [FLARE23.tumor]


def test_labelled_files_lie_on_their_own_scans_grid(road: Road, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for case in ("phantom_0003", "phantom_0007"):
        shutil.copy(next(road.corpus.rglob(f"{case}_0000.nii.gz")), images)
    model = shutil.copytree(road.store / "models" / "ots2.v1", tmp_path / "model")
    done = job("predict", "--model", model, "--images", images, "--out", tmp_path / "out").expect(0)
    assert "2 of 2 scans labelled by ots2.v1" in done.said
    stored = Store.open(road.store).layer("ots2")
    for path in sorted(images.iterdir()):
        case = path.name.removesuffix("_0000.nii.gz")
        scan = SimpleITK.ReadImage(str(path))
        labels = SimpleITK.ReadImage(str(tmp_path / "out" / f"{case}.nii.gz"))
        for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(labels, fact)() == getattr(scan, fact)()
        assert np.array_equal(SimpleITK.GetArrayFromImage(labels), stored.labels(case))

"""Rounds with the paper's own networks in small width: coarse to fine, again, then tumors in the box."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from road import Road, answer, job, write_settings

from pwsseg.formats.nifti import read_labels
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.rounds import load_round
from pwsseg.store import Store
from pwsseg.values import FLARE23, orientation_of, oriented

ROUNDS = ("os1", "os2", "ots1")  # ots2 would find its box and its start as ots1 and os2 do


@pytest.fixture(scope="module")
def store(ingested: Road, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The corpus after the rounds at the scale tiny-cascade."""
    folder = tmp_path_factory.mktemp("cascade")
    store, settings = folder / "store", write_settings(folder / "settings")
    (settings / "rounds" / "ots2.toml").unlink()
    shutil.copytree(ingested.store, store)
    said = ("--round", "all", "--scale", "tiny-cascade", "--settings", settings, "--store", store)
    job("round", *said).expect(0)
    return Store.open(store)


def test_every_round_publishes_its_layer_and_every_organ_round_its_coarse_network(store: Store) -> None:
    for name in ROUNDS:
        assert set(store.layer(name).record.pins.classes) <= set(FLARE23.ids)
    trained = {record.id for record in store.models()}
    assert trained == {"os1-coarse.v1", "os2-coarse.v1", *(f"{name}.v1" for name in ROUNDS)}
    assert answer("verify", store.location)["errors"] == 0


@pytest.mark.parametrize(
    ("name", "coarse"),
    [("os1", "os1-coarse.v1"), ("os2", "os2-coarse.v1"), ("ots1", "os2-coarse.v1")],
)
def test_model_names_the_coarse_network_that_finds_its_box(store: Store, name: str, coarse: str) -> None:
    box = prediction_settings(store.model(name)).box
    assert box is not None
    assert (box.coarse, box.margin_mm) == (coarse, 20.0)
    assert box.digest == store.model(coarse).digest


def test_organ_networks_go_on_and_the_tumor_network_of_another_form_begins_anew(store: Store) -> None:
    names = ("os1", "os2", "os2-coarse", "ots1")
    starts = [store.model(name).record.pins.starts_from for name in names]
    assert [pin and pin.id for pin in starts] == [None, "os1.v1", "os1-coarse.v1", None]


@pytest.mark.parametrize("name", ["os1", "ots1"])
def test_prepared_scans_are_boxes_of_their_scans(store: Store, ingested: Road, name: str) -> None:
    settings = load_round(name, "tiny-cascade", folder=ingested.settings)
    box = prediction_settings(store.model(name)).box
    settings = settings.model_copy(update={"box": box})
    cache, targets = store.prepared(settings.recipe), store.layer(f"{name}-targets")
    for case in targets.cases():
        grid = oriented(store.scan(case).geometry)
        part = cache.geometry(case)
        window = grid.window_of(part)
        assert grid.cropped(window).reshaped(part.shape).same_grid(part)
        if settings.stage.resized:
            assert part.shape == settings.stage.patch
        labels = orientation_of(store.scan(case).geometry).apply(targets.labels(case)).copy()
        assert np.isin(labels, FLARE23.ids).any()
        labels[window.slices] = 0
        assert not np.isin(labels, FLARE23.ids).any()
        if name == "os1":  # what an untrained network labels may fill the scan; what people drew does not
            assert window.shape != grid.shape


def test_cascade_labels_a_file_as_it_labelled_the_stored_scan(
    store: Store, ingested: Road, tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    shutil.copy(next(ingested.corpus.rglob("phantom_0007_0000.nii.gz")), images)
    done = job("predict", "--store", store.location, "--model", "ots1", "--images", images, "--out", out)
    assert "1 of 1 scans labelled by ots1.v1" in done.expect(0).said
    labelled = read_labels(out / "phantom_0007.nii.gz")
    assert labelled.geometry.same_grid(store.scan("phantom_0007").geometry)
    assert np.array_equal(labelled.array, store.layer("ots1").labels("phantom_0007"))

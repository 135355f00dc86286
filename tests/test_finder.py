"""Boxes in the pipelines, without Ray: what a cascade predicts and learns from, on a scan that is turned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from road import write_settings
from safetensors.torch import save_file

from pwsseg.arrays.abdomen import Box
from pwsseg.arrays.augmentation import NO_AUGMENTATION
from pwsseg.networks.prediction import BoxSettings
from pwsseg.networks.supervision import build_network
from pwsseg.networks.transfer import HEAD
from pwsseg.pipelines.checkpoints import keep_model
from pwsseg.pipelines.feed import FeedPlan, PatchFeed
from pwsseg.pipelines.finder import AbdomenFinder
from pwsseg.pipelines.models import AnyModel, model_in_folder
from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.predict import Predictor
from pwsseg.pipelines.prepare import prepared_scan
from pwsseg.rounds import RoundSettings, load_round
from pwsseg.store import AnnotationPins, Layer, Model, ModelPins, Source, Store
from pwsseg.values import UNKNOWN, Geometry, InputError, Window, orientation_of

# the array's axes run down, back and right, so that it is turned along two of them
GRID = Geometry(
    shape=(30, 40, 50), spacing=(5.0, 4.0, 4.0), origin=(0, 0, 0), direction=(0, 0, -1, 0, 1, 0, -1, 0, 0)
)
BODY = (slice(2, 12), slice(4, 20), slice(6, 24))
ORGAN = (slice(4, 8), slice(8, 14), slice(10, 18))


def turned(part: tuple[slice, slice, slice], margin: tuple[int, int, int]) -> Window:
    """A part of the scan's own axes and a margin in voxels, on the grid seen the usual way."""
    marked = np.zeros(GRID.shape, np.uint8)
    z, y, x = (slice(max(0, p.start - m), p.stop + m) for p, m in zip(part, margin, strict=True))
    marked[z, y, x] = 1
    found = np.argwhere(orientation_of(GRID).apply(marked))
    low, high = found.min(0), found.max(0) + 1
    return Window((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))


def scan() -> NDArray[np.int16]:
    hu = np.full(GRID.shape, -1000, np.int16)
    hu[BODY], hu[ORGAN] = 0, 200
    return hu


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RoundSettings:
    folder = write_settings(tmp_path_factory.mktemp("settings") / "settings")
    return load_round("os1", "tiny-cascade", folder=folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    source = Source(format="nifti", name="a_0000.nii.gz", digest="5" * 64)
    store.write_scan("a", scan(), GRID, source=source, split="training")
    return store


def keep(store: Store, settings: RoundSettings, folder: Path, *, head: float) -> Model:
    """An untrained model with one weight in its head: above 0 everything is found, at 0 nothing."""
    network = build_network(settings.network, len(settings.channels), settings.science.supervision)
    for name, parameter in network.named_parameters():
        if HEAD in name.split("."):
            torch.nn.init.constant_(parameter, head)
    save_file(network.state_dict(), folder / "weights.safetensors")
    (folder / "curve.json").write_text(json.dumps([{"epoch": 0, "loss": 1.0}]))
    pins = ModelPins(name=settings.name, targets=(), starts_from=None, settings={}, cases=("a",), code="c")
    return keep_model(store, pins, folder, settings.prediction)


def box_by(model: Model, around: str = "os1-targets.v1") -> BoxSettings:
    return BoxSettings(coarse=model.id, digest=model.digest, margin_mm=20, around=around)


def coarse_model(store: Store, settings: RoundSettings, folder: Path, *, head: float) -> Model:
    assert settings.coarse is not None
    return keep(store, settings.coarse, folder, head=head)


def predicted(store: Store, settings: RoundSettings, folder: Path, *, coarse_head: float) -> Item:
    return labelled(boxed_model(store, settings, folder, coarse_head=coarse_head))


def boxed_model(store: Store, settings: RoundSettings, folder: Path, *, coarse_head: float) -> Model:
    coarse = coarse_model(store, settings, folder, head=coarse_head)
    return keep(store, settings.model_copy(update={"box": box_by(coarse)}), folder, head=1)


def labelled(model: AnyModel) -> Item:
    fields = {"geometry": GRID.model_dump(mode="json"), "seconds": {}}
    return Predictor(model=model)(Item("a", fields, scan()))


def test_cascade_without_a_finding_labels_the_box_of_the_body_and_notes_it(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    item = predicted(store, settings, tmp_path, coarse_head=0)
    assert item.fields["notes"] == ("the coarse network found nothing: the box is the body's",)
    outside = np.ones(GRID.shape, bool)
    # the margin is 4 voxels in z and 5 in plane; the body's box itself is up to 4 of the cube's voxels larger
    outside[0:21, 0:31, 0:37] = False
    assert item.volume.shape == GRID.shape
    assert not item.volume[outside].any()
    assert item.volume[BODY].any()


def test_cascade_with_a_finding_has_nothing_to_note(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    item = predicted(store, settings, tmp_path, coarse_head=1)
    assert item.fields["notes"] == ()
    assert item.volume.any()


def copied(store: Store, model: str, to: Path) -> Path:
    return Path(shutil.copytree(Path(store.location, "models", model), to))


def test_copied_model_with_its_coarse_one_beside_it_labels_as_the_store_does(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    model = boxed_model(store, settings, tmp_path, coarse_head=0)
    folder = copied(store, model.id, tmp_path / "copies" / "mine")
    copied(store, "os1-coarse.v1", tmp_path / "copies" / "os1-coarse.v1")
    ours, stored = labelled(model_in_folder(folder)), labelled(model)
    assert ours.fields["notes"] == stored.fields["notes"]
    assert np.array_equal(ours.volume, stored.volume)


def test_copied_model_without_its_coarse_one_is_refused(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    model = boxed_model(store, settings, tmp_path, coarse_head=0)
    folder = copied(store, model.id, tmp_path / "copies" / "mine")
    with pytest.raises(
        InputError, match=r"needs the model os1-coarse\.v1, .* there is no .*; copy .*--store"
    ):
        model_in_folder(folder)


def test_copied_model_beside_another_coarse_one_is_refused(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    model = boxed_model(store, settings, tmp_path, coarse_head=0)
    folder = copied(store, model.id, tmp_path / "copies" / "mine")
    other = Store.create(tmp_path / "other")
    coarse_model(other, settings, tmp_path, head=1)
    copied(other, "os1-coarse.v1", tmp_path / "copies" / "os1-coarse.v1")
    with pytest.raises(InputError, match=r"not the one that os1\.v1 was trained with; copy both"):
        model_in_folder(folder)


def test_box_around_labels_is_theirs_and_the_margin_and_unknown_voxels_are_none(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    finder = AbdomenFinder(coarse_model(store, settings, tmp_path, head=0), margin_mm=20)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[ORGAN] = 3
    labels[25, 30, 40] = UNKNOWN
    assert finder.around(labels, scan(), GRID) == Box(turned(ORGAN, (4, 5, 5)), ())


def test_labels_without_any_class_leave_the_box_to_the_network(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    finder = AbdomenFinder(coarse_model(store, settings, tmp_path, head=0), margin_mm=20)
    empty = np.zeros(GRID.shape, np.uint8)
    assert finder.around(empty, scan(), GRID) == finder.find(scan(), GRID)


def targets(store: Store, settings: RoundSettings) -> Layer:
    """The organ, as the labels of case `a`."""
    classes = settings.science.classes
    pins = AnnotationPins(
        kind="annotation", name="annotation", classes=classes, parents=(), model=None, settings={}, rules=(),
        code="c",
    )  # fmt: skip
    labels = np.zeros(GRID.shape, np.uint8)
    labels[ORGAN] = 3
    draft = store.draft(pins)
    draft.write("a", labels, annotated_classes=classes, seconds={})
    return draft.publish(["a"])


def test_patches_of_a_box_have_their_labels_where_the_organ_is(
    store: Store, settings: RoundSettings, tmp_path: Path
) -> None:
    layer = targets(store, settings)
    coarse = coarse_model(store, settings, tmp_path, head=0)
    box = box_by(coarse, around=layer.id)
    science = settings.science.model_copy(update={"augmentation": NO_AUGMENTATION})
    boxed = settings.model_copy(update={"box": box, "science": science})
    window = AbdomenFinder(coarse, margin_mm=20).around(layer.labels("a"), scan(), GRID).window
    volume, grid = prepared_scan(scan(), GRID, boxed.prediction, window=window)
    store.prepared(boxed.recipe).write("a", volume, grid, store.scan("a").digest)
    feed = PatchFeed(FeedPlan(store.location, layer.id, ("a",), ()), boxed, rank=0, workers=1)
    batch, _ = next(feed.epoch(0))
    image, labels = batch.images[0, 0], batch.labels[0]
    assert image.shape == labels.shape == (32, 32, 32)
    bright = image > 0.5 * (image.max() + image.median())
    shared = 2 * (bright & (labels == 3)).sum() / (bright.sum() + (labels == 3).sum())
    assert shared > 0.85

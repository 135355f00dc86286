"""Chosen scans cover what there is, the same ones each time, and only those are learnt from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from road import Road, round_job, write_settings

from pwsseg.arrays.representative import Features, farthest_points
from pwsseg.networks.coarse_unet import CoarseUNetShape
from pwsseg.networks.description import pooled_features
from pwsseg.networks.efficient_seg_net import EfficientSegNetShape
from pwsseg.networks.kinds import NetworkShape
from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.supervision import Supervision, build_network
from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.representatives import _Describer
from pwsseg.pipelines.sources import pin_sources
from pwsseg.rounds import load_round
from pwsseg.store import Store
from pwsseg.values import SettingsError, StoreError

NOTHING = np.zeros((0, 2))
LINE = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0], [10.0, 0.0]])
WORDS = "[representatives]\nkeep = 0.5\nencoder = 'os1.v1'\n\n[cases]"


def test_the_ends_of_a_line_come_after_what_is_nearest_to_its_middle() -> None:
    assert farthest_points(LINE, chosen=NOTHING, count=3) == [2, 4, 0]


def test_what_is_chosen_already_is_kept_away_from() -> None:
    assert farthest_points(LINE, chosen=LINE[4:], count=2) == [0, 2]
    assert farthest_points(LINE, chosen=LINE, count=1) == [0]  # all are there: the first of equals


def test_a_feature_of_large_numbers_does_not_outweigh_the_others() -> None:
    features = np.array([[0.0, 0.0], [1e6, 0.0], [0.0, 1.0], [1e6, 1.0]])
    assert farthest_points(features, chosen=features[:1], count=1) == [3]


@given(
    features=arrays(np.float64, (8, 3), elements=st.floats(-100, 100, width=16)),
    count=st.integers(0, 8),
)
def test_so_many_different_ones_and_fewer_are_the_beginning_of_more(features: Features, count: int) -> None:
    order = farthest_points(features, chosen=np.zeros((0, 3)), count=count)
    assert len(set(order)) == len(order) == count
    assert order == farthest_points(features, chosen=np.zeros((0, 3)), count=8)[:count]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="6 of 5 rows"):
        farthest_points(LINE, chosen=NOTHING, count=6)


@pytest.mark.parametrize(
    ("shape", "deepest"),
    [
        (CoarseUNetShape(kind="coarse-unet", widths=(2, 4, 6)), 6),
        (EfficientSegNetShape(kind="efficient-seg-net", widths=(2, 4, 8)), 8),
        (
            PlainConvUNetShape(
                kind="plain-conv-unet",
                widths=(4, 5),
                strides=((2, 2, 2),),
                stem=(1, 2, 2),
                convolutions=1,
                prior=0.02,
            ),
            5,
        ),
    ],
    ids=["coarse", "efficient", "plain"],
)
@pytest.mark.parametrize("supervision", ["plain", "cross"])
def test_every_network_describes_a_scan_by_its_deepest_level(
    shape: NetworkShape, deepest: int, supervision: Supervision
) -> None:
    network = build_network(shape, 3, supervision).eval()
    images = torch.rand(2, 1, 16, 32, 32)
    features = pooled_features(network, images)
    assert features.shape == (2, deepest)
    assert torch.equal(features, pooled_features(network, images))
    assert torch.allclose(features[:1], pooled_features(network, images[:1]), atol=1e-5)


def test_nobody_unlabelled_to_choose_among_is_refused(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "settings", ("[cases]", WORDS))
    with pytest.raises(SettingsError, match="no kind of case is unlabelled"):
        load_round("ots1", "tiny", folder=settings)


def test_round_learns_from_its_representatives_alone(road: Road, tmp_path: Path) -> None:
    store, settings = tmp_path / "store", write_settings(tmp_path / "settings", ("[cases]", WORDS))
    shutil.copytree(road.store, store)
    before = Store.open(store).model("os1")
    said = round_job("os1", settings, store).expect(0).said
    assert "2 of 4 unlabelled scans represent all, by os1.v1" in said
    layer, model = Store.open(store).layer("os1"), Store.open(store).model("os1")
    labelled = {"phantom_0001", "phantom_0002"}
    assert labelled < set(model.record.pins.cases)
    assert len(model.record.pins.cases) == 4
    assert layer.id == "os1.v2"
    assert "select:farthest-point:0.5" in layer.record.pins.rules
    assert layer.record.pins.settings["described_by"] == before.pin.model_dump()
    assert len(layer.cases()) == 5  # all are predicted


def test_an_untrained_encoder_describes_scans_where_there_is_no_model(ingested: Road, tmp_path: Path) -> None:
    words = WORDS.replace("'os1.v1'", "'untrained'")
    settings = write_settings(tmp_path / "settings", ("[cases]", words))
    sources = pin_sources(Store.open(ingested.store), load_round("os1", "tiny", folder=settings))
    assert sources.described_by is None
    describer = _Describer(settings=sources.settings, model=None)
    again = _Describer(settings=sources.settings, model=None)
    volume = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float16)
    features = describer(Item("a", volume=volume)).fields["features"]
    assert len(features) == sources.settings.network.widths[-1]
    assert again(Item("a", volume=volume)).fields["features"] == features


def test_model_that_describes_scans_must_be_there(ingested: Road, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "settings", ("[cases]", WORDS))
    with pytest.raises(StoreError, match=r"describes scans by model os1\.v1, which the store has not"):
        pin_sources(Store.open(ingested.store), load_round("os1", "tiny", folder=settings))

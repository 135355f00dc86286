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
from pwsseg.rounds import load_round
from pwsseg.store import Store
from pwsseg.values import SettingsError

NOTHING = np.zeros((0, 2))
LINE = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0], [10.0, 0.0]])
WORDS = "[representatives]\nkeep = 0.5\nencoder = 'untrained'\n\n[cases]"


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


def test_round_learns_from_its_representatives_alone(ingested: Road, tmp_path: Path) -> None:
    store, settings = tmp_path / "store", write_settings(tmp_path / "settings", ("[cases]", WORDS))
    shutil.copytree(ingested.store, store)
    said = round_job("os1", settings, store).expect(0).said
    assert "2 of 4 unlabelled scans represent all, by an untrained encoder" in said
    opened = Store.open(store)
    learnt = opened.model("os1").record.pins.cases
    labelled = {"phantom_0001", "phantom_0002"}
    assert labelled < set(learnt)
    assert len(learnt) == 4
    assert "select:farthest-point:0.5" in opened.layer("os1").record.pins.rules
    assert len(opened.layer("os1").cases()) == 5  # all are predicted
    again = round_job("os1", settings, store).expect(0).said
    assert "nothing to do" in again
    assert "describe" not in again

    # by a model of the store, which the next version's record then names
    by_model = [file for file in settings.glob("rounds/*.toml") if "untrained" in file.read_text()]
    for file in by_model:
        file.write_text(file.read_text().replace("'untrained'", "'os1'"))
    assert "represent all, by os1.v1" in round_job("os1", settings, store).expect(0).said
    pins = Store.open(store).layer("os1").record.pins
    assert pins.settings["described_by"] == opened.model("os1.v1").pin.model_dump()

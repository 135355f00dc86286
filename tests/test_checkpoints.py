"""What a stored model says about itself builds it again, in records older than kinds of network too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.supervision import build_network
from pwsseg.pipelines.checkpoints import keep_model, prediction_settings
from pwsseg.rounds import load_round
from pwsseg.store import Model, ModelPins, Store

JOBS = Path(__file__).resolve().parents[1] / "jobs"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A model of ots2 at the scale laptop, as a round leaves it, untrained."""
    settings = load_round("ots2", "laptop", folder=JOBS)
    network = build_network(settings.network, len(settings.channels), settings.science.supervision)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_file(network.state_dict(), checkpoint / "weights.safetensors")
    (checkpoint / "curve.json").write_text(json.dumps([{"epoch": 0, "loss": 1.0}]))
    pins = ModelPins(name="ots2", targets=(), starts_from=None, settings={}, cases=("a",), code="c")
    store = Store.create(tmp_path / "store")
    return keep_model(store, pins, checkpoint, settings.prediction)


def test_model_says_all_that_its_round_knew_about_predicting(model: Model) -> None:
    assert prediction_settings(model) == load_round("ots2", "laptop", folder=JOBS).prediction


def older(model: Model) -> Model:
    """The model with a record as it was written before networks had kinds."""
    said: dict[str, Any] = dict(model.trained.network)
    network = {k: v for k, v in said["network"].items() if k not in ("kind", "convolutions")}
    said["network"] = network | {"channels": len(model.trained.classes)}
    state = model.trained.model_copy(update={"network": said})
    return Model(model._objects, model.record.model_copy(update={"state": state}))


def test_record_older_than_kinds_of_network_builds_the_one_that_there_was(model: Model) -> None:
    settings = prediction_settings(older(model))
    assert settings == prediction_settings(model)
    assert isinstance(settings.network, PlainConvUNetShape)
    network = build_network(settings.network, len(model.trained.classes), settings.supervision)
    network.load_state_dict(load(model.weights_bytes()))
    assert network(torch.zeros(1, 1, 16, 32, 32)).shape == (1, 15, 16, 32, 32)

"""What a stored model says about itself builds it again, in records older than kinds of network too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import Checkpoint
from safetensors.torch import load, save_file

from pwsseg.networks.averaging import WeightAverage
from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.supervision import build_network
from pwsseg.pipelines.checkpoints import AVERAGE, WEIGHTS, keep_model, prediction_settings, resume
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


def test_average_of_the_weights_becomes_the_model_where_there_is_one(tmp_path: Path) -> None:
    network, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    settings = load_round("ots2", "laptop", folder=JOBS)
    save_file(network.state_dict(), tmp_path / WEIGHTS)
    save_file(other.state_dict(), tmp_path / AVERAGE)
    (tmp_path / "curve.json").write_text(json.dumps([{"epoch": 0, "loss": 1.0}]))
    pins = ModelPins(name="ots2", targets=(), starts_from=None, settings={}, cases=("a",), code="c")
    kept = keep_model(Store.create(tmp_path / "store"), pins, tmp_path, settings.prediction)
    assert torch.equal(load(kept.weights_bytes())["weight"], other.weight)


def test_resumed_training_goes_on_with_weights_and_their_average(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    average = WeightAverage(network, decay=0.5)
    optimiser = torch.optim.Adam(network.parameters())
    for _ in range(3):
        network.weight.data.add_(1.0)
        average.update(network)
    save_file(network.state_dict(), tmp_path / WEIGHTS)
    save_file(average.state_dict(), tmp_path / AVERAGE, {"steps": "3"})
    torch.save(optimiser.state_dict(), tmp_path / "optimiser.pt")
    (tmp_path / "curve.json").write_text(json.dumps([{"epoch": 0, "loss": 1.0}]))

    fresh = torch.nn.Linear(2, 2)
    resumed = WeightAverage(fresh, decay=0.5)
    curve = resume(
        fresh,
        torch.optim.Adam(fresh.parameters()),
        Checkpoint.from_directory(str(tmp_path)),
        average=resumed,
    )
    assert curve == [{"epoch": 0, "loss": 1.0}]
    for kept, before in ((average, network), (resumed, fresh)):
        before.weight.data.add_(1.0)
        kept.update(before)
    assert torch.equal(fresh.weight, network.weight)
    assert torch.equal(resumed.state_dict()["weight"], average.state_dict()["weight"])
    assert resumed.steps == average.steps == 4


def test_average_starts_as_the_weights_and_follows_them_slower_and_slower() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, decay=0.5)
    seen = []
    for weight in (2.0, 4.0, 8.0, 8.0):
        network.weight.data.fill_(weight)
        average.update(network)
        seen.append(float(average.state_dict()["weight"]))
    second = 2.0 + (4.0 - 2.0) * (1 - 2 / 11)  # decay (1 + t) / (10 + t) at t = 1
    third = second + (8.0 - second) * (1 - 3 / 12)
    fourth = third + (8.0 - third) * (1 - 4 / 13)
    assert seen == pytest.approx([2.0, second, third, fourth])


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

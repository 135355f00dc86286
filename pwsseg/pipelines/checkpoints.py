"""Weights on their way: into Ray's checkpoints, back after a fault, into the store, out of it again.

Weights are safetensors, the optimiser's state is read with `weights_only=True`: nothing that could execute
is loaded as data.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from pwsseg.networks.averaging import WeightAverage
from pwsseg.networks.losses import channels_of
from pwsseg.networks.prediction import PredictionSettings
from pwsseg.networks.transfer import carry_over
from pwsseg.pipelines.models import AnyModel
from pwsseg.store import Model, ModelPins, Store
from pwsseg.store.location import on_s3
from pwsseg.values import SettingsError

PREPROCESSING = {"spacing", "clip_hu"}
"""The keys of a model's record that say what its input must go through."""

WEIGHTS, AVERAGE = "weights.safetensors", "average.safetensors"
"""The files of a checkpoint that hold a network, and the running mean of its weights."""

Curve = list[dict[str, float]]


def shared_scratch(store: Store) -> Path:
    """The folder for checkpoints; SettingsError when Ray has several nodes that can't all see it."""
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    if nodes > 1 and on_s3(store.location) and not os.environ.get("PWSSEG_SCRATCH"):
        raise SettingsError(
            f"a training on {nodes} nodes keeps its checkpoints where all nodes see them, which this "
            f"machine's home folder is not; name a shared folder by the variable PWSSEG_SCRATCH"
        )
    return store.scratch()


def report_epoch(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    curve: Curve,
    rank: int,
    *,
    average: WeightAverage | None,
) -> None:
    """Once an epoch: worker 0 brings the checkpoint, the others only wait for it."""
    from ray import train

    if rank != 0:
        train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        save_file(bare(network).state_dict(), f"{folder}/{WEIGHTS}")
        if average is not None:
            save_file(average.state_dict(), f"{folder}/{AVERAGE}", {"steps": str(average.steps)})
        torch.save(optimiser.state_dict(), f"{folder}/optimiser.pt")
        Path(folder, "curve.json").write_text(json.dumps(curve), encoding="utf-8")
        train.report(curve[-1], checkpoint=train.Checkpoint.from_directory(folder))


def resume(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    checkpoint: Any,
    *,
    average: WeightAverage | None,
) -> Curve:
    """Load the last registered checkpoint, if there is one, and return the curve so far."""
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        bare(network).load_state_dict(load_file(f"{folder}/{WEIGHTS}"))
        if average is not None:
            with safe_open(f"{folder}/{AVERAGE}", framework="pt") as file:
                average.load(load_file(f"{folder}/{AVERAGE}"), steps=int(file.metadata()["steps"]))
        optimiser.load_state_dict(torch.load(f"{folder}/optimiser.pt", weights_only=True))
        curve: Curve = json.loads(Path(folder, "curve.json").read_text(encoding="utf-8"))
    return curve


def go_on_from(network: torch.nn.Module, model: Model, *, channels: tuple[int, ...]) -> None:
    """Start from a stored model; `channels` are the labels of the network's own output channels."""
    stored = load(model.weights_bytes())
    carry_over(network, stored, stored_channels=model.trained.classes, channels=channels)


def keep_model(store: Store, pins: ModelPins, checkpoint: Path, prediction: PredictionSettings) -> Model:
    """Put a checkpoint's weights and curve into the store, with all that predicting needs to know.

    The weights are their average where the training kept one.
    """
    averaged = checkpoint / AVERAGE
    said = prediction.model_dump(mode="json", exclude={"classes", "activation"})
    return store.write_model(
        pins,
        averaged if averaged.exists() else checkpoint / WEIGHTS,
        json.loads((checkpoint / "curve.json").read_text(encoding="utf-8")),
        network={k: v for k, v in said.items() if k not in PREPROCESSING},
        classes=channels_of(prediction.activation, prediction.classes),
        activation=prediction.activation,
        preprocessing={k: said[k] for k in PREPROCESSING},
    )


def prediction_settings(model: AnyModel) -> PredictionSettings:
    """What a stored model says about how it predicts: the inverse of `keep_model`."""
    state = model.trained
    return PredictionSettings.model_validate(
        {
            **state.network,
            "network": _shape(state.network["network"]),
            **state.preprocessing,
            "classes": tuple(c for c in state.classes if c),
            "activation": state.activation,
        }
    )


def _shape(said: Any) -> dict[str, Any]:
    """A record's network; records older than kinds of network all mean the one that there was."""
    if "kind" in said:
        return dict(said)
    first = {"kind": "plain-conv-unet", "convolutions": 2}
    return first | {k: v for k, v in said.items() if k != "channels"}


def bare(network: torch.nn.Module) -> torch.nn.Module:
    """The network itself, without DDP around it."""
    inner = getattr(network, "module", network)
    assert isinstance(inner, torch.nn.Module)
    return inner

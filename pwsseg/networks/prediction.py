"""How a trained network is used: what its record says beside its weights, so that a model explains itself."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from pwsseg.networks.kinds import NetworkShape
from pwsseg.networks.losses import Activation
from pwsseg.networks.sizes import Count, Millimetres, Shape
from pwsseg.networks.supervision import Supervision

Axis = Literal["z", "y", "x"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PostProcessing(_Settings):
    """What a prediction keeps of each class."""

    largest_component: bool
    floor_ml: dict[int, float]
    """Organs whose largest component is smaller are dropped, and every component of a tumor that is."""


class BoxSettings(_Settings):
    """Scans are cropped to the abdomen before anything else."""

    coarse: str
    """Id of the model that finds it."""
    digest: str
    """SHA-256 of that model's weights."""
    margin_mm: float
    around: str
    """Id of the layer whose labels, where it has any of a case, bound that case's box in training."""


class PredictionSettings(_Settings):
    """All that prediction needs to know, kept in the model's record: a model explains itself."""

    network: NetworkShape
    supervision: Supervision
    predict_with: Literal["f1", "mean"]
    activation: Activation
    classes: tuple[int, ...]
    spacing: tuple[Millimetres, Millimetres, Millimetres]
    clip_hu: tuple[float, float]
    box: BoxSettings | None = None
    patch: Shape
    resized: bool = False
    overlap: float
    windows_a_batch: Count
    compiled: bool = False
    mirrored: tuple[Axis, ...] = ()
    """Scores are the mean over a patch and its mirror images along each of these axes and several at once."""
    post_processing: PostProcessing

"""The size of networks and of their training: the tables `[os]`, `[os.coarse]` and `[ots]` of a scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pwsseg.networks.kinds import NetworkShape

Count = Annotated[int, Field(ge=1)]
Millimetres = Annotated[float, Field(gt=0)]
Shape = tuple[Count, Count, Count]


class StageSize(BaseModel):
    """The size of one network and its training (Tables 2 and 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkShape
    patch: Shape
    resized: bool = False
    """Whether scans, or boxes of scans, are resized to one patch rather than to the scale's spacing."""
    labelled_batch: Count
    """Labelled patches a step, over all workers."""
    unlabelled_batch: Count
    """Unlabelled patches a step, over all workers, where the round has unlabelled cases."""
    learning_rate: float = Field(gt=0)
    epochs: Count
    epochs_going_on: Count
    """Epochs of a round that goes on from another round's weights."""
    steps_an_epoch: Count


class CoarseSize(StageSize):
    """The coarse network of a cascade, which says where the stage's own network looks."""

    resized: Literal[True]
    margin_mm: float = Field(ge=0)
    """How far the box reaches beyond what the coarse network found."""


class OrganSize(StageSize):
    """The organ stage; with a coarse network it is a cascade, and both stages look into boxes."""

    coarse: CoarseSize | None = None

"""The coarse organ network: a small UNet that sees the whole scan, resized to a cube.

    image (batch, 1, z, y, x) -> logits (batch, channels, z, y, x), one sigmoid channel a class

Two residual units a level going down, one going up; max pooling between levels, skips are concatenated.
Any size of input will do whose sixteenth (for five levels) is more than one voxel.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from pwsseg.networks.residual import Residual, enlarge, initialise


class CoarseUNetShape(BaseModel):
    """What builds the network again, beside its channels; the paper's widths are 8, 16, 32, 64, 128."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["coarse-unet"]
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Channels of each level, finest first."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Edges (z, y, x) that are multiples of this are halved without rounding."""
        edge = 2 ** (len(self.widths) - 1)
        return edge, edge, edge


class CoarseUNet(nn.Module):
    """See the module's docstring; 2,676,552 parameters for 13 channels at the paper's widths."""

    def __init__(self, shape: CoarseUNetShape, channels: int) -> None:
        super().__init__()
        steps = pairwise((1, *shape.widths))
        self.encoder = nn.ModuleList(nn.Sequential(Residual(a, b), _unit(b)) for a, b in steps)
        self.decoder = nn.ModuleList(Residual(a + b, a) for a, b in pairwise(shape.widths))
        self.head = nn.Conv3d(shape.widths[0], channels, 1, bias=False)
        initialise(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, z, y, x) -> logits (batch, channels, z, y, x)."""
        features = self.encoder[0](image)
        skips = [features]
        for level in self.encoder[1:]:
            features = level(F.max_pool3d(features, 3, stride=2, padding=1))
            skips.append(features)
        for level, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            features = level(torch.cat([skip, enlarge(features, like=skip)], dim=1))
        logits: torch.Tensor = self.head(features)
        return logits


def _unit(channels: int) -> Residual:
    return Residual(channels, channels, projected=False)

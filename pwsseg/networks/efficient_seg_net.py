"""The fine organ network, EfficientSegNet: it sees the abdomen's box, resized to a cube.

    image (batch, 1, z, y, x) -> logits (batch, channels, z, y, x), one sigmoid channel a class

Residual blocks going down, a context block at the coarsest level, one anisotropic block a level going up;
skips are added. Any size of input will do whose sixteenth (for five levels) is two voxels or more an axis:
no size is baked into a weight.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from pwsseg.networks.residual import (
    CUBE,
    POINT,
    Kernel,
    Residual,
    conv_norm,
    conv_norm_relu,
    enlarge,
    initialise,
)

IN_PLANE: Kernel = (1, 3, 3)
THROUGH_PLANE: Kernel = (3, 1, 1)


class EfficientSegNetShape(BaseModel):
    """What builds the network again, beside its channels; the paper's widths are 16, 32, 64, 128, 256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["efficient-seg-net"]
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Channels of each level, finest first."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Edges (z, y, x) that are multiples of this are halved without rounding."""
        edge = 2 ** (len(self.widths) - 1)
        return edge, edge, edge


class EfficientSegNet(nn.Module):
    """See the module's docstring; 9,366,160 parameters for 13 channels at the paper's widths."""

    def __init__(self, shape: EfficientSegNetShape, channels: int) -> None:
        super().__init__()
        widths = shape.widths
        steps = enumerate(pairwise((1, *widths)))
        self.encoder = nn.ModuleList(_level(a, b, stride=2 if i else 1) for i, (a, b) in steps)
        self.context = Context(widths[-1])
        self.narrow = nn.ModuleList(conv_norm_relu(b, a, POINT) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(Residual(a, a, kernels=(IN_PLANE, THROUGH_PLANE)) for a in widths[:-1])
        self.head = nn.Conv3d(widths[0], channels, 1, bias=False)
        initialise(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, z, y, x) -> logits (batch, channels, z, y, x)."""
        features, skips = image, []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
        features = self.context(features)
        for i in reversed(range(len(self.decoder))):
            features = self.decoder[i](enlarge(self.narrow[i](features), like=skips[i]) + skips[i])
        logits: torch.Tensor = self.head(features)
        return logits


class Context(nn.Module):
    """Two views of the whole box on a quarter of the channels: a pyramid of averages, and strips.

    A strip is the average over the two other axes, so that an organ hears what lies beside it at any
    distance (strip pooling: Hou et al., CVPR 2020).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 4)
        self.reduce = conv_norm_relu(channels, inner, POINT)
        self.to_pyramid, self.to_strips = (conv_norm_relu(inner, inner, POINT) for _ in range(2))
        self.pyramid = nn.ModuleList(conv_norm(inner, inner, CUBE) for _ in PYRAMID)
        self.strips = nn.ModuleList(conv_norm(inner, inner, kernel) for kernel in STRIPS.values())
        self.from_pyramid, self.from_strips = (conv_norm_relu(inner, inner, CUBE) for _ in range(2))
        self.merge = conv_norm(2 * inner, inner, POINT)
        self.widen = nn.Sequential(
            conv_norm_relu(inner, inner, CUBE), nn.Conv3d(inner, channels, 1, bias=False)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channels, z, y, x) -> the same shape."""
        reduced = self.reduce(features)
        whole = self.to_pyramid(reduced)
        averages = [averaged(whole, factor) for factor in PYRAMID]
        pyramid = _heard(self.pyramid, averages, like=reduced)
        crossed = self.to_strips(reduced)
        strips = _heard(self.strips, [crossed.mean(axes, keepdim=True) for axes in STRIPS], like=reduced)
        views = [self.from_pyramid(F.relu(pyramid)), self.from_strips(F.relu(strips))]
        merged = F.relu(reduced + self.merge(torch.cat(views, dim=1)))
        widened: torch.Tensor = self.widen(merged)
        return widened


PYRAMID = (1, 2, 4)
"""How many voxels an axis are averaged into one."""

STRIPS: dict[tuple[int, int], Kernel] = {(3, 4): (3, 1, 1), (2, 4): (1, 3, 1), (2, 3): (1, 1, 3)}
"""The axes that are averaged away, and the kernel along the axis that is kept."""


def averaged(features: torch.Tensor, factor: int) -> torch.Tensor:
    """Averages over `factor` voxels an axis, but two voxels at least, for instance norm needs some.

    At the paper's size (12 voxels an axis) these are plain averages over blocks of factor^3.
    """
    z, y, x = (min(n, max(2, n // factor)) for n in features.shape[2:])
    return F.adaptive_avg_pool3d(features, (z, y, x))


def _heard(units: nn.ModuleList, views: list[torch.Tensor], *, like: torch.Tensor) -> torch.Tensor:
    """The sum of all views, each through its unit and enlarged to the same size."""
    enlarged = [enlarge(unit(view), like=like) for unit, view in zip(units, views, strict=True)]
    return torch.stack(enlarged).sum(0)


def _level(channels_in: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Residual(channels_in, channels, stride=stride), Residual(channels, channels, projected=False)
    )

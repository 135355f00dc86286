"""The plain-conv UNet (nnU-Net's): the organ-and-tumor network, and at small scales that of the organs too.

    image (batch, 1, z, y, x) -> logits (batch, channels, z, y, x)

Stages of 3^3 convolutions with instance norm and leaky ReLU; strided convolutions go down, transposed
ones up, skips are concatenated. `stem` is the stride of a first convolution that shortens the finest
stage, with a transposed convolution of the same stride at the end: on a CPU a stem of 2 trains about four
times faster a patch, on a GPU the paper's size uses 1.
"""

from __future__ import annotations

from itertools import pairwise
from math import log, prod
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

Count = Annotated[int, Field(ge=1)]
Stride = tuple[Count, Count, Count]


class PlainConvUNetShape(BaseModel):
    """What builds the network again, beside its channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["plain-conv-unet"]
    widths: tuple[Count, ...] = Field(min_length=1)
    """Channels of each stage, finest first."""
    strides: tuple[Stride, ...]
    """Stride (z, y, x) from each stage to the next: one fewer than widths."""
    stem: Stride
    convolutions: int = Field(ge=1)
    """In each stage, going down and going up."""
    prior: float = Field(gt=0, lt=1)
    """The probability that every output channel starts with: rare classes drown in the first steps without
    one (Lin et al., ICCV 2017, Section 3.3). 0.5 leaves the head's bias at zero."""

    @model_validator(mode="after")
    def _strides_lie_between_widths(self) -> Self:
        if len(self.strides) != len(self.widths) - 1:
            raise ValueError(f"{len(self.widths)} widths need {len(self.widths) - 1} strides")
        return self

    @property
    def divisor(self) -> Stride:
        """What the patch's edges (z, y, x) must be multiples of."""
        z, y, x = (prod(s) for s in zip(self.stem, *self.strides, strict=True))
        return z, y, x


class Convolution(nn.Conv3d):
    """3^3, zero-padded by one.

    On a CPU the zeros along z are put on beforehand: for the gradient of the weights oneDNN has a direct
    AVX2 kernel where z is not padded, and a detour where it is, which made a whole step a quarter slower.
    """

    def __init__(self, source: int, channels: int, stride: Stride | int) -> None:
        super().__init__(source, channels, 3, stride, padding=1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, source, z, y, x) -> (batch, channels, z / stride, ...)."""
        if features.is_cuda:
            return super().forward(features)
        padded = F.pad(features, (0, 0, 0, 0, 1, 1))
        return F.conv3d(padded, self.weight, None, self.stride, (0, 1, 1))


def _stage(channels_in: int, channels: int, *, stride: Stride, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(convolutions):
        source, step = (channels, 1) if i else (channels_in, stride)
        layers += [
            Convolution(source, channels, step),
            nn.InstanceNorm3d(channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class PlainConvUNet(nn.Module):
    """See the module's docstring. Kaiming-normal initialisation (Tables 2 and 3)."""

    def __init__(self, shape: PlainConvUNetShape, channels: int) -> None:
        super().__init__()
        widths, strides = shape.widths, shape.strides
        finest = widths[0]
        whole = shape.stem == (1, 1, 1)
        self.stem = nn.Identity() if whole else nn.Conv3d(1, finest, shape.stem, shape.stem)
        stages = zip(pairwise((1 if whole else finest, *widths)), ((1, 1, 1), *strides), strict=True)
        self.encoder = nn.ModuleList(
            _stage(a, b, stride=s, convolutions=shape.convolutions) for (a, b), s in stages
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(b, a, s, s) for (a, b), s in zip(pairwise(widths), strides, strict=True)
        )
        self.decoder = nn.ModuleList(
            _stage(2 * a, a, stride=(1, 1, 1), convolutions=shape.convolutions) for a in widths[:-1]
        )
        self.head: nn.Conv3d | nn.ConvTranspose3d = (
            nn.Conv3d(finest, channels, 1)
            if whole
            else nn.ConvTranspose3d(finest, channels, shape.stem, shape.stem)
        )
        self.apply(_initialise)
        if self.head.bias is not None:
            nn.init.constant_(self.head.bias, log(shape.prior / (1 - shape.prior)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 1, z, y, x) -> logits (batch, channels, z, y, x)."""
        features = self.stem(image)
        skips = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        for i in reversed(range(len(self.up))):
            features = self.decoder[i](torch.cat([self.up[i](features), skips[i]], dim=1))
        logits: torch.Tensor = self.head(features)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

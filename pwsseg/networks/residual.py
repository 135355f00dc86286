"""The units of both organ networks: convolutions without bias, instance norm without parameters, shortcuts.

Facts read in the code of FLARE21's winner (METHOD.md, Networks), on which the paper builds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

Kernel = tuple[int, int, int]

DROPOUT = 0.2
"""The share of channels that are dropped between norm and ReLU while training."""
CUBE: Kernel = (3, 3, 3)
POINT: Kernel = (1, 1, 1)


def conv_norm(channels_in: int, channels: int, kernel: Kernel, *, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (or halves it, rounding up), and instance norm."""
    z, y, x = (k // 2 for k in kernel)
    convolution = nn.Conv3d(channels_in, channels, kernel, stride, padding=(z, y, x), bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm3d(channels))


def conv_norm_relu(channels_in: int, channels: int, kernel: Kernel, *, stride: int = 1) -> nn.Sequential:
    """`conv_norm`, dropout of whole channels, ReLU."""
    norm = conv_norm(channels_in, channels, kernel, stride=stride)
    return nn.Sequential(*norm, nn.Dropout3d(DROPOUT), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions and a shortcut: a projection, or the input itself."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        *,
        kernels: tuple[Kernel, Kernel] = (CUBE, CUBE),
        stride: int = 1,
        projected: bool = True,
    ) -> None:
        super().__init__()
        first, second = kernels
        self.body = nn.Sequential(
            conv_norm_relu(channels_in, channels, first, stride=stride), conv_norm(channels, channels, second)
        )
        self.shortcut = conv_norm(channels_in, channels, POINT, stride=stride) if projected else nn.Identity()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channels_in, z, y, x) -> (batch, channels, z, y, x)."""
        return F.relu(self.body(features) + self.shortcut(features), inplace=True)


def enlarge(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Trilinear, corner voxels on corner voxels, to the size of `like`: twofold where sizes were halved."""
    return F.interpolate(features, size=like.shape[2:], mode="trilinear", align_corners=True)


def initialise(network: nn.Module) -> None:
    """Kaiming-normal weights (Tables 2 and 3)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

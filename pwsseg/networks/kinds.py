"""The kinds of network that settings and records can name.

    build(CoarseUNetShape(kind="coarse-unet", widths=(8, 16)), channels=13)

To add one: its shape with a `kind` of its own, its place in the union, its line in `build`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from pwsseg.networks.coarse_unet import CoarseUNet, CoarseUNetShape
from pwsseg.networks.efficient_seg_net import EfficientSegNet, EfficientSegNetShape
from pwsseg.networks.plain_conv_unet import PlainConvUNet, PlainConvUNetShape

NetworkShape = Annotated[
    PlainConvUNetShape | CoarseUNetShape | EfficientSegNetShape, Field(discriminator="kind")
]


def build(shape: NetworkShape, channels: int) -> nn.Module:
    """The network of this shape with so many output channels, freshly initialised."""
    match shape:
        case PlainConvUNetShape():
            return PlainConvUNet(shape, channels)
        case CoarseUNetShape():
            return CoarseUNet(shape, channels)
        case EfficientSegNetShape():
            return EfficientSegNet(shape, channels)

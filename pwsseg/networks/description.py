"""A scan in a few numbers: the features of a network's deepest encoder level, averaged over space."""

from __future__ import annotations

import torch
from torch import nn

from pwsseg.networks.supervision import Twins


@torch.inference_mode()
def pooled_features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(batch, 1, z, y, x) -> (batch, channels of the deepest level); of the first of two sub-networks."""
    one = network.f1 if isinstance(network, Twins) else network
    encoder = one.encoder
    assert isinstance(encoder, nn.ModuleList)
    seen: list[torch.Tensor] = []
    handle = encoder[-1].register_forward_hook(lambda _module, _given, features: seen.append(features))
    try:
        one(images)
    finally:
        handle.remove()
    return seen[0].float().mean(dim=(2, 3, 4))

"""Go on from a trained network: the same tensors, and a head that finds its classes again.

carry_over(network, stored, stored_channels=(1, ..., 13), channels=(0, 1, ..., 14))
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

HEAD = "head"
"""The name of every network's last layer, the only one that knows classes."""


def carry_over(
    network: nn.Module,
    stored: Mapping[str, torch.Tensor],
    *,
    stored_channels: tuple[int, ...],
    channels: tuple[int, ...],
) -> None:
    """Give a network the stored tensors of the same name and shape; others stay fresh.

    The head's channels are matched by their labels (0 is background). A background channel that the stored
    head lacks becomes constant 0: where sigmoids said "logit above 0", the softmax then says the same, so
    the first step begins with the stored network's own labels. A new class begins as in a fresh head, but
    without weights.

    A single network takes f1 of a cross-supervised model; f2 stays fresh where the model has none, since
    two equal sub-networks would have nothing to teach each other.
    """
    own = network.state_dict()
    for name, tensor in own.items():
        names = (name, name.removeprefix("f1."), f"f1.{name}")
        found = next((stored[n] for n in names if n in stored), None)
        if found is None:
            continue
        if HEAD in name.split(".") and stored_channels != channels:
            own[name] = _matched(found, tensor, stored_channels, channels)
        elif found.shape == tensor.shape:
            own[name] = found
    network.load_state_dict(own)


def _matched(
    stored: torch.Tensor, fresh: torch.Tensor, stored_channels: tuple[int, ...], channels: tuple[int, ...]
) -> torch.Tensor:
    """The head's weight (5-D, transposed: channels second) or bias (1-D), channel by channel."""
    transposed = fresh.dim() > 1 and fresh.shape[1] == len(channels)
    old, new = (t.transpose(0, 1) if transposed else t for t in (stored, fresh.clone()))
    for i, label in enumerate(channels):
        if label in stored_channels:
            new[i] = old[stored_channels.index(label)]
        elif label == 0 or fresh.dim() > 1:
            new[i] = 0
    return new.transpose(0, 1).contiguous() if transposed else new

"""What a network costs, counted on torch's meta device: shapes flow, nothing is computed or held.

cost_of(shape, channels=14, patch=(48, 192, 192), supervision="plain").flops
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from pwsseg.networks.kinds import NetworkShape
from pwsseg.networks.sizes import Shape
from pwsseg.networks.supervision import Supervision, build_network


class Cost(NamedTuple):
    """One patch through a network."""

    parameters: int
    flops: int
    """Of the forward pass: two for each multiplication with its addition."""
    kept_bytes: int
    """What the forward pass keeps for the backward pass, in float32."""
    weights_bytes: int
    """Of the parameters, in float32."""

    @property
    def training_flops(self) -> int:
        """Forward and backward: the gradients of activations and of weights cost as much again, each."""
        return 3 * self.flops

    @property
    def training_state_bytes(self) -> int:
        """Weights, their gradients and Adam's two moments."""
        return 4 * self.weights_bytes


def cost_of(shape: NetworkShape, *, channels: int, patch: Shape, supervision: Supervision) -> Cost:
    """The cost of one patch (z, y, x); of both sub-networks together under cross supervision."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        held.append(tensor)  # else the next tensor could get the same address
        return tensor

    held: list[torch.Tensor] = []
    with torch.device("meta"):
        network = build_network(shape, channels, supervision)
        patches = torch.empty(1, 1, *patch)
    counter: Any = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(patches)
    weights = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in network.parameters()}
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        flops=int(counter.get_total_flops()),
        kept_bytes=sum(size for address, size in kept.items() if address not in weights),
        weights_bytes=sum(weights.values()),
    )

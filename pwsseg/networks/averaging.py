"""A running mean of a network's weights over its training, which often predicts better than the last ones.

    average = WeightAverage(network, decay=0.999)
    average.update(network)                          # after every step
    average.state_dict()                             # weights as a network's own

The decay grows with the steps, min(decay, (1 + t) / (10 + t)), so that a short training isn't held at its
start.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class WeightAverage:
    """The exponential moving average of all floating-point weights; what else a network holds is copied."""

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self._decay = decay
        self._averaged = AveragedModel(network, multi_avg_fn=self._average)

    def update(self, network: nn.Module) -> None:
        """Take in the weights of one more step; the first ones as they are."""
        self._averaged.update_parameters(network)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average, under the network's own names."""
        return dict(self._averaged.module.state_dict())

    @property
    def steps(self) -> int:
        """How many steps it has taken in."""
        return int(self._averaged.n_averaged)

    def load(self, weights: dict[str, torch.Tensor], *, steps: int) -> None:
        """Go on from an average of so many steps."""
        self._averaged.module.load_state_dict(weights)
        self._averaged.n_averaged.fill_(steps)

    @torch.no_grad()
    def _average(
        self,
        averaged: tuple[torch.Tensor, ...] | list[torch.Tensor],
        current: tuple[torch.Tensor, ...] | list[torch.Tensor],
        steps: torch.Tensor | int,
    ) -> None:
        taken = int(steps)
        share = 1.0 - min(self._decay, (1 + taken) / (10 + taken))
        torch._foreach_lerp_(list(averaged), list(current), share)

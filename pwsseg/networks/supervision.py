"""How a step learns: plainly, or by cross supervision of two sub-networks (Eq. 3).

    C = C_s + C_u^u + C_u^l

Each sub-network learns from the annotation (C_s) and from the hard labels of the other, on unlabelled
(C_u^u) and on labelled images (C_u^l); no gradient passes through hard labels. All weights are 1; a
Gaussian ramp-up of both cross terms is an option.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import nn

from pwsseg.networks.kinds import NetworkShape, build
from pwsseg.networks.losses import Loss


class Batch(NamedTuple):
    """Patches of one step; labelled ones first."""

    images: torch.Tensor
    """(batch, 1, z, y, x) float32."""
    labels: torch.Tensor
    """(labelled, z, y, x) uint8."""
    known: torch.Tensor
    """(labelled, class) bool."""


Supervision = Literal["plain", "cross"]


class Twins(nn.Module):
    """Two sub-networks of one structure, initialised differently, under one forward (so one DDP step)."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.f1, self.f2 = build(), build()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of both for the same images."""
        return self.f1(images), self.f2(images)


def build_network(shape: NetworkShape, channels: int, supervision: Supervision) -> nn.Module:
    """One network, or two under cross supervision."""
    return Twins(lambda: build(shape, channels)) if supervision == "cross" else build(shape, channels)


Terms = dict[str, torch.Tensor]
"""The named terms of a step's loss; their sum is what is minimised."""


def supervised_terms(network: nn.Module, batch: Batch, loss: Loss) -> Terms:
    """One network, labelled patches only."""
    return {"supervised": loss(network(batch.images), batch.labels, batch.known)}


def cross_supervised_terms(
    twins: nn.Module,
    batch: Batch,
    loss: Loss,
    *,
    harden: Callable[[torch.Tensor], torch.Tensor],
    weight: float = 1.0,
) -> Terms:
    """Eq. 3's three terms for one step.

    Parameters
    ----------
    harden:
        Logits to hard labels, without gradient.
    weight:
        Of both cross terms; 1 in the paper.
    """
    logits = twins(batch.images)
    labelled = len(batch.labels)
    terms: Terms = {
        "supervised": sum_of(loss(p[:labelled], batch.labels, batch.known) for p in logits),
    }
    for name, part in (("cross_labelled", slice(labelled)), ("cross_unlabelled", slice(labelled, None))):
        p1, p2 = (p[part] for p in logits)
        if len(p1):
            everything = batch.known.new_ones(len(p1), batch.known.shape[1])
            terms[name] = weight * (loss(p1, harden(p2), everything) + loss(p2, harden(p1), everything))
    return terms


def sum_of(terms: object) -> torch.Tensor:
    """The sum of scalar tensors, as a tensor."""
    return torch.stack(list(terms)).sum()  # type: ignore[call-overload]


def ramp_up(progress: float) -> float:
    """Gaussian ramp-up exp(-5 (1 - t)^2) of the training's progress t in [0, 1]."""
    return math.exp(-5 * (1 - min(1.0, progress)) ** 2)

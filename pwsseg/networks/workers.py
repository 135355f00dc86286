"""Sums over all training workers, so that a loss over a batch doesn't depend on how many share it."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed


def over_workers(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Each part (any shape) summed over the workers of the running DDP training; as it is outside of one.

    A worker's gradient is the sum of all workers' gradients, which DDP's averaging makes that of the whole
    batch: every worker computes the loss of the whole batch, from its own share of the voxels.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return parts
    if distributed.get_world_size() == 1:
        return parts
    flat = torch.cat([part.float().reshape(-1) for part in parts])  # one message, not one a part
    total: torch.Tensor = _Summed.apply(flat)  # type: ignore[no-untyped-call]
    summed = torch.split(total, [part.numel() for part in parts])
    return tuple(one.view(part.shape) for one, part in zip(summed, parts, strict=True))


class _Summed(torch.autograd.Function):
    """All-reduce in both directions."""

    @staticmethod
    def forward(_context: Any, share: torch.Tensor) -> torch.Tensor:
        total = share.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total

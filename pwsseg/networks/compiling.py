"""A network's forward pass, compiled where that was asked for and works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from pwsseg.values import first_line

Backend = str | Callable[..., Any]


class Forward:
    """Calls a network; with `compiled`, by what torch.compile makes of it, for each shape of input once.

    Compiling takes half a minute a process, and may fail: for want of a compiler, or at an operation that it
    does not know. Then the network is called as it is from there on, and a warning is logged. An error that
    is the network's own is raised by that call.
    """

    def __init__(
        self, network: torch.nn.Module, *, compiled: bool = False, backend: Backend = "inductor"
    ) -> None:
        self._plain: Callable[[torch.Tensor], Any] = network
        self._fast = torch.compile(network, dynamic=False, backend=backend) if compiled else None

    def __call__(self, patches: torch.Tensor) -> Any:
        """What the network says to patches (batch, 1, z, y, x)."""
        if self._fast is not None:
            try:
                return self._fast(patches)
            except Exception as error:
                logging.getLogger("pwsseg").warning(
                    "the network can't be compiled and runs as it is: %s: %s",
                    type(error).__name__,
                    first_line(error),
                )
                self._fast = None
        return self._plain(patches)

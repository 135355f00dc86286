"""A network that is compiled says the same, and one that can't be goes on as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pwsseg.networks.coarse_unet import CoarseUNetShape
from pwsseg.networks.compiling import Forward
from pwsseg.networks.supervision import build_network

PATCHES = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """What an earlier test compiled."""
    torch._dynamo.reset()


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    shape = CoarseUNetShape(kind="coarse-unet", widths=(4, 4, 4, 4, 4))
    return build_network(shape, 4, "cross").eval()


class Backend:
    """Compiles to the graph as it is, and counts; or refuses."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses, self.asked = refuses, 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        self.asked += 1
        if self.refuses:
            raise RuntimeError("no compiler here\nand much more")
        return graph.forward


def test_compiled_network_says_the_same(network: torch.nn.Module) -> None:
    backend = Backend()
    fast = Forward(network, compiled=True, backend=backend)
    with torch.inference_mode():
        for _ in range(2):
            for said, wanted in zip(fast(PATCHES), network(PATCHES), strict=True):
                torch.testing.assert_close(said, wanted)
    assert backend.asked == 1


def test_network_that_cannot_be_compiled_goes_on_as_it_is(
    network: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend(refuses=True)
    fast = Forward(network, compiled=True, backend=backend)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            for said, wanted in zip(fast(PATCHES), network(PATCHES), strict=True):
                assert torch.equal(said, wanted)
    assert backend.asked == 1
    (record,) = caplog.records
    assert "the network can't be compiled and runs as it is" in record.getMessage()
    assert "much more" not in record.getMessage()


def test_what_the_network_itself_refuses_is_raised(network: torch.nn.Module) -> None:
    fast = Forward(network, compiled=True, backend=Backend())
    with pytest.raises(RuntimeError, match="channels"):
        fast(PATCHES.expand(2, 3, 32, 32, 32))


def test_nothing_is_compiled_unasked(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)
    with torch.inference_mode():
        first, _ = Forward(network)(PATCHES)
    assert first.shape == (2, 4, 32, 32, 32)

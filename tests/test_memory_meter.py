"""What is said of a case's memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from pwsseg.pipelines.memory_meter import MB, MemoryMeter, _resident

HELD_MB = 200


def test_memory_that_is_held_for_a_while_shows_in_peak_and_area() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    before = _resident() / MB
    began = time.perf_counter()
    with meter.measuring() as measures:
        held = np.ones(HELD_MB * MB, dtype=np.uint8)
        time.sleep(0.6)
        del held
        time.sleep(0.4)
    lasted = time.perf_counter() - began
    assert measures["process_peak_mb"] == pytest.approx(before + HELD_MB, rel=0.1)
    assert measures["process_area_mb_s"] < measures["process_peak_mb"] * lasted
    assert measures["process_area_mb_s"] > before * 0.5 + HELD_MB * 0.3


def test_a_case_that_fails_leaves_no_thread_behind() -> None:
    meter = MemoryMeter(torch.device("cpu"))
    with pytest.raises(ValueError, match="broken"), meter.measuring() as measures:
        raise ValueError("broken")
    assert measures["process_peak_mb"] > 0
    with meter.measuring() as again:
        pass
    assert again.keys() == measures.keys()

"""What a case costs in memory: the peak, and the area under the curve, as FLARE measures them (Table 6).

meter = MemoryMeter(device)
with meter.measuring() as measures:
    ...
measures == {"gpu_peak_mb": 4128.0, "gpu_area_mb_s": 339753.0}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import torch

from pwsseg.store.measures import GPU_AREA_MB_S, GPU_PEAK_MB, PROCESS_AREA_MB_S, PROCESS_PEAK_MB

SAMPLE_SECONDS = 0.1
MB = 1 << 20
"""As nvidia-smi counts, which FLARE reads."""


class MemoryMeter:
    """Looks at a device's memory ten times a second, in a thread, while something runs."""

    def __init__(self, device: torch.device) -> None:
        gpu = device.type == "cuda"
        self._names = (GPU_PEAK_MB, GPU_AREA_MB_S) if gpu else (PROCESS_PEAK_MB, PROCESS_AREA_MB_S)
        self._used: Callable[[], int] = (lambda: _used_on(device)) if gpu else _resident

    @contextmanager
    def measuring(self) -> Iterator[dict[str, float]]:
        """Filled when the block ends: MB at the peak, MB s below the curve."""
        measures: dict[str, float] = {}
        samples, stop = [self._used()], Event()

        def look() -> None:
            while not stop.wait(SAMPLE_SECONDS):
                samples.append(self._used())

        thread = Thread(target=look, name="memory-meter", daemon=True)
        thread.start()
        try:
            yield measures
        finally:
            stop.set()
            thread.join()
            samples.append(self._used())
            peak, area = self._names
            measures[peak] = max(samples) / MB
            measures[area] = sum(samples[:-1]) * SAMPLE_SECONDS / MB


def _used_on(device: torch.device) -> int:
    """Bytes in use on a GPU, by whomever."""
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

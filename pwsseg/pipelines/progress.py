"""What a person sees while a job runs: one line a stage, rewritten in a terminal, plain in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LOG_SECONDS = 30
"""A log gets a line this often at most."""


def say(line: str) -> None:
    """One line to the person who runs the job."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Progress:
    """Counts steps of a stage: `os1 · predict   12/20   0:31, about 0:20 left`."""

    def __init__(self, stage: str, total: int, *, unit: str = "scans", out: TextIO | None = None) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._out = out or sys.stdout
        self._rewrites = self._out.isatty()
        self._done = self._failed = 0
        self._note = ""
        self._began = self._shown = time.monotonic()
        if self._rewrites:
            self._show()

    def step(self, *, failed: bool = False, note: str = "") -> None:
        """One more is done."""
        self._done += 1
        self._failed += failed
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown > (0.2 if self._rewrites else LOG_SECONDS):
            self._shown = now
            self._show()

    def close(self) -> None:
        """Leave the finished line standing."""
        self._show(last=True)

    def _show(self, *, last: bool = False) -> None:
        seconds = time.monotonic() - self._began
        line = f"  {self._stage:<16} {self._done:>4}/{self._total} {self._unit:<7} {_clock(seconds)}"
        if not last and self._done:
            line += f", about {_clock(seconds / self._done * (self._total - self._done))} left"
        if self._note:
            line += f"   {self._note}"
        if self._failed:
            line += f"   {self._failed} failed"
        self._out.write(f"\r\x1b[K{line}" if self._rewrites else line)
        if last or not self._rewrites:
            self._out.write("\n")
        self._out.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

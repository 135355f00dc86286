"""What a person sees while a job runs: one line a stage, rewritten in a terminal, plain in a log.

A terminal shows how far a stage is, how long it still takes and what failed. Elsewhere a stage says one line
when it has ended, and one a minute before. `log_to` keeps one line of JSON a stage for programs.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pwsseg.values import SettingsError

LOG_SECONDS = 60
"""A log gets a line this often at most."""

_logs: list[Path] = []


def say(line: str) -> None:
    """One line to the person who runs the job."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def log_to(path: Path) -> None:
    """Append one line of JSON to `path` for every stage that ends in this process.

    Raises SettingsError when the file can't be written.
    """
    try:
        path.open("a").close()
    except OSError as error:
        raise SettingsError(
            f"--json-log {path} can't be written ({error.strerror}); give another file"
        ) from error
    _logs[:] = [path.absolute()]


class Progress:
    """Counts steps of a stage: `os1 · predict   12/20 scans   0:31, about 0:20 left   1 failed`.

    Where steps are of unlike size, `windows` is the sum of their sizes, by which the time left is reckoned.
    """

    def __init__(
        self, stage: str, total: int, *, unit: str = "scans", windows: int = 0, out: TextIO | None = None
    ) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._windows, self._windows_done = windows, 0
        self._out = out or sys.stdout
        self._rewrites = self._out.isatty()
        self._done = self._failed = self._steps = 0
        self._note = ""
        self._began = self._shown = time.monotonic()
        if self._rewrites:
            self._show()

    def step(
        self, *, failed: bool = False, note: str = "", windows: int = 0, reached: int | None = None
    ) -> None:
        """One more is done, of so many windows; `reached`: how many are done, where some are done again."""
        self._steps += 1
        self._done = self._done + 1 if reached is None else reached
        self._windows_done += windows
        self._failed += failed
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown > (0.2 if self._rewrites else LOG_SECONDS):
            self._shown = now
            self._show()

    def close(self) -> None:
        """Leave the finished line standing, and log the stage."""
        self._show(last=True)
        for path in _logs:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._ended()) + "\n")

    def _ended(self) -> dict[str, str | int | float]:
        return {
            "stage": self._stage,
            "unit": self._unit,
            "done": self._done,
            "failed": self._failed,
            "total": self._total,
            "seconds": round(time.monotonic() - self._began, 3),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _show(self, *, last: bool = False) -> None:
        seconds = time.monotonic() - self._began
        line = f"  {self._stage:<16} {self._done:>4}/{self._total} {self._unit:<7} "
        if self._windows:
            line += f"{self._windows_done:,}/{self._windows:,} windows   "
        line += _clock(seconds)
        if self._windows:
            done, left = self._windows_done, self._windows - self._windows_done
        else:
            done, left = self._steps, self._total - self._done
        if not last and done:
            line += f", about {_clock(seconds / done * left)} left"
        if self._note:
            line += f"   {self._note}"
        if self._failed:
            line += f"   {self._failed} failed"
        self._out.write(f"\r\x1b[K{line}" if self._rewrites else line)
        if last or not self._rewrites:
            self._out.write("\n")
        self._out.flush()


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours once there are some."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

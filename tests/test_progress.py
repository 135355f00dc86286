"""What a job says while it runs: in a terminal, in a log, and for programs."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pwsseg.pipelines import progress
from pwsseg.pipelines.job import add_store
from pwsseg.pipelines.progress import Progress
from pwsseg.values import SettingsError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr("pwsseg.pipelines.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A file that stages are logged to, asked for as every job's option."""
    parser = argparse.ArgumentParser()
    add_store(parser)
    path = tmp_path / "log.jsonl"
    parser.parse_args(["--json-log", str(path)])
    yield path
    progress._logs.clear()


def run(stage: Progress, clock: list[float]) -> None:
    for failed in (False, True, False):
        clock[0] += 10
        stage.step(failed=failed, note="loss 0.5")
    stage.close()


def test_a_log_gets_one_line_a_stage(clock: list[float]) -> None:
    out = io.StringIO()
    run(Progress("os1 · predict", 3, out=out), clock)
    assert out.getvalue() == "  os1 · predict       3/3 scans   0:30   loss 0.5   1 failed\n"


def test_a_log_of_a_long_stage_gets_a_line_now_and_then(clock: list[float]) -> None:
    out = io.StringIO()
    stage = Progress("os1 · train", 100, unit="epochs", out=out)
    for _ in range(50):
        clock[0] += 25
        stage.step()
    assert len(out.getvalue().splitlines()) == 50 * 25 // 75
    assert out.getvalue().splitlines()[-1].endswith("20:00, about 21:40 left")


def test_a_terminal_is_rewritten_with_the_time_left(clock: list[float]) -> None:
    out = Terminal()
    run(Progress("os1 · predict", 3, out=out), clock)
    shown = out.getvalue().split("\r\x1b[K")
    assert "0/3 scans   0:00" in shown[1]
    assert "1/3 scans   0:10, about 0:20 left" in shown[2]
    assert shown[-1].endswith("0:30   loss 0.5   1 failed\n")


def test_what_is_done_again_after_a_fault_is_not_counted_twice(clock: list[float]) -> None:
    out = Terminal()
    stage = Progress("os1 · train", 6, unit="epochs", out=out)
    for reached in (1, 2, 3, 3, 4):  # the third epoch's checkpoint was lost
        clock[0] += 10
        stage.step(reached=reached)
    assert "4/6 epochs  0:50, about 0:20 left" in out.getvalue()


def test_a_resumed_training_reckons_with_the_epochs_of_this_run(clock: list[float]) -> None:
    out = Terminal()
    stage = Progress("os1 · train", 100, unit="epochs", out=out)
    clock[0] += 10
    stage.step(reached=91)
    assert "91/100 epochs  0:10, about 1:30 left" in out.getvalue()


def test_time_left_is_reckoned_by_windows_where_scans_are_of_unlike_size(clock: list[float]) -> None:
    out = Terminal()
    stage = Progress("os1 · predict", 3, windows=1000, out=out)
    for windows in (600, 300, 100):
        clock[0] += windows / 10
        stage.step(windows=windows)
    stage.close()
    shown = out.getvalue().split("\r\x1b[K")
    assert "1/3 scans   600/1,000 windows   1:00, about 0:40 left" in shown[2]
    assert "2/3 scans   900/1,000 windows   1:30, about 0:10 left" in shown[3]
    assert shown[-1].endswith("3/3 scans   1,000/1,000 windows   1:40\n")


def test_json_log_gets_one_line_a_stage(clock: list[float], log: Path) -> None:
    for name in ("os1 · prepare", "os1 · predict"):
        run(Progress(name, 4, out=io.StringIO()), clock)
    first, second = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    assert second["stage"] == "os1 · predict"
    ended = first.pop("ended")
    assert ended.endswith("+00:00")
    assert first == {
        "stage": "os1 · prepare",
        "unit": "scans",
        "done": 3,
        "failed": 1,
        "total": 4,
        "seconds": 30.0,
    }


def test_json_log_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_store(parser)
    with pytest.raises(SettingsError, match="can't be written"):
        parser.parse_args(["--json-log", str(tmp_path / "nowhere" / "log.jsonl")])

"""What the tests of faults share: jobs that are watched and disturbed while they run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from road import PATIENCE_S, REPOSITORY, Done, clean_environment, command, end_session, registered_curve

from pwsseg.store import Store

EPOCHS = 6
TRAINS, PREDICTS = "RayTrainWorker", "ray::MapWorker(MapBatches(_OnDevice))"
"""What Ray calls the processes that train, and those that keep a network to predict with."""


@dataclass(frozen=True)
class Job:
    """A job that runs in a session of its own, and its log."""

    driver: subprocess.Popen[bytes]
    log: Path

    def wait_until(self, there: Callable[[], bool]) -> None:
        """Wait for a moment that comes before the job's end."""
        until = time.monotonic() + PATIENCE_S
        while not there():
            assert self.driver.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.01)

    def kill(self, title: str) -> int:
        """SIGKILL one of the job's own Ray processes of this title, once there is one; its id."""
        self.wait_until(lambda: bool(titled(title, session=self.driver.pid)))
        (first, *_) = titled(title, session=self.driver.pid)
        os.kill(first, signal.SIGKILL)
        return first

    def done(self) -> Done:
        """How it ended."""
        code = self.driver.wait(PATIENCE_S)
        return Done(code, self.log.read_text())


@contextmanager
def running(arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[Job]:
    """A job while it runs; in the end nothing of its session is left."""
    with log.open("wb") as out:
        driver = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env=clean_environment() | (environment or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Job(driver, log)
    finally:
        driver.kill()
        driver.wait()
        end_session(driver.pid)


def titled(title: str, *, session: int) -> list[int]:
    """The processes of a session that say they are Ray's and hold `title` in their name."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                name = (process / "cmdline").read_bytes().decode(errors="replace")
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if name.startswith("ray::") and title in name and int(fields[3]) == session:
                found.append(int(process.name))
    return sorted(found)


@contextmanager
def held(title: str, *, session: int) -> Iterator[None]:
    """Meanwhile the processes that `titled` finds now stand still."""
    there = titled(title, session=session)
    for process in there:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in there:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def os1(settings: Path, store: Path, *options: object) -> list[str]:
    begin = ("--round", "os1", "--scale", "tiny", "--settings", settings)
    return command("round", *begin, "--store", store, *options)


def commits(store: Path) -> int:
    return len(list(store.glob("layers/os1.v1/*/zarr.json")))


def epochs(store: Path) -> int:
    """How many epochs the training under way would not lose: Ray has registered their checkpoint."""
    return len(registered_curve(store / "runs"))


def same_layer(store: Path, undisturbed: Path) -> None:
    """Model and layer os1 are those of the undisturbed run, to the last voxel."""
    there, wanted = Store.open(store), Store.open(undisturbed)
    assert there.model("os1").digest == wanted.model("os1").digest
    ours, theirs = there.layer("os1"), wanted.layer("os1")
    assert ours.digest == theirs.digest
    assert [ours.entry(c).digest for c in ours.cases()] == [theirs.entry(c).digest for c in theirs.cases()]

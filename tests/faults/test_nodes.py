"""A cluster of several nodes: a round survives losing nodes and gaining others."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
from road import REPOSITORY, Road, clean_environment, end_session, registered_curve, write_settings

from faults.disturbing import (
    EPOCHS,
    PREDICTS,
    TRAINS,
    commits,
    epochs,
    held,
    os1,
    running,
    same_layer,
    titled,
)
from pwsseg.pipelines.train import GROWTH_S
from pwsseg.store import Store


class Nodes:
    """A ray.cluster_utils.Cluster in a process of its own (cluster_host.py)."""

    def __init__(self, folder: Path, beside_head: int, gpus: int = 0) -> None:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        self.host = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cluster_host.py")), str(beside_head), str(gpus)],
            cwd=REPOSITORY,
            env=clean_environment() | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.environment["RAY_ADDRESS"] = self._answer()

    def add(self) -> None:
        """A node more."""
        self._ask("add")

    def kill(self, title: str = "") -> None:
        """The newest node beside the head (that has a process of this title) is gone with all on it."""
        self._ask(" ".join(["kill", *(self.at_work(title) if title else ())]))

    def at_work(self, title: str) -> set[str]:
        """The raylets of the nodes that have a process of this title: its parents."""
        raylets = set()
        for process in titled(title, session=self.host.pid):
            with suppress(OSError):
                fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
                raylets.add(fields[1])
        return raylets

    def held(self, title: str) -> AbstractContextManager[None]:
        """Meanwhile the processes of this title that there are stand still."""
        return held(title, session=self.host.pid)

    def lose(self) -> None:
        """The head and all other nodes are gone at once."""
        end_session(self.host.pid)

    def end(self) -> None:
        """All nodes, in order."""
        assert self.host.stdin is not None
        with suppress(BrokenPipeError):
            self.host.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.host.wait(20)
        self.host.kill()
        end_session(self.host.pid)

    def _ask(self, what: str) -> None:
        assert self.host.stdin is not None
        self.host.stdin.write(f"{what}\n")
        self.host.stdin.flush()
        assert (said := self._answer()) == what, said

    def _answer(self) -> str:
        assert self.host.stdout is not None
        return self.host.stdout.readline().strip()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A head and two nodes, of one CPU each."""
    started = Nodes(tmp_path, beside_head=2)
    try:
        yield started
    finally:
        started.end()


def test_round_loses_and_gains_nodes_and_publishes_the_same(
    ingested: Road, settings: Path, undisturbed: Path, nodes: Nodes, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    with running(os1(settings, store), tmp_path / "log", nodes.environment) as job:
        job.wait_until(lambda: epochs(store) >= 2)
        assert len(nodes.at_work(TRAINS)) == 2
        nodes.kill(TRAINS)
        nodes.add()
        job.wait_until(lambda: bool(nodes.at_work(PREDICTS)))
        with nodes.held(PREDICTS):  # a second may come much later, on a machine that has no core left
            job.wait_until(lambda: len(nodes.at_work(PREDICTS)) == 2)
        job.wait_until(lambda: commits(store) >= 1)
        nodes.kill(PREDICTS)
        assert commits(store) < 5
        nodes.add()
        said = job.done().expect(0).said
    assert "resuming" not in said
    same_layer(store, undisturbed)


def test_nodes_with_gpus_publish_the_same(
    settings: Path, undisturbed: Path, trained: Path, tmp_path: Path
) -> None:
    """As far as Ray knows: to what asks for a GPU it says other things than to what does not."""
    nodes = Nodes(tmp_path, beside_head=1, gpus=1)
    try:
        with running(os1(settings, trained), tmp_path / "log", nodes.environment) as job:
            job.done().expect(0)
    finally:
        nodes.end()
    same_layer(trained, undisturbed)


def test_head_is_lost_and_on_another_cluster_the_same_command_publishes_the_same(
    ingested: Road, settings: Path, undisturbed: Path, nodes: Nodes, tmp_path: Path
) -> None:
    store, after = tmp_path / "store", tmp_path / "after"
    shutil.copytree(ingested.store, store)
    with running(os1(settings, store), tmp_path / "log", nodes.environment) as job:
        job.wait_until(lambda: epochs(store) >= 2)
        nodes.lose()
        lost = job.done()
    assert lost.code != 0
    assert "Traceback" not in lost.said
    after.mkdir()
    another = Nodes(after, beside_head=1)
    try:
        with running(os1(settings, store), tmp_path / "second", another.environment) as job:
            said = job.done().expect(0).said
    finally:
        another.end()
    assert "resumed after epoch" in said
    same_layer(store, undisturbed)


def test_training_goes_on_with_fewer_workers_on_the_node_that_is_left(
    ingested: Road, undisturbed: Path, nodes: Nodes, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    settings = write_settings(
        tmp_path / "settings",
        ("epochs = 1\n", f"epochs = {EPOCHS}\n"),
        ("training_workers = 2", "training_workers = 2\nleast_training_workers = 1"),
    )
    with running(os1(settings, store), tmp_path / "log", nodes.environment) as job:
        job.wait_until(lambda: epochs(store) >= 2)
        with nodes.held(TRAINS):  # no epoch ends between the two deaths
            nodes.kill()
            nodes.kill()
        said = job.done().expect(0).said
    assert f"{EPOCHS} epochs on 1 to 2 workers" in said
    curve, wanted = (Store.open(place).model("os1").curve() for place in (store, undisturbed))
    assert [row["workers"] for row in curve[:2]] == [2, 2]
    assert curve[-1]["workers"] == 1
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in wanted], rel=1e-3)


def grown_slowly(nodes: Nodes) -> bool:
    """Whether two nodes train; meanwhile a tenth of the pace, or the training is over before Ray looks."""
    with nodes.held(TRAINS):
        time.sleep(1)
    time.sleep(0.1)
    return len(nodes.at_work(TRAINS)) == 2


def test_training_grows_again_when_a_node_joins(ingested: Road, nodes: Nodes, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    settings = write_settings(
        tmp_path / "settings",
        ("epochs = 1\n", "epochs = 24\n"),
        ("training_workers = 2", "training_workers = 2\nleast_training_workers = 1"),
    )
    with running(os1(settings, store), tmp_path / "log", nodes.environment) as job:
        job.wait_until(lambda: epochs(store) >= 1)
        with nodes.held(TRAINS):
            nodes.kill()
            nodes.kill()
        job.wait_until(lambda: 1 in (row["workers"] for row in registered_curve(store / "runs")))
        nodes.add()
        with nodes.held(TRAINS):
            time.sleep(GROWTH_S)
        job.wait_until(lambda: grown_slowly(nodes))
        said = job.done().expect(0).said
    assert "24 epochs on 1 to 2 workers" in said
    curve = Store.open(store).model("os1").curve()
    assert [row["epoch"] for row in curve] == list(range(24))
    workers = [row["workers"] for row in curve]
    assert (workers[0], min(workers), workers[-1]) == (2, 1, 2)

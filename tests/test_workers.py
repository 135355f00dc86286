"""What is refused on a cluster, and that a worker's own sentence reaches the person who runs the job."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest
from ray.train import WorkerGroupError

from pwsseg.pipelines.cluster import check_code, cluster
from pwsseg.pipelines.over_cases import Item, _Guarded, _items, _table
from pwsseg.pipelines.train import _fitted
from pwsseg.store.digests import code_digest
from pwsseg.values import PwssegError

OTHER = "0" * 64


class FailingTrainer:
    """A trainer whose workers failed, each with its own exception."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = dict(enumerate(failures))

    def fit(self) -> NoReturn:
        raise WorkerGroupError("all that Ray knows", self._failures)


def test_cluster_that_nobody_started_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # but it does not listen
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with (
            pytest.raises(PwssegError, match=f"RAY_ADDRESS={address} can't be joined .*refused.*; start it"),
            cluster(),
        ):
            pytest.fail("joined")


def test_worker_with_the_code_of_its_job_computes() -> None:
    check_code(code_digest())
    guarded = _Guarded(lambda item: Item(item.case, {"done": True}), {}, code_digest())
    (done,) = _items(guarded(_table([Item("case")])))
    assert (done.error, done.fields) == ("", {"done": True})


def test_worker_with_other_code_than_its_job_computes_nothing() -> None:
    def never(item: Item) -> Item:
        raise AssertionError("other code computed")

    (done,) = _items(_Guarded(never, {}, OTHER)(_table([Item("case")])))
    assert f"other code ({code_digest()[:12]}) than its job (000000000000)" in done.error


def test_failed_training_says_what_its_worker_said() -> None:
    trainer = FailingTrainer(RuntimeError("connection closed by peer"), PwssegError("the loss is nan; look"))
    with pytest.raises(PwssegError, match="the loss is nan"):
        _fitted(trainer)


def test_training_that_failed_otherwise_keeps_rays_account() -> None:
    with pytest.raises(WorkerGroupError, match="all that Ray knows"):
        _fitted(FailingTrainer(RuntimeError("out of memory")))

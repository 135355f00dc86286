"""The one place where Ray is started or joined.

Inside `ray job submit` (or with RAY_ADDRESS set) the job joins that cluster; otherwise a small, quiet local
Ray is started for this process alone and stopped with it.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pwsseg.store.digests import code_digest
from pwsseg.values import PwssegError, first_line

OBJECT_STORE_BYTES = 1_500_000_000
"""Holds four rows of a 512 x 512 x 600 scan as float16, of which a pipeline keeps a few in flight."""


class Resources(NamedTuple):
    """What the cluster has for a pipeline."""

    cpus: int
    gpus: int
    memory_gb: float
    nodes: int = 1
    """Machines that have CPUs."""

    @property
    def devices(self) -> int:
        """Actors that run a network: one a GPU, else one a CPU."""
        return self.gpus or self.cpus

    @property
    def device_options(self) -> dict[str, float]:
        """What such an actor asks Ray for: together they leave as many CPUs free as there are nodes.

        So some node has a whole one, however the actors lie; a whole one is what reading and writing ask for.
        """
        if self.gpus:
            return {"num_gpus": 1, "num_cpus": 0}
        return {"num_cpus": 100 * (self.cpus - self.nodes) // self.cpus / 100}


@contextmanager
def cluster() -> Iterator[Resources]:
    """Join the job's cluster or start a local one; a Ray that this process already has is used as it is."""
    _set_environment()
    import ray  # after the environment: Ray reads it when it is imported

    mine = not ray.is_initialized()
    if mine:
        _join() if os.environ.get("RAY_ADDRESS") else _start_local()
        if threading.current_thread() is threading.main_thread():  # Ray's handler aborts a call that waits
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    _configure_data()
    try:
        yield _resources()
    finally:
        if mine:
            ray.shutdown()


def in_copied_working_dir() -> bool:
    """Whether this process runs in the copy of a folder that `ray job submit --working-dir` made."""
    return "runtime_resources" in Path.cwd().resolve().parts


def check_code(job: str) -> None:
    """Refuse, in a worker, to compute for a job whose `code_digest` is another: its records would be wrong.

    Raises
    ------
    PwssegError
        Naming both digests.
    """
    if (own := code_digest()) != job:
        raise PwssegError(
            f"this worker runs other code ({own[:12]}) than its job ({job[:12]}): the source was edited "
            f"meanwhile, or a node has another version; bring all to one version and run the job again"
        )


def _join() -> None:
    import ray

    address = os.environ["RAY_ADDRESS"]
    with _starting(
        f"the Ray cluster at RAY_ADDRESS={address} can't be joined",
        remedy="start it and give its token (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH), or unset RAY_ADDRESS",
    ):
        _knock(address)
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)


def _knock(address: str) -> None:
    """Raise OSError when nothing listens at host:port, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


WARM = {"idle_worker_killing_time_threshold_ms": 60_000}
"""Processes wait a minute for the next stage, not a second: importing torch anew takes each of them seconds.
Four tiny rounds took 74 s so, 92 s without."""


def _start_local() -> None:
    import ray

    with _starting(
        "Ray can't be started on this machine",
        remedy="wait until it is less busy or free some memory, then run the same command again",
    ):
        cpus = len(os.sched_getaffinity(0))
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # no one takes this machine away
        ray.init(
            address="local",
            num_cpus=cpus,
            _system_config=WARM | {"num_workers_soft_limit": 3 * cpus},
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


@contextmanager
def _starting(found: str, *, remedy: str) -> Iterator[None]:
    """Keep the notes that Ray's C++ side writes, and say what Ray raises in the form of our errors."""
    try:
        with _silent_stderr():
            yield
    except Exception as error:
        raise PwssegError(f"{found} ({first_line(error)}); {remedy}") from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing reaches stderr, from C++ either; failures come as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _set_environment() -> None:
    """Ray's hints would drown our progress; errors still come.

    A local Ray gets a token of its own: left alone, Ray writes one that others can read into the home folder.
    """
    if not os.environ.get("RAY_ADDRESS") and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")  # its poll: report() waits for it
    os.environ.setdefault("RAY_task_oom_retries", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault(
        "RAY_BACKEND_LOG_LEVEL", "fatal"
    )  # its hints on restarts; errors come as exceptions
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")


def _configure_data() -> None:
    import ray.data  # before its loggers' level is set: the import resets it

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a scan that kills its process loses its row; the driver counts
    for name in ("ray.train", "ray.util.state"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a case whose process dies would be a traceback


def _resources() -> Resources:
    import ray

    total = ray.cluster_resources()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return Resources(
        cpus=int(total.get("CPU", 1)),
        gpus=int(total.get("GPU", 0)),
        memory_gb=float(total.get("memory", 0)) / 1e9,
        nodes=max(1, len(nodes)),
    )

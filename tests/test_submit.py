"""Jobs as people submit them to a cluster: its exit codes, what comes back, and where the code comes from."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest
from road import PATIENCE_S, REPOSITORY, Done, Road, clean_environment, end_session, ended

from pwsseg.store import Store
from pwsseg.store.digests import code_digest

BIN = Path(sys.executable).parent
RAYS = re.compile(r"\d{4}-\d\d-\d\d ")


@dataclass(frozen=True)
class Head:
    """A cluster of one node that was started in the repository."""

    address: str
    environment: dict[str, str]
    folder: Path
    metrics: int
    """The port of its metrics endpoint."""

    def submit(self, *options: object, how: tuple[str, ...] = ("--working-dir", ".")) -> Done:
        """`ray job submit ... -- python jobs/round.py ...` in the repository."""
        begin = [str(BIN / "ray"), "job", "submit", "--address", self.address, *how, "--"]
        return ended([*begin, "python", "jobs/round.py", *map(str, options)], self.environment)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start_head(folder: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str, int]:
    """Start a cluster in the repository: its process, whose session holds all of it, address, metrics."""
    gcs, dashboard, agent, client, metrics = free_ports(5)
    log = folder / "start.log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            [
                *(str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
                *("--num-cpus", "2", "--object-store-memory", "200000000", "--temp-dir", str(folder)),
                *("--port", str(gcs), "--dashboard-port", str(dashboard)),
                *("--dashboard-agent-listen-port", str(agent), "--ray-client-server-port", str(client)),
                *("--metrics-export-port", str(metrics)),
            ],
            cwd=REPOSITORY,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + PATIENCE_S
    while "Ray runtime started" not in log.read_text():
        if started.poll() is not None or time.monotonic() > until:
            end_session(started.pid)
            raise RuntimeError(log.read_text())
        time.sleep(0.1)
    return started, f"http://127.0.0.1:{dashboard}", metrics


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head with token, ports and folder of its own, ended with exactly the processes that it started."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: a socket's path may have 107 bytes
    try:
        started, address, metrics = start_head(folder, environment)
    except RuntimeError:  # Ray gives itself 30 s, which a busy machine can't always keep
        started, address, metrics = start_head(folder, environment)
    try:
        yield Head(address, environment, folder, metrics)
    finally:
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(timeout=5)  # its own end takes half a minute
        end_session(started.pid)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def store(ingested: Road, tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("submitted") / "store"
    shutil.copytree(ingested.store, location)
    return location


def submitted(done: Done) -> list[str]:
    """What the job itself wrote: from its entrypoint to the next line of Ray, which is dated."""
    lines = iter(done.said.splitlines())
    assert any(line.startswith("Running entrypoint for job") for line in lines), done.said
    return [line for line in takewhile(lambda line: not RAYS.match(line), lines) if line]


@pytest.fixture(scope="module")
def first(head: Head, ingested: Road, store: Path) -> Done:
    """Round os1, submitted with a copy of the repository as its working directory."""
    settings = ("--scale", "tiny", "--settings", ingested.settings)
    return head.submit("--round", "os1", "--store", store, *settings).expect(0)


def test_submitted_round_is_published_and_tells_its_progress(first: Done, store: Path) -> None:
    layer = Store.open(store).layer("os1")
    assert layer.record.pins.code == code_digest()
    said = submitted(first)
    assert [line for line in said if not line.startswith(("os1: ", "  "))] == [], "Ray speaks in between"
    for part in ("fuse", "prepare", "train", "predict"):
        assert [line for line in said if f"os1 · {part}" in line], first.said
    assert said[-1] == f"  published os1.v1: {len(layer.cases())} cases, digest {layer.digest[:12]}"


def test_prometheus_hears_of_every_stage(first: Done, head: Head, store: Path) -> None:
    """The endpoint learns of a process's figures every few seconds, so it is asked until it knows."""
    found: dict[str, float] = {}
    until = time.monotonic() + 120
    while time.monotonic() < until and not {"write_layer", "Predictor", "write_target"} <= found.keys():
        time.sleep(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{head.metrics}/metrics") as answer:
            text = answer.read().decode()
        lines = re.findall(r"^ray_pwsseg_scans_total\{(.*)\} ([0-9.e+]+)$", text, re.MULTILINE)
        found = {}
        for tags, value in lines:
            said = dict(re.findall(r'(\w+)="([^"]*)"', tags))
            if said["outcome"] == "done":
                found[said["stage"]] = found.get(said["stage"], 0.0) + float(value)
    cases = len(Store.open(store).layer("os1").cases())
    assert found["Predictor"] == found["write_layer"] == cases
    assert "ray_pwsseg_stage_seconds_bucket" in text
    assert "ray_pwsseg_device_idle_seconds_total" in text


def test_copy_of_the_repository_holds_neither_environment_nor_demo(first: Done, head: Head) -> None:
    copies = [*head.folder.glob("session_latest/runtime_resources/working_dir_files/_ray_pkg_*/")]
    assert copies
    for copy in copies:
        kept = {path.name for path in copy.iterdir()}
        assert {"jobs", "pwsseg"} <= kept
        assert not kept & {".git", ".venv", ".venv-bench", "demo", "pwsseg-store", ".mypy_cache"}


def test_round_submitted_in_place_runs_the_same_code(
    first: Done, head: Head, ingested: Road, store: Path
) -> None:
    settings = ("--scale", "tiny", "--settings", ingested.settings)
    again = head.submit("--round", "os1", "--store", store, *settings, how=()).expect(0)
    assert submitted(again)[-1].startswith("os1: nothing to do, os1.v1 has these pins already")


@pytest.mark.parametrize(
    ("name", "location", "parts"),
    [
        ("ots1", "{store}", ("os2, which is not published", "--round os2")),
        ("os1", "here/store", ("'here/store' is a relative path", "give an absolute path")),
    ],
)
def test_submitted_round_that_can_not_run_fails_with_its_sentence(
    head: Head, store: Path, name: str, location: str, parts: tuple[str, ...]
) -> None:
    given = ("--round", name, "--scale", "laptop", "--store", location.format(store=store))
    failed = head.submit(*given).expect(1)
    (line,) = submitted(failed)
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line

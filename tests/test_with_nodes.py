"""docker/with_nodes.py on a cluster that scales itself: Ray's autoscaler, raylets here are its machines."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from road import PATIENCE_S, REPOSITORY, Done, clean_environment, end_session, ended
from test_submit import BIN, free_ports

HEAD_ID = "f" * 51 + "00000"
"""What the autoscaler takes the head for."""
COUNT = """
import ray, sys
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
sys.exit(10 + int(ray.cluster_resources().get("GPU", 0)))
"""


def autoscaling(gcs: str) -> dict[str, object]:
    """A head without devices, and at most one other node, which says that it has a GPU."""
    hooks = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    gpu_node = {"CPU": 1, "GPU": 1, "object_store_memory": 100_000_000}
    return {
        "cluster_name": "here",
        "max_workers": 1,
        "provider": {"type": "fake_multinode", "gcs_address": gcs},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": gpu_node, "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
        "idle_timeout_minutes": 5,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
    } | {f"{hook}_commands": [] for hook in hooks}


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of whoever uses the cluster; ended with exactly the processes that it started."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: a socket's path may have 107 bytes
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    gcs, agent, metrics, client = free_ports(4)
    address = f"127.0.0.1:{gcs}"
    (folder / "autoscaling.json").write_text(json.dumps(autoscaling(address)))
    environment = clean_environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_ADDRESS": address,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        *("ray", "start", "--head", "--block", "--disable-usage-stats", "--num-cpus", "0"),
        *("--include-dashboard", "false", "--temp-dir", str(folder), "--object-store-memory", "100000000"),
        *("--node-ip-address", "127.0.0.1", "--port", str(gcs), "--ray-client-server-port", str(client)),
        *("--dashboard-agent-listen-port", str(agent), "--metrics-export-port", str(metrics)),
        *("--autoscaling-config", str(folder / "autoscaling.json")),
    ]
    rays = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0"}
    rays["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = HEAD_ID
    log = folder / "start.log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            command, env=environment | rays, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while "Ray runtime started" not in log.read_text():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield environment
    finally:
        started.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.wait(timeout=2)
        end_session(started.pid)
        shutil.rmtree(folder, ignore_errors=True)


def with_nodes(environment: dict[str, str], *options: str) -> Done:
    script = str(REPOSITORY / "docker" / "with_nodes.py")
    return ended([sys.executable, script, *options, "--", sys.executable, "-c", COUNT], environment)


def test_command_does_not_run_when_the_nodes_do_not_come(cluster: dict[str, str]) -> None:
    refused = with_nodes(cluster, "--gpus", "9", "--patience", "0").expect(1)
    assert "error: after 0 s the cluster still lacks 9 GPUs (found 0); raise maxReplicas" in refused.said


def test_cluster_of_no_devices_grows_before_the_command_runs(cluster: dict[str, str]) -> None:
    with_nodes(cluster, "--gpus", "1", "--patience", "300").expect(11)

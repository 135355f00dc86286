"""Bring nodes up, run a command, let the nodes go: for a cluster that scales itself.

ray job submit -- python with_nodes.py --gpus 4 --cpus 32 -- python jobs/round.py --round os1

A round shares its work out over the devices that are there when it starts, so it can't make a cluster grow
from nothing. This asks the autoscaler for them, waits until they are there, and exits with the command's
code. From then on nodes stay, or come back, by what the stages need: Ray Data's wishes replace these.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources

LOOK_S = 1.0


@contextmanager
def asked_for(wanted: dict[str, int]) -> Iterator[None]:
    """Have the autoscaler keep nodes for this many GPUs and CPUs, one to a bundle."""
    request_resources(bundles=[{kind: 1} for kind, count in wanted.items() for _ in range(count)])
    try:
        yield
    finally:
        request_resources(bundles=[])


def missing(wanted: dict[str, int]) -> list[str]:
    """What the cluster lacks, in words."""
    found = ray.cluster_resources()
    return [
        f"{n} {kind}s (found {int(found.get(kind, 0))})"
        for kind, n in wanted.items()
        if found.get(kind, 0) < n
    ]


def wait_for(wanted: dict[str, int], *, patience_s: float) -> None:
    """Return when the cluster has what is wanted; exit with a sentence when it does not come."""
    until = time.monotonic() + patience_s
    while lacking := missing(wanted):
        if time.monotonic() > until:
            sys.exit(
                f"error: after {patience_s:g} s the cluster still lacks {' and '.join(lacking)}; raise "
                "maxReplicas or the quota of the machines, or ask for less"
            )
        time.sleep(LOOK_S)


def main() -> int:
    """Exit with the command's code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of the whole cluster")
    parser.add_argument("--cpus", type=int, default=0, help="CPUs of the whole cluster")
    parser.add_argument("--patience", type=float, default=1800, help="seconds to wait (default: 1800)")
    parser.add_argument("command", nargs="+", help="after --: what to run")
    given = parser.parse_args()
    wanted = {kind: n for kind, n in {"GPU": given.gpus, "CPU": given.cpus}.items() if n}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped job lets its nodes go
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    with asked_for(wanted):
        wait_for(wanted, patience_s=given.patience)
        return subprocess.run(given.command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

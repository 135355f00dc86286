"""Holds the nodes of a ray.cluster_utils.Cluster in a process of its own: no test's process has a Ray then.

It prints the head's address, then obeys lines on stdin and answers each by the same line: `add` starts a node
of one CPU; `kill` ends the newest node, and all on it, as kill -9 does; `kill 17 23` the newest whose raylet
is one of these processes. At the end of stdin all nodes end. A second argument is how many GPUs each node
says that it has: Ray shares them out as real ones, and torch finds none and computes on the CPU.
"""

from __future__ import annotations

import sys
from typing import Any

import ray  # noqa: F401  # cluster_utils needs it imported first
from ray.cluster_utils import Cluster


def main() -> None:
    """Start a head and as many nodes beside it as the first argument says."""
    beside_head, gpus = map(int, sys.argv[1:])
    node = {"num_cpus": 1, "num_gpus": gpus, "object_store_memory": 150_000_000}
    cluster: Any = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    nodes = [cluster.add_node(**node) for _ in range(beside_head)]
    _answer(cluster.address)
    for line in sys.stdin:
        what, *raylets = line.split()
        if what == "add":
            nodes.append(cluster.add_node(**node))
        else:
            gone = [node for node in nodes if not raylets or _raylet(node) in raylets][-1]
            nodes.remove(gone)
            cluster.remove_node(gone, allow_graceful=False)
        _answer(line.strip())
    cluster.shutdown()


def _raylet(node: Any) -> str:
    return str(node.all_processes["raylet"][0].process.pid)


def _answer(said: str) -> None:
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

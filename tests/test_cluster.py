"""What a pipeline asks of a cluster."""

from __future__ import annotations

from itertools import product

import pytest

from pwsseg.pipelines.cluster import Resources


@pytest.mark.parametrize("cpus", [1, 2, 3, 7, 8, 16, 96, 255])
def test_actors_without_gpus_leave_one_cpu_to_reading_and_writing(cpus: int) -> None:
    resources = Resources(cpus=cpus, gpus=0, memory_gb=8)
    asked = resources.devices * resources.device_options["num_cpus"]
    assert resources.devices == cpus
    assert cpus - 1 - 0.01 * cpus <= asked <= cpus - 1


@pytest.mark.parametrize("nodes", [(2, 2), (1, 2, 2), (1, 1), (1, 16), (3, 3, 3, 3)])
def test_actors_leave_a_whole_cpu_on_some_node_however_they_lie(nodes: tuple[int, ...]) -> None:
    resources = Resources(cpus=sum(nodes), gpus=0, memory_gb=8, nodes=len(nodes))
    asked = resources.device_options["num_cpus"]
    fits = [range(min(resources.devices, int(cpus / asked) if asked else 99) + 1) for cpus in nodes]
    ways = [way for way in product(*fits) if sum(way) == resources.devices]
    assert ways
    for way in ways:
        assert max(cpus - asked * actors for cpus, actors in zip(nodes, way, strict=True)) >= 1


def test_one_actor_a_gpu_takes_no_cpu() -> None:
    resources = Resources(cpus=16, gpus=4, memory_gb=64)
    assert resources.devices == 4
    assert resources.device_options == {"num_gpus": 1, "num_cpus": 0}

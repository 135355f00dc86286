"""Cases that share a task: those of little work, in their order, and never so many that a CPU waits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from road import REPOSITORY, clean_environment, ended

from pwsseg.pipelines.over_cases import TASK_VOXELS, Item, _items, _table, tasks_of

SMALL, LARGE = TASK_VOXELS // 10, 26_214_400


def sizes(items: list[Item], *, cpus: int = 1) -> list[int]:
    tasks = tasks_of(items, cpus=cpus)
    assert [item for task in tasks for item in task] == items
    return [len(task) for task in tasks]


def test_cases_of_unknown_or_of_much_work_are_tasks_of_their_own() -> None:
    assert sizes([Item(str(i)) for i in range(100)]) == [1] * 100
    assert sizes([Item(str(i), voxels=LARGE) for i in range(100)]) == [1] * 100


def test_small_cases_share_a_task_up_to_its_work() -> None:
    assert sizes([Item(str(i), voxels=SMALL) for i in range(100)]) == [10] * 10
    assert sizes([Item(str(i), voxels=0) for i in range(1000)]) == [64] * 15 + [40]


def test_windows_count_as_work() -> None:
    assert sizes([Item(str(i), voxels=0, windows=4) for i in range(100)]) == [8] * 12 + [4]


def test_every_cpu_gets_several_tasks() -> None:
    assert sizes([Item(str(i), voxels=0) for i in range(64)], cpus=4) == [2] * 32
    assert sizes([Item(str(i), voxels=0) for i in range(5)], cpus=2) == [1] * 5


def test_large_ones_among_small_ones_stay_alone() -> None:
    voxels = [LARGE, SMALL, SMALL, LARGE, SMALL, *[SMALL] * 95]
    assert sizes([Item(str(i), voxels=v) for i, v in enumerate(voxels)])[:4] == [1, 2, 1, 10]


def test_cases_travel_whole() -> None:
    odd = np.arange(15, dtype=np.uint8).reshape(3, 1, 5)
    turned = np.arange(24, dtype=np.float16).reshape(2, 3, 4)[:, ::-1]
    sent = [Item("a", {"n": 1}, odd), Item("b", error="no"), Item("c", {"s": "µ"}, turned)]
    for items in (sent, sent[2:], sent[1:2]):
        for item, come in zip(items, _items(_table(items)), strict=True):
            assert (come.case, come.fields, come.error) == (item.case, item.fields, item.error)
            assert come.volume.dtype == item.volume.dtype
            np.testing.assert_array_equal(come.volume, item.volume)


def test_a_case_that_kills_its_process_takes_none_along_that_share_its_task() -> None:
    script = [sys.executable, str(Path(__file__).with_name("poisoned_task.py"))]
    said = ended(script, clean_environment() | {"PYTHONPATH": str(REPOSITORY)}).expect(0).said
    lines = [line for line in said.splitlines() if line.startswith("{")]  # Ray speaks of the dead, too
    found = {item["case"]: item for item in map(json.loads, lines)}
    assert "20/20 scans" in said
    assert sorted(found, key=int) == [str(i) for i in range(20)]
    assert found["7"]["error"] == "ValueError: seven is refused"
    assert found["13"]["error"].startswith("its process died every time")
    assert all(i["number"] == int(c) / 2 for c, i in found.items() if c not in ("7", "13"))

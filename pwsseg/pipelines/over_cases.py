"""Work over many cases on Ray Data that survives its faults.

    outcomes = over_cases(items, [Stage(load), Stage(Predictor, device=True), Stage(write)], progress=...)

A function gets a case and returns it changed; what it raises becomes the case's error and later stages pass
it by. Cases of little work share a task and travel as one row of an Arrow table. A process that dies is
tried once more; cases that don't come back are sent again, each for itself, since one that kills its process,
or a dying node, may take others and their second try along; a case that never comes back is an error too. So
every case that went in comes out, done or with a reason.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pwsseg.pipelines.cluster import Resources, check_code
from pwsseg.pipelines.metrics import count_idle, count_scan, stage_name
from pwsseg.pipelines.progress import Progress
from pwsseg.store.digests import code_digest
from pwsseg.values import PwssegError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa

Work = Callable[["Item"], "Item"]

PASSES = 2
"""How often a case is sent; each time a process that dies with it is tried once more."""
TASK_VOXELS = 8_000_000
"""A task's cases have so many voxels together, or are one: a quarter second of work, to 10 ms of Ray's."""
LEAST_VOXELS, WINDOW_VOXELS = TASK_VOXELS // 64, TASK_VOXELS // 32
"""What a case counts at least, and a window that the network looks at, in voxels of the same work."""
TASKS_A_CPU = 8
"""A pass is cut into so many tasks for each CPU at least, so that none waits long for the last."""
RETRIED: dict[str, Any] = {"max_retries": 1}
"""What stages without a device ask of Ray; those in a row that ask the same share a process."""
WHOLE_TASKS: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
"""A task is one row: by rows of one case each, Ray Data takes more time than most stages do.

Not a batch size of None, which Ray Data refuses where a stage asks for a GPU.
"""
NOTHING = np.zeros((0, 0, 0), dtype=np.float16)


@dataclass
class Item:
    """One case on its way: small JSON fields, and between stages perhaps one volume (z, y, x)."""

    case: str
    fields: dict[str, Any] = field(default_factory=dict)
    volume: np.ndarray = field(default_factory=lambda: NOTHING)
    error: str = ""
    windows: int = 0
    """How many windows the network will look at, where that is known."""
    voxels: int | None = None
    """How many voxels will be read, where that is known: with the windows, the work that it is."""


@dataclass(frozen=True)
class Stage:
    """A step of a pipeline: a function, or a class whose instances stay on a device."""

    work: Callable[..., Any]
    settings: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function, or of the class's constructor."""
    device: bool = False


def over_cases(
    items: Iterable[Item], stages: list[Stage], *, resources: Resources, progress: Progress
) -> list[Item]:
    """Send every item through the stages; return all of them, in no order, without their volumes."""
    waiting = {item.case: item for item in items}
    if not waiting:
        return []
    done = []
    tasks = tasks_of(list(waiting.values()), cpus=resources.cpus)
    for _ in range(PASSES):
        for item in _run(tasks, stages, resources) if tasks else ():
            progress.step(failed=bool(item.error), windows=waiting.pop(item.case).windows)
            item.volume = NOTHING  # even an empty one holds the block of its task
            done.append(item)
        tasks = [[item] for item in waiting.values()]
    for item in waiting.values():
        progress.step(failed=True, windows=item.windows)
        item.error = "its process died every time (out of memory, or a reader that crashes); look at the scan"
        done.append(item)
    progress.close()
    return done


def check_done(items: Iterable[Item], said: str) -> None:
    """Raise StoreError about the first item that failed; `said` tells what of {case} can't be done."""
    failed = next((item for item in items if item.error), None)
    if failed is not None:
        raise StoreError(f"{said.format(case=failed.case)}: {failed.error}")


def tasks_of(items: list[Item], *, cpus: int) -> list[list[Item]]:
    """The items in their order, those of little work together; what work is unknown is a task of its own."""
    most = -(-len(items) // (TASKS_A_CPU * cpus))
    tasks: list[list[Item]] = []
    room = 0
    for item in items:
        work = TASK_VOXELS
        if item.voxels is not None:
            work = max(item.voxels + item.windows * WINDOW_VOXELS, LEAST_VOXELS)
        if not tasks or work > room or len(tasks[-1]) == most:
            tasks.append([])
            room = TASK_VOXELS
        tasks[-1].append(item)
        room -= work
    return tasks


def _run(tasks: list[list[Item]], stages: list[Stage], resources: Resources) -> Iterator[Item]:
    import ray.data

    dataset = ray.data.from_blocks([_table(task) for task in tasks])
    with warnings.catch_warnings():
        # Ray 2.60 deprecates remote arguments without naming another way to bound retries
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        for stage in stages:
            dataset = _with_stage(
                dataset, stage, devices=min(resources.devices, len(tasks)), resources=resources
            )
    for table in dataset.iter_batches(**WHOLE_TASKS):
        yield from _items(table)


def _with_stage(dataset: Any, stage: Stage, *, devices: int, resources: Resources) -> Any:
    import ray.data

    if not stage.device:
        return dataset.map_batches(
            _Guarded(stage.work, stage.settings, code_digest()), **WHOLE_TASKS, **RETRIED
        )
    return dataset.map_batches(
        _OnDevice,
        fn_constructor_args=(stage.work, stage.settings, code_digest()),
        compute=ray.data.ActorPoolStrategy(size=devices),
        max_restarts=-1,
        max_task_retries=1,
        **WHOLE_TASKS,
        **resources.device_options,
    )


class _Guarded:
    """A stage's function on a task's cases: what it raises becomes the case's error."""

    def __init__(self, work: Callable[..., Item], settings: dict[str, Any], code: str) -> None:
        self._work, self._settings, self._code = work, settings, code

    def __call__(self, table: pa.Table) -> pa.Table:
        return _table([item if item.error else self._timed(item) for item in _items(table)])

    def _timed(self, item: Item) -> Item:
        began = perf_counter()
        item = self._worked(item)
        count_scan(stage_name(self._work), perf_counter() - began, failed=bool(item.error))
        return item

    def _worked(self, item: Item) -> Item:
        try:
            check_code(self._code)
            return self._work(item, **self._settings)
        except PwssegError as error:
            return Item(item.case, item.fields, error=str(error))
        except Exception as error:
            return Item(item.case, item.fields, error=f"{type(error).__name__}: {error}")


class _OnDevice:
    """A stage's class on a task's cases, built once in its actor."""

    def __init__(self, build: Callable[..., Work], settings: dict[str, Any], code: str) -> None:
        self._guarded = _Guarded(build(**settings), {}, code)
        self._stage, self._since = stage_name(build), perf_counter()

    def __call__(self, table: pa.Table) -> pa.Table:
        count_idle(self._stage, perf_counter() - self._since)
        try:
            return self._guarded(table)
        finally:
            self._since = perf_counter()


def _table(items: list[Item]) -> pa.Table:
    """A task's cases as they travel: one row, of a list in each column; one case's volume without a copy."""
    import pyarrow as pa  # here, as Ray is: only work on cases needs it

    volumes = [np.ascontiguousarray(item.volume).reshape(-1).view(np.uint8) for item in items]
    ends = np.cumsum([0, *map(len, volumes)], dtype=np.int64)
    together = volumes[0] if len(volumes) == 1 else np.concatenate(volumes)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(together)]
    columns = {
        "case": pa.array([item.case for item in items]),
        "error": pa.array([item.error for item in items]),
        "fields": pa.array([json.dumps(item.fields) for item in items]),
        "dtype": pa.array([item.volume.dtype.str for item in items]),
        "shape": pa.array([json.dumps(item.volume.shape) for item in items]),
        "volume": pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(items), buffers),
    }
    return pa.table({n: pa.ListArray.from_arrays([0, len(items)], column) for n, column in columns.items()})


def _items(table: pa.Table) -> Iterator[Item]:
    """The cases of a task; their volumes are views that can't be written to."""
    columns = {name: table.column(name).chunk(0).flatten() for name in table.column_names}
    volumes = columns.pop("volume")
    texts = zip(*(column.to_pylist() for column in columns.values()), strict=True)
    for (case, error, fields, dtype, shape), volume in zip(texts, volumes, strict=True):
        array = np.frombuffer(volume.as_buffer(), np.dtype(dtype)).reshape(json.loads(shape))
        yield Item(case, json.loads(fields), array, error)

"""Work over many cases on Ray Data that survives its faults.

    outcomes = over_cases(rows, [Stage(load), Stage(Predictor, device=True), Stage(write)], progress=...)

A row is one case: {case, fields..., volume}. A function gets a row and returns it changed; what it raises
becomes the row's error and later stages pass the row by. A process that dies is tried once more; rows that
don't come back are sent again, since a dying node may take a case and its second try along; a row that never
comes back is an error too. So every case that went in comes out, done or with a reason.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from pwsseg.pipelines.cluster import Resources, check_code
from pwsseg.pipelines.metrics import count_idle, count_scan, stage_name
from pwsseg.pipelines.progress import Progress
from pwsseg.store.digests import code_digest
from pwsseg.values import PwssegError, StoreError

Work = Callable[["Item"], "Item"]

PASSES = 2
"""How often a row is sent; each time a process that dies with it is tried once more."""
NOTHING = np.zeros((0, 0, 0), dtype=np.float16)


@dataclass
class Item:
    """One case on its way: small JSON fields, and between stages perhaps one volume (z, y, x)."""

    case: str
    fields: dict[str, Any] = field(default_factory=dict)
    volume: np.ndarray = field(default_factory=lambda: NOTHING)
    error: str = ""
    windows: int = 0
    """How many windows the network will look at, where that is known: the work that it is."""


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
    for _ in range(PASSES):
        for item in _run(list(waiting.values()), stages, resources) if waiting else ():
            progress.step(failed=bool(item.error), windows=waiting.pop(item.case).windows)
            done.append(item)
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


def _run(items: list[Item], stages: list[Stage], resources: Resources) -> Iterator[Item]:
    import ray.data

    dataset = ray.data.from_items([_row(i) for i in items], override_num_blocks=len(items))
    with warnings.catch_warnings():
        # Ray 2.60 deprecates remote arguments without naming another way to bound retries
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        for stage in stages:
            dataset = _with_stage(
                dataset, stage, devices=min(resources.devices, len(items)), resources=resources
            )
    for row in dataset.iter_rows():
        yield _item(row)


def _with_stage(dataset: Any, stage: Stage, *, devices: int, resources: Resources) -> Any:
    import ray.data

    if not stage.device:
        return dataset.map(_Guarded(stage.work, stage.settings, code_digest()), max_retries=1)
    return dataset.map(
        _OnDevice,
        fn_constructor_args=(stage.work, stage.settings, code_digest()),
        compute=ray.data.ActorPoolStrategy(size=devices),
        max_restarts=-1,
        max_task_retries=1,
        **resources.device_options,
    )


class _Guarded:
    """A stage's function on rows: errors become part of the row."""

    def __init__(self, work: Callable[..., Item], settings: dict[str, Any], code: str) -> None:
        self._work, self._settings, self._code = work, settings, code

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        item = _item(row)
        if item.error:
            return row
        began = perf_counter()
        item = self._worked(item)
        count_scan(stage_name(self._work), perf_counter() - began, failed=bool(item.error))
        return _row(item)

    def _worked(self, item: Item) -> Item:
        try:
            check_code(self._code)
            return self._work(item, **self._settings)
        except PwssegError as error:
            return Item(item.case, item.fields, error=str(error))
        except Exception as error:
            return Item(item.case, item.fields, error=f"{type(error).__name__}: {error}")


class _OnDevice:
    """A stage's class on rows, built once in its actor."""

    def __init__(self, build: Callable[..., Work], settings: dict[str, Any], code: str) -> None:
        self._guarded = _Guarded(build(**settings), {}, code)
        self._stage, self._since = stage_name(build), perf_counter()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        count_idle(self._stage, perf_counter() - self._since)
        try:
            return self._guarded(row)
        finally:
            self._since = perf_counter()


def _row(item: Item) -> dict[str, Any]:
    return {
        "case": item.case,
        "error": item.error,
        "fields": json.dumps(item.fields),
        "dtype": item.volume.dtype.str,
        "shape": json.dumps(item.volume.shape),
        "volume": np.ascontiguousarray(item.volume).view(np.uint8).reshape(-1),
    }


def _item(row: dict[str, Any]) -> Item:
    shape = tuple(json.loads(row["shape"]))
    volume = np.asarray(row["volume"], dtype=np.uint8).view(row["dtype"]).reshape(shape)
    return Item(row["case"], json.loads(row["fields"]), volume, row["error"])

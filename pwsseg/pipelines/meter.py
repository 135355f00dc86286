"""Epochs of a training on their way to the terminal, and to TensorBoard where it was asked for."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pwsseg.pipelines.progress import Progress
from pwsseg.values import SettingsError

_boards: list[Path] = []


def tensorboard_to(folder: Path) -> None:
    """Write every training's curve of this process into `folder`, a run a training.

    Raises SettingsError when the folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"--tensorboard {folder} can't be made ({error.strerror}); give another folder"
        ) from error
    _boards[:] = [folder.absolute()]


class EpochMeter:
    """Shows epochs in the driver while fit() blocks: workers add rows to an actor, a thread reads them.

    A training that is resumed under the same `run` goes on in the same curves.
    """

    def __init__(self, name: str, epochs: int, *, run: str) -> None:
        from tensorboardX import SummaryWriter

        self.actor = _beside_driver(_Rows)
        self._progress = Progress(f"{name} · train", epochs, unit="epochs")
        self._next, self._resumed = 0, ""
        self._boards = [SummaryWriter(str(folder / run)) for folder in _boards]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for board in self._boards:
            board.close()
        self._progress.close()

    def _watch(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(0.5)
            self._show()  # once more after the end: the last epoch is shown, too

    def _show(self) -> None:
        import ray

        for row in ray.get(self.actor.take.remote()):
            done = int(row["epoch"])
            if done != self._next:
                self._resumed = f", resumed after epoch {done}"
            self._next = done + 1
            self._progress.step(note=f"loss {row['loss']:.3f}{self._resumed}", reached=self._next)
            for board in self._boards:
                for name, value in row.items():
                    if name != "epoch":
                        board.add_scalar(f"train/{name}", value, int(row["epoch"]))


def _beside_driver(kind: type) -> Any:
    """An actor on the driver's own node, so that no other takes it along; it comes again when killed."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lasting = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    return lasting(kind).remote()


class _Rows:
    """Rows of the training curve on their way to the terminal, and why no more will come."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._diverged = ""

    def add(self, row: dict[str, float]) -> None:
        self._rows.append(row)

    def take(self) -> list[dict[str, float]]:
        rows, self._rows = self._rows, []
        return rows

    def stop(self, diverged: str) -> None:
        self._diverged = diverged

    def stopped(self) -> str:
        return self._diverged

"""Epochs of a training on their way to the terminal."""

from __future__ import annotations

import threading

from pwsseg.pipelines.progress import Progress


class EpochMeter:
    """Shows epochs in the driver while fit() blocks: workers add rows to an actor, a thread reads them."""

    def __init__(self, name: str, epochs: int) -> None:
        import ray

        self.actor = ray.remote(num_cpus=0)(_Rows).remote()
        self._progress = Progress(f"{name} · train", epochs, unit="epochs")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._progress.close()

    def _watch(self) -> None:
        import ray

        while not self._ended.wait(0.5):
            for row in ray.get(self.actor.take.remote()):
                self._progress.step(note=f"loss {row['loss']:.3f}")


class _Rows:
    """Rows of the training curve on their way to the terminal."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    def add(self, row: dict[str, float]) -> None:
        self._rows.append(row)

    def take(self) -> list[dict[str, float]]:
        rows, self._rows = self._rows, []
        return rows

"""Kill drivers at random moments, run their work again, and verify the store: each time, or it says so.

python benchmarks/kills.py [--kills 200] [--seed 0]

The work fills a store: scans, an annotation, a model, two more layers, a prepared scan, scores. One or two
processes do it at once on one store; each gets SIGKILL after a random part of the time that the work takes.
Then a fresh process does the work again and checks the store: no error, no orphan, and every layer and model
as after an undisturbed run. A kill counts when it met a process that was still at work. Moments and company
come from the seed. There is no peer to compare with: the figures to look for are two equal numbers.

Processes are forked from one that has imported everything and never used a store, so each starts at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # a fresh clone needs no installation of the package itself

from filled_store import filled_store  # noqa: E402

from pwsseg.store import Store  # noqa: E402
from pwsseg.store.layout import LAYOUTS, encode  # noqa: E402
from pwsseg.store.verify import verify  # noqa: E402

UNFINISHED = [("note", "layers/os1.v2")]
"""All that `verify` may say: the work ends with a new draft."""


def main() -> int:
    """Run the kills and print what they met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="kills that must meet a process at work")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    met: Counter[str] = Counter()
    verified = 0
    began = time.perf_counter()
    _import_all()
    with tempfile.TemporaryDirectory() as folder:
        whole = [_seconds_undisturbed(Path(folder) / f"undisturbed-{n}") for n in range(3)]
        wanted = _asked(_contents, Path(folder) / "undisturbed-0")
        number = 0
        while met.total() < given.kills:
            number += 1
            here = Path(folder) / str(number)
            hits = _kill(here, chance, seconds=max(whole))
            left = _asked(_progress, here)
            again = _ended(_start(_work, here))
            found = _asked(_contents, here) if again else "its work can't be done again"
            if found == wanted:
                verified += hits
            else:
                print(f"kill {number} of seed {given.seed}, which left {left}: {found}", file=sys.stderr)
            met[left] += hits
    _print(met)
    figures = {"kills": met.total(), "verified": verified, "seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(figures))
    return int(verified != met.total())


def _import_all() -> None:
    """Load what is loaded on first use, once for all processes; nothing here touches a store."""
    import pyarrow.parquet  # noqa: F401

    for purpose, layout in LAYOUTS.items():
        encode(np.zeros((2, 2, 2), layout.dtype), purpose)


def _kill(folder: Path, chance: random.Random, *, seconds: float) -> int:
    """Let one or two drivers work and kill each at a moment of its own; how many were still at work."""
    moments = sorted(chance.uniform(0, 1.5 * seconds) for _ in range(chance.choice((1, 2))))
    drivers = [_start(_work, folder) for _ in moments]
    began = time.perf_counter()
    hits = 0
    for driver, moment in zip(drivers, moments, strict=True):
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        os.kill(driver, signal.SIGKILL)
        hits += not _ended(driver)
    return hits


def _work(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as own:
        filled_store(Path(own), folder)


def _contents(folder: Path) -> str:
    """All that must be as after an undisturbed run, as text; what is wrong, where something is."""
    store = Store.open(folder)
    found = [(f.level, f.where) for f in verify(store)]
    if found != UNFINISHED:
        return str(found)
    layers = {r.id: getattr(r.state, "digest", "draft") for r in store.layers()}
    return str((layers, {r.id: getattr(r.state, "weights", "draft") for r in store.models()}, store.cases()))


def _progress(folder: Path) -> str:
    """How far the killed drivers had come."""
    if not (folder / "zarr.json").exists():
        return "before there was a store"
    layers = Store.open(folder).layers()
    if not layers:
        return "writing scans"
    last = layers[-1]
    return f"{last.id} {'published' if last.state.state == 'published' else 'a draft'}"


def _start(task: Callable[[Path], None], folder: Path) -> int:
    """A process of its own that does the task; its id."""
    child = os.fork()
    if child:
        return child
    try:
        task(folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> bool:
    """Wait for a process; whether it ended well by itself."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _asked(question: Callable[[Path], str], folder: Path) -> str:
    """The answer of a process of its own: this one must never use a store, or it could not fork."""
    answer = folder.with_name(f"{folder.name}.answer")
    _ended(_start(lambda f: (answer.write_text(question(f)), None)[1], folder))
    return answer.read_text() if answer.exists() else "no answer"


def _seconds_undisturbed(folder: Path) -> float:
    began = time.perf_counter()
    if not _ended(_start(_work, folder)):
        raise SystemExit("the work failed though nobody disturbed it")
    return time.perf_counter() - began


def _print(met: Counter[str]) -> None:
    print(f"{'the killed left behind':<32} kills")
    for left, hits in met.most_common():
        print(f"{left:<32} {hits:>5}")


if __name__ == "__main__":
    sys.exit(main())

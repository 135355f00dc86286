"""Random faults for an hour: rounds are disturbed over and over, and each must end in the same labels.

python benchmarks/soak.py [--minutes 60] [--seed 0] [--pause SECONDS]

Round os1 at the tests' tiny scale is run once undisturbed, then again and again from a fresh copy of the same
store. About every `--pause` seconds (half of what the undisturbed round took) something happens to it:
kill -9 of its driver, of a task's process, of the actor with the network, of a training worker; or damage to
one file of the prepared cache: a byte changed, the end cut off, the file gone. What has no victim yet waits
for one. A driver that was killed, or that refuses, is started again by the same command, now and then without
a fault, until the round is published; then model and layer are to be those of the undisturbed run. Kinds,
moments and victims come from the seed; how far the round is then does not.

One line a fault, one a round, then a line of figures: `same` is to equal `rounds`, and `refusals` counts the
restarts after a refusal in words. A traceback ends the soak.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # a fresh clone needs no installation of the package itself

from faults.disturbing import PREDICTS, TRAINS, Job, os1, running, titled  # noqa: E402
from road import job, round_job, write_settings  # noqa: E402

from pwsseg.store import Store  # noqa: E402

KINDS = ("driver", "task", "actor", "training worker", "cache")
TITLES = {"task": "ray::MapBatches(", "actor": PREDICTS, "training worker": TRAINS}
COUNTS = {"organs": 2, "five-organs": 1, "five-organs-and-tumor": 1, "unannotated": 1, "validation": 1}
MOST_STARTS = 20
"""A round that isn't published after so many has failed."""


class Soak(NamedTuple):
    """What all rounds share, and what has happened so far."""

    folder: Path
    settings: Path
    wanted: tuple[str, str]
    pause: float
    chance: random.Random
    met: Counter[str]


def main() -> int:
    """Soak for as long as is asked and print what happened."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, metavar="SECONDS", help="between two faults, on average")
    given = parser.parse_args()
    began = time.monotonic()
    rounds = same = 0
    with tempfile.TemporaryDirectory(prefix="soak") as place:
        soak = begun(Path(place), random.Random(given.seed), given.pause)
        until = time.monotonic() + 60 * given.minutes
        while time.monotonic() < until:
            rounds += 1
            found = disturbed_round(soak, rounds)
            same += found == soak.wanted
            print(f"round {rounds}: {'the same' if found == soak.wanted else f'OTHER: {found}'}", flush=True)
    faults = {kind: soak.met[kind] for kind in KINDS}
    figures = {"rounds": rounds, "same": same, "faults": sum(faults.values()), "by_kind": faults}
    figures |= {"refusals": soak.met["refusal"], "minutes": round((time.monotonic() - began) / 60, 1)}
    print(json.dumps(figures))
    return int(same != rounds)


def begun(folder: Path, chance: random.Random, pause: float | None) -> Soak:
    """Fill a store with phantoms and run the round once, undisturbed."""
    settings = write_settings(
        folder / "settings",
        ("epochs = 1\n", "epochs = 6\n"),
        ("overlap = 0.25", "overlap = 0.875"),
        ("windows_a_batch = 4", "windows_a_batch = 1"),
    )
    counts = [word for kind, count in COUNTS.items() for word in (f"--{kind}", count)]
    corpus = folder / "corpus"
    job("phantom", "--out", corpus, *counts).expect(0)
    files = ("--images", corpus, "--annotated", corpus / "annotated.csv")
    job("ingest", "--store", folder / "ingested", *files).expect(0)
    shutil.copytree(folder / "ingested", folder / "undisturbed")
    began = time.monotonic()
    round_job("os1", settings, folder / "undisturbed").expect(0)
    wanted = digests(folder / "undisturbed")
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s, layer {wanted[1][:12]}", flush=True)
    return Soak(folder, settings, wanted, pause or seconds / 2, chance, Counter())


def disturbed_round(soak: Soak, number: int) -> tuple[str, str]:
    """One round with its faults, started until it is published; the digests of its model and layer."""
    store = soak.folder / f"round-{number}"
    shutil.copytree(soak.folder / "ingested", store)
    quiet = 0
    for start in range(1, MOST_STARTS + 1):
        log = soak.folder / f"round-{number}-{start}.log"
        with running(os1(soak.settings, store), log) as there:
            hit = disturb(soak, there, store, most=0 if quiet else soak.chance.randint(1, 4))
            done = there.done()
        if done.code == 0:
            found = digests(store)
            shutil.rmtree(store)
            return found
        if "Traceback" in done.said:
            raise SystemExit(f"round {number} ended in a traceback:\n{done.said}")
        soak.met["refusal"] += "error: " in done.said
        quiet = 0 if hit and start % 3 else 1
    raise SystemExit(f"round {number} is not published after {MOST_STARTS} starts:\n{log.read_text()}")


def disturb(soak: Soak, there: Job, store: Path, *, most: int) -> int:
    """Up to so many faults while the job runs; how many met it."""
    hits = 0
    for _ in range(most):
        until = time.monotonic() + soak.chance.uniform(0, 2 * soak.pause)
        kind, met = soak.chance.choice(KINDS), ""
        while not met and there.driver.poll() is None:
            time.sleep(0.05)
            if time.monotonic() >= until:  # from then on the first victim that there is
                met = damage(store, soak.chance) if kind == "cache" else killed(kind, there, soak.chance)
        if met:
            hits += 1
            soak.met[kind] += 1
            print(f"  {kind}: {met}", flush=True)
    return hits


def killed(kind: str, there: Job, chance: random.Random) -> str:
    """SIGKILL a process of the job; which one, or nothing where there is none of this kind."""
    session = there.driver.pid
    found = [session] if kind == "driver" else titled(TITLES[kind], session=session)
    if not found:
        return ""
    victim = chance.choice(found)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return f"killed {victim} of {len(found)}"


def damage(store: Path, chance: random.Random) -> str:
    """Damage one file of the prepared cache; which and how, or nothing where it is empty."""
    files = sorted(p for p in store.glob("prepared/prepared-*/*/**/*") if p.is_file() and "#" not in p.name)
    if not files:
        return ""
    path, how = chance.choice(files), chance.choice(("changed", "cut short", "removed"))
    try:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 0xFF
        if how == "removed":
            path.unlink()
        else:
            path.write_bytes(data if how == "changed" else data[: len(data) // 2])
    except (FileNotFoundError, ValueError):
        return ""
    return f"{how} {path.relative_to(store)}"


def digests(store: Path) -> tuple[str, str]:
    """Of the model's weights, and of the layer."""
    there = Store.open(store)
    return there.model("os1").digest, there.layer("os1").digest


if __name__ == "__main__":
    sys.exit(main())

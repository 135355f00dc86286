"""Give every reader damaged and hostile files for a stated time, and say which it could not bear.

python benchmarks/fuzz.py [--minutes 10] [--seed 0] [--only dicom] [--number 17]

Each execution changes one real file (tests/mutations.py) and reads it as people would (tests/fuzzed.py). It
must be read, or refused in one sentence of ours, within 20 s and 256 MiB; anything else is a finding, printed
with the number that makes it again: `--seed 0 --only weights --number 17`. Readers get equal time. They run
in a process of their own, so a library that dies, or never comes back, is a finding too. There is no peer to
compare with; the figure to look for is no finding.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # a fresh clone needs no installation of the package itself
DATA = ROOT.parent / "shared" / "data"
PATIENCE_S = 120
"""A process that says nothing for so long hangs in a library that no alarm can stop."""


def main() -> int:
    """Run for the time given and print what was met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="READER", help="one reader; default: all")
    parser.add_argument("--number", type=int, help="one execution of it, in this process")
    parser.add_argument("--data", type=Path, default=DATA, help="real scans to start from")
    given = parser.parse_args()
    if given.number is not None:
        return _once(given)
    met: dict[str, Counter[str]] = defaultdict(Counter)
    findings: dict[tuple[str, str], dict[str, Any]] = {}
    began = time.perf_counter()
    for said in _executions(given, began + 60 * given.minutes):
        met[said["reader"]][said["ended"]] += 1
        if said["ended"] == "finding":
            one = findings.setdefault((said["reader"], said["what"]), {**said, "times": 0})
            one["times"] += 1
    _print(met, list(findings.values()))
    figures = {
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "seed": given.seed,
        "executions": {reader: counts.total() for reader, counts in met.items()},
        "findings": [{k: f[k] for k in ("reader", "number", "times", "what")} for f in findings.values()],
    }
    print(json.dumps(figures))
    return int(bool(findings))


def _once(given: argparse.Namespace) -> int:
    """One execution, with the traceback of what goes wrong."""
    from fuzzed import opened

    with opened(given.data) as readers:
        print(readers[given.only](_chance(given.seed, given.only, given.number)))
    return 0


def _chance(seed: int, reader: str, number: int) -> Random:
    return Random(f"{seed}/{reader}/{number}")


def _executions(given: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """What each execution met; where the process dies, a new one goes on behind the deadly number."""
    numbers: dict[str, int] = {}
    context = multiprocessing.get_context("spawn")
    while time.perf_counter() < until:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(
            target=_work, args=(theirs, given, dict(numbers), until - time.perf_counter())
        )
        worker.start()
        theirs.close()
        last: dict[str, Any] | None = None
        try:
            while ours.poll(PATIENCE_S):
                said = ours.recv()
                numbers[said["reader"]] = said["number"] + 1
                last = said if said["ended"] == "begun" else None
                if said["ended"] != "begun":
                    yield said
            worker.kill()
            what = f"hangs for {PATIENCE_S} s"
        except EOFError:
            worker.join()
            what = f"kills its process (exit code {worker.exitcode})"
        worker.join()
        if last is not None:
            yield last | {"ended": "finding", "what": what, "trace": ""}
        elif worker.exitcode:
            raise RuntimeError(
                f"the process of the readers ended with {worker.exitcode} between two executions"
            )


def _work(pipe: Connection, given: argparse.Namespace, numbers: dict[str, int], seconds: float) -> None:
    """Executions, the reader that had least time next, each told before it begins and after it ended."""
    from fuzzed import opened

    with opened(given.data) as readers:
        names = [given.only] if given.only else list(readers)
        spent = dict.fromkeys(names, 0.0)
        began = time.perf_counter()
        while time.perf_counter() < began + seconds or 0.0 in spent.values():
            name = min(names, key=lambda n: spent[n])
            number = numbers.get(name, 0)
            numbers[name] = number + 1
            pipe.send({"reader": name, "number": number, "ended": "begun"})
            start = time.perf_counter()
            try:
                ended = {"ended": readers[name](_chance(given.seed, name, number))}
            except Exception as error:
                ended = {"ended": "finding", "what": _place(error), "trace": traceback.format_exc()}
            spent[name] += time.perf_counter() - start
            pipe.send({"reader": name, "number": number, **ended})


def _place(error: Exception) -> str:
    """The error's type, and the deepest line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/pwsseg/" in f.filename or f.filename.endswith("fuzzed.py")]
    at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {at}"


def _print(met: dict[str, Counter[str]], findings: list[dict[str, Any]]) -> None:
    print(f"{'reader':14} executions     read  refused  findings")
    for reader, counts in met.items():
        row = [counts[k] for k in ("read", "refused", "finding")]
        print(f"{reader:14} {counts.total():10} {row[0]:8} {row[1]:8} {row[2]:9}")
    for finding in findings:
        print(
            f"\n{finding['reader']} {finding['number']} ({finding['times']} times): {finding['what']}",
            file=sys.stderr,
        )
        print(finding["trace"], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

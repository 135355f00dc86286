"""A whole ots2 round over 400, then over 4000 scans: what the engine takes a scan, and whether that grows.

python benchmarks/rehearsal.py [--scans 400 4000] [--runs 3] [--keep DIR]

Scans are 8 x 8 x 8 voxels and a simulated device answers at once, so that all that is timed is the engine:
sources, selection, fusion, prepared cache, prediction on Ray Data, the gate, publishing.
Of the cases one in 16 is fully annotated and half in part, and a fortieth more is held out, as in FLARE23.
Fingerprints are those of larger scans, so that the guard against leaks has a real round's work. The round
runs as people run it, `jobs/round.py` in a process of its own, but for the device.

`engine_ms_per_scan` is wall time on all cores, without the training, which goes by steps, and without what a
run over 40 scans takes, the start. Both vary by seconds, so sizes take turns, `--runs` of them; the median is
of what each turn says. Each run has a store of its own and none is deleted before the end: ext4 passes over
inodes that were freed within the last minutes, so a deletion of a hundred thousand files would make each file
after it dearer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # a fresh clone needs no installation of the package itself

from road import JOBS, clean_environment, write_settings  # noqa: E402
from scale import GEOMETRY, pins  # noqa: E402

from pwsseg.arrays.likeness import fingerprint  # noqa: E402
from pwsseg.networks.losses import channels_of  # noqa: E402
from pwsseg.networks.supervision import build_network  # noqa: E402
from pwsseg.pipelines import predict  # noqa: E402
from pwsseg.pipelines.checkpoints import WEIGHTS, keep_model  # noqa: E402
from pwsseg.pipelines.cluster import Resources  # noqa: E402
from pwsseg.pipelines.job import run_job  # noqa: E402
from pwsseg.pipelines.over_cases import Item  # noqa: E402
from pwsseg.pipelines.selection import measured_changes  # noqa: E402
from pwsseg.pipelines.sources import Sources  # noqa: E402
from pwsseg.rounds import RoundSettings, load_round  # noqa: E402
from pwsseg.store import (  # noqa: E402
    AnnotationPins,
    Layer,
    Model,
    ModelPins,
    PredictionPins,
    Source,
    Store,
)
from pwsseg.store.layer import SINCE  # noqa: E402
from pwsseg.values import FLARE23  # noqa: E402

AS_JOB = "--as-job"
START = 40
LARGE = (60, 60, 60)
"""Voxels of 4 mm: large enough for as many blobs as a fingerprint holds."""
ORGANS = tuple(c for c in FLARE23.ids if c != FLARE23.tumor)


class Run(NamedTuple):
    """One round over so many scans."""

    scans: int
    seconds: float
    driver_mb: float
    stages: dict[str, float]


def main() -> None:
    """Print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scans", type=int, nargs=2, default=[400, 4000])
    parser.add_argument("--runs", type=int, default=3, help="of each size (default: 3)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the stores here, an empty folder")
    given = parser.parse_args()
    sizes = (START, *given.scans)
    with TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        settings = write_settings(folder / "settings", drift=True)
        turns = [
            [rehearse(folder / f"store-{n}-{turn}", n, settings) for n in sizes] for turn in range(given.runs)
        ]
        show(turns)


def show(turns: Sequence[Sequence[Run]]) -> None:
    """Print every run, and the line of figures."""
    print(f"{'scans':>6}{'seconds':>9}{'ms a scan':>11}{'driver MB':>11}  seconds of stages")
    for turn in turns:
        for run in turn:
            stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in run.stages.items())
            each = f"{ms_per_scan(run, turn[0]):.1f}" if run is not turn[0] else ""
            print(f"{run.scans:6}{run.seconds:9.1f}{each:>11}{run.driver_mb:11.0f}  {stages}")
    few, many = (median(ms_per_scan(turn[i], turn[0]) for turn in turns) for i in (1, 2))
    figures = {
        "engine_ms_per_scan": round(many, 1),
        "growth": round(many / few, 2),
        "driver_growth_mb": round(median(turn[2].driver_mb - turn[1].driver_mb for turn in turns)),
    }
    print(json.dumps(figures))


def ms_per_scan(run: Run, start: Run) -> float:
    """What the engine takes a scan: the training, and the start, taken off."""
    more = (run.seconds - run.stages["train"]) - (start.seconds - start.stages["train"])
    return 1e3 * more / (run.scans - start.scans)


def rehearse(location: Path, scans: int, settings: Path) -> Run:
    """Fill a store, run the round, and ask whether it was published with every case."""
    fill(Store.create(location), scans, load_round("ots1", "tiny", folder=settings))
    log = location.with_suffix(".jsonl")
    drift = ("--accept-drift", "a network that has learnt nothing")
    of_round = ("--round", "ots2", "--scale", "tiny", "--settings", settings, "--store", location)
    began = time.perf_counter()
    with location.with_suffix(".txt").open("w") as said:
        job = subprocess.Popen(
            [sys.executable, __file__, AS_JOB, *map(str, (*of_round, *drift, "--json-log", log))],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=clean_environment() | {"PYTHONPATH": f"{ROOT}:{JOBS}"},
        )
        _, code, used = os.wait4(job.pid, 0)
    seconds = time.perf_counter() - began
    if code:
        raise SystemExit(location.with_suffix(".txt").read_text())
    assert len(Store.open(location).layer("ots2").cases()) == scans + held_out(scans)
    return Run(scans, seconds, used.ru_maxrss / 1e3, stage_seconds(log))


class Device:
    """Stands for a GPU: labels at once, in which each organ lies in one piece."""

    def __init__(self, *, model: Model) -> None:
        self._labels = np.sort(labels(model.id, ORGANS), axis=None).reshape(GEOMETRY.shape)

    def __call__(self, item: Item) -> Item:
        """Labels on the scan's grid."""
        item.volume = self._labels
        item.fields["seconds"]["network"] = 0.0
        return item


class WithDevice(Resources):
    """What the cluster has, and one device beside it that asks for no core, as a GPU doesn't."""

    devices = 1
    device_options: ClassVar[dict[str, float]] = {"num_cpus": 0}


def job() -> int:
    """jobs/round.py with a simulated device."""
    import round as of_round

    def predicted(store: Store, sources: Sources, model: Model, has: Resources, **options: Any) -> Layer:
        return predict.predict_layer(store, sources, model, WithDevice(*has), **options)

    predict.Predictor = Device  # type: ignore[misc,assignment]
    vars(of_round)["predict_layer"] = predicted
    return of_round.main()


def stage_seconds(log: Path) -> dict[str, float]:
    """Seconds of each stage, by the job's own log."""
    seconds: dict[str, float] = defaultdict(float)
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        seconds[line["stage"].rpartition("· ")[2]] += line["seconds"]
    return dict(seconds)


def held_out(scans: int) -> int:
    """How many scans are held out beside so many that are not."""
    return scans // 40


def fill(store: Store, scans: int, ots1: RoundSettings) -> None:
    """Scans, annotation as partial as FLARE23's, the layers that ots2 compares, the model it starts from."""
    cases = [f"case-{i:05}" for i in range(scans)]
    held = [f"held-{i:05}" for i in range(held_out(scans))]
    generator = np.random.default_rng(0)
    people = [fingerprint(noise(generator, LARGE), (4.0, 4.0, 4.0)) for _ in range(32)]
    for i, case in enumerate((*cases, *held)):
        held_scan = case.startswith("held")
        store.write_scan(
            case,
            noise(generator, GEOMETRY.shape),
            GEOMETRY,
            source=Source(format="nifti", name=f"{case}_0000.nii.gz", digest="5" * 64),
            split="validation" if held_scan else "training",
            fingerprint=people[2 * (i % 16) + held_scan],
        )
    stated = dict.fromkeys(held, FLARE23.ids) | {
        case: FLARE23.ids if i % 16 == 0 else (FLARE23.tumor,)
        for i, case in enumerate(cases)
        if i % 16 == 0 or i % 2
    }
    parents = [layer(store, pins("annotation", [], code="0"), stated)]
    trained = model(store, ots1)
    for name in ("os1", "os2", "ots1"):
        classes = ORGANS if name.startswith("os") else FLARE23.ids
        of_layer = pins(name, parents, code="0")
        if name == "ots1":
            of_layer = of_layer.model_copy(update={"model": trained.pin})
        since = parents[-1] if name != "os1" else None
        parents.append(layer(store, of_layer, dict.fromkeys((*cases, *held), classes), since=since))


def noise(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """HU of a scan that shows nothing."""
    return generator.normal(40, 120, shape).astype(np.int16)


def model(store: Store, settings: RoundSettings) -> Model:
    """A model as a round keeps it, that has learnt nothing."""
    prediction = settings.prediction
    channels = channels_of(prediction.activation, prediction.classes)
    network = build_network(prediction.network, len(channels), prediction.supervision)
    of_model = ModelPins(
        name=settings.name, targets=(), starts_from=None, settings=settings.pinned(), cases=(), code="0"
    )
    with TemporaryDirectory() as folder:
        save_file(network.state_dict(), Path(folder, WEIGHTS))
        Path(folder, "curve.json").write_text("[]", encoding="utf-8")
        return keep_model(store, of_model, Path(folder), prediction)


def layer(
    store: Store,
    of_layer: AnnotationPins | PredictionPins,
    stated: Mapping[str, Sequence[int]],
    *,
    since: Layer | None = None,
) -> Layer:
    """A published layer of noise in the classes that each case states, and what changed `since` another."""
    rules = (f"{SINCE}{since.id}",) if since else ()
    draft = store.draft(of_layer.model_copy(update={"rules": rules}))
    for case, classes in stated.items():
        volume = labels(of_layer.name, tuple(classes))
        measures = measured_changes(since, volume, case) if since else {}
        draft.write(case, volume, annotated_classes=classes, seconds={}, measures=measures)
    return draft.publish(stated)


def labels(name: str, classes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Labels (z, y, x) in which every class has some voxels; another layer has others."""
    drawn: NDArray[np.int64] = np.random.default_rng(len(name)).choice((0, *classes), GEOMETRY.shape)
    return drawn.astype(np.uint8)


if __name__ == "__main__":
    if AS_JOB in sys.argv:
        sys.argv.remove(AS_JOB)
        run_job(job)
    main()

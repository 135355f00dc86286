"""Do the devices wait? A corpus of scans through the prediction pipeline, with 1, 2 and 4 simulated devices.

python benchmarks/pipeline.py [--scans 40] [--devices 1 2 4] [--seconds-a-window 0.05]

Everything is the round's own, on Ray Data: prepared scans are read from the store, labels are post-processed
on the scan's grid, compressed and committed to a draft. Only the network is replaced by a device that takes
so many seconds a window (0.05 s is 20 TFLOP/s at the paper's 995 GFLOP a window) and uses no core. Scans are
the real CTs of ../shared/data over and over (else phantoms), at the paper's spacing and windows.

`idle` is the share of the devices' time, from the first scan that one of them got to the last it gave back,
in which they had none. `scaling` is the time with one device over n times that with n. `engine` is a run
whose network takes no time: cores x seconds a scan, so what everything but the network costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.phantom import make_phantom  # noqa: E402
from pwsseg.arrays.resampling import resample_labels  # noqa: E402
from pwsseg.arrays.sliding import place_windows  # noqa: E402
from pwsseg.formats.reading import read_volume  # noqa: E402
from pwsseg.formats.volume import Volume  # noqa: E402
from pwsseg.networks.prediction import PredictionSettings  # noqa: E402
from pwsseg.pipelines.cluster import cluster  # noqa: E402
from pwsseg.pipelines.over_cases import Item, Stage, check_done, over_cases  # noqa: E402
from pwsseg.pipelines.predict import load_prepared, write_layer  # noqa: E402
from pwsseg.pipelines.prepare import prepared_scan  # noqa: E402
from pwsseg.pipelines.progress import Progress  # noqa: E402
from pwsseg.rounds import RoundSettings, load_round  # noqa: E402
from pwsseg.store import Pin, PredictionPins, Source, Store  # noqa: E402
from pwsseg.values import FLARE23, Geometry  # noqa: E402

REAL = ROOT.parent / "shared" / "data" / "flare" / "imagesTr"


class Run(NamedTuple):
    """One corpus through the pipeline."""

    seconds: float
    busy: float
    idle: float
    driver_mb: float


class Passage(NamedTuple):
    """What a corpus was on its way through the pipeline."""

    items: list[Item]
    devices: int
    whole: float
    """Seconds, with the start of the workers."""
    seconds: float
    """From the first scan that a device got to the last it gave back."""
    busy: float

    @property
    def idle(self) -> float:
        """The share of the devices' time in which they had no scan."""
        return 1 - self.busy / (self.devices * self.seconds)


class Device:
    """Takes as long as a GPU would, and answers with a phantom's labels."""

    def __init__(self, *, settings: PredictionSettings, seconds_a_window: float) -> None:
        self._settings, self._seconds = settings, seconds_a_window
        self._labels = make_phantom(0).labels

    def __call__(self, item: Item) -> Item:
        """Labels on the scan's grid, after the time that its windows take."""
        began = time.time()
        z, y, x = item.volume.shape
        windows = place_windows((z, y, x), self._settings.patch, overlap=self._settings.overlap)
        native = Geometry.model_validate(item.fields["geometry"])
        item.volume = resample_labels(self._labels, native.shape)
        time.sleep(max(0.0, began + self._seconds * len(windows) - time.time()))
        item.fields["seconds"] |= {"device_began": began, "device_ended": time.time()}
        return item


def corpus_volumes() -> list[Volume]:
    """The real CTs, or phantoms where none is at hand."""
    files = sorted(REAL.glob("*.nii.gz")) if REAL.is_dir() else []
    return [read_volume(f) for f in files] or [phantom(i) for i in range(3)]


def fill(location: Path, settings: RoundSettings, scans: int, sources: list[Volume]) -> None:
    """A store of so many scans, `sources` over and over, of which the prepared cache is full."""
    store = Store.create(location)
    made = [prepared_scan(s.array, s.geometry, settings.prediction) for s in sources]
    for i in range(scans):
        volume, (prepared, grid) = sources[i % len(sources)], made[i % len(sources)]
        case, source = f"case-{i:03}", Source(format="nifti", name=f"{i}.nii.gz", digest="5" * 64)
        scan = store.write_scan(case, volume.array, volume.geometry, source=source, split="training")
        store.prepared(settings.recipe).write(case, prepared, grid, scan.digest)


def phantom(number: int) -> Volume:
    """Where no real CT is at hand."""
    made = make_phantom(0, number)
    return Volume(made.hu, made.geometry)


def run(location: Path, settings: RoundSettings, *, devices: int, seconds_a_window: float) -> Run:
    """The corpus once, on a Ray of this process that says it has so many GPUs."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    cores = len(os.sched_getaffinity(0))
    ray.init(num_cpus=cores, num_gpus=devices, include_dashboard=False, log_to_driver=False, logging_level=40)
    passage = pass_through(Store.open(location), settings, Device, seconds_a_window)
    ray.shutdown()
    driver_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Run(passage.whole, passage.busy, passage.idle, driver_mb)


def pass_through(
    store: Store, settings: RoundSettings, device: type[Device], seconds_a_window: float
) -> Passage:
    """The store's scans through the round's own pipeline on the Ray that this process is led to."""
    longest_first = sorted(store.cases(), key=lambda case: -store.scan(case).geometry.voxels)
    simulated = {"settings": settings.prediction, "seconds_a_window": seconds_a_window}
    with cluster() as resources, Path(os.devnull).open("w") as nowhere:
        draft = store.draft(pins(resources.devices, seconds_a_window))
        stages = [
            Stage(load_prepared, {"location": store.location, "settings": settings}),
            Stage(device, simulated, device=True),
            Stage(write_layer, {"draft": draft, "since": None, "settings": settings.prediction}),
        ]
        began = time.perf_counter()
        progress = Progress("predict", len(longest_first), out=nowhere)
        items = over_cases([Item(c) for c in longest_first], stages, resources=resources, progress=progress)
        whole = time.perf_counter() - began
    check_done(items, "{case} was not predicted")
    draft.discard()
    begun, ended = (np.array([i.fields["seconds"][f"device_{w}"] for i in items]) for w in ("began", "ended"))
    span, busy = float(ended.max() - begun.min()), float((ended - begun).sum())
    return Passage(items, resources.devices, whole, span, busy)


def pins(devices: int, seconds_a_window: float) -> PredictionPins:
    """Another draft for every run."""
    return PredictionPins(
        name="pipeline",
        kind="prediction",
        classes=FLARE23.ids,
        parents=(),
        model=Pin(id="none.v1", digest="0" * 64),
        settings={"devices": devices, "seconds_a_window": seconds_a_window},
        rules=(),
        code="benchmark",
    )


def apart(location: Path, devices: int, seconds_a_window: float) -> Run:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--once", str(location), str(devices), str(seconds_a_window)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return Run(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds-a-window", type=float, default=0.05)
    parser.add_argument("--once", nargs=3, metavar=("STORE", "DEVICES", "SECONDS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = load_round("ots2", "flare23", folder=ROOT / "jobs")
    if given.once:
        place, devices, seconds = given.once
        found = run(Path(place), settings, devices=int(devices), seconds_a_window=float(seconds))
        print(json.dumps(found))
        return
    cores = len(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        location = Path(folder) / "store"
        fill(location, settings, given.scans, corpus_volumes())
        engine = apart(location, 1, 0.0)
        print(f"{given.scans} scans, {cores} cores, {given.seconds_a_window} s a window")
        print(f"{'devices':>8}{'seconds':>9}{'busy':>9}{'idle':>8}{'scaling':>9}{'driver MB':>11}")
        runs = {}
        for devices in given.devices:
            runs[devices] = r = apart(location, devices, given.seconds_a_window)
            scaling = runs[given.devices[0]].seconds * given.devices[0] / (devices * r.seconds)
            print(
                f"{devices:8}{r.seconds:9.1f}{r.busy:9.1f}{r.idle:8.1%}{scaling:9.2f}{r.driver_mb:11.0f}",
                flush=True,
            )
    last = given.devices[-1]
    figures = {
        "idle_share": round(max(r.idle for r in runs.values()), 3),
        "scaling": round(runs[given.devices[0]].seconds * given.devices[0] / (last * runs[last].seconds), 3),
        "engine_seconds_per_scan": round(cores * engine.seconds / given.scans, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

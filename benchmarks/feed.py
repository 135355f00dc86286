"""Patches a second of one core: read and cut in the training worker, as we do, or streamed by Ray Data.

python benchmarks/feed.py [--patches 64] [--rounds 3]

Both read the same prepared phantoms from one store and cut the same kind of patches by the same code, at the
sizes of the scales `laptop` and `flare23`. Ray Data runs it in one actor of one core and hands batches to the
driver, as it would to a training worker; starting it is not counted. In turn, medians. What the other way
could win is that cutting runs beside the training, on cores that the training leaves idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.phantom import make_phantom  # noqa: E402
from pwsseg.pipelines.cluster import cluster  # noqa: E402
from pwsseg.pipelines.feed import FeedPlan, PatchFeed  # noqa: E402
from pwsseg.pipelines.prepare import prepared_scan  # noqa: E402
from pwsseg.rounds import RoundSettings, load_round  # noqa: E402
from pwsseg.store import AnnotationPins, Source, Store  # noqa: E402
from pwsseg.values import FLARE23  # noqa: E402

CASES = 4
SCALES = ("laptop", "flare23")


def main() -> None:
    """Measure both scales and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patches", type=int, default=64, help="patches a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way, in turn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    answer = {}
    print(f"{'scale':10}{'patch':16}{'in the worker':>16}{'Ray Data':>12}{'ratio':>8}   patches a second")
    for scale in SCALES:
        settings = load_round("ots2", scale, folder=ROOT / "jobs")
        with TemporaryDirectory() as folder:
            plan = fill(Path(folder) / "store", settings)
            inside, streamed = measure(plan, settings, patches=given.patches, rounds=given.rounds)
        size = "x".join(map(str, settings.stage.patch))
        print(f"{scale:10}{size:16}{inside:16.1f}{streamed:12.1f}{inside / streamed:8.2f}", flush=True)
        answer[f"feed_vs_ray_data_{scale}"] = round(inside / streamed, 2)
        answer[f"patches_a_second_{scale}"] = round(inside, 1)
    print(json.dumps(answer))


def fill(location: Path, settings: RoundSettings) -> FeedPlan:
    """A store with a few phantoms, their truth as targets, and their prepared scans."""
    store = Store.create(location)
    pins = AnnotationPins(
        name="annotation",
        kind="annotation",
        classes=FLARE23.ids,
        parents=(),
        model=None,
        settings={},
        rules=(),
        code="benchmark",
    )
    draft = store.draft(pins)
    cases = tuple(f"case-{i}" for i in range(CASES))
    for i, case in enumerate(cases):
        phantom = make_phantom(0, i, tumors=2)
        source = Source(format="nifti", name=f"{case}.nii.gz", digest="5" * 64)
        scan = store.write_scan(case, phantom.hu, phantom.geometry, source=source, split="training")
        draft.write(case, phantom.labels, annotated_classes=FLARE23.ids, seconds={})
        volume, grid = prepared_scan(phantom.hu, phantom.geometry, settings.prediction)
        store.prepared(settings.recipe).write(case, volume, grid, scan.digest)
    layer = draft.publish(cases)
    return FeedPlan(store.location, layer.id, cases, ())


def measure(plan: FeedPlan, settings: RoundSettings, *, patches: int, rounds: int) -> tuple[float, float]:
    """Patches a second in the worker, and by Ray Data: medians, in turn."""
    inside, streamed = [], []
    with cluster():
        for number in range(rounds + 1):  # the first warms up
            inside.append(patches / seconds(in_worker(plan, settings, patches, number)))
            streamed.append(patches / seconds(by_ray_data(plan, settings, patches, number)))
    return statistics.median(inside[1:]), statistics.median(streamed[1:])


def seconds(batches: Iterator[Any]) -> float:
    """From the first batch, which starting is part of, to the last; scaled to all of them."""
    next(batches)
    began, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
    return (time.perf_counter() - began) * (count + 1) / count


def in_worker(plan: FeedPlan, settings: RoundSettings, patches: int, epoch: int) -> Iterator[Any]:
    """Our way: one worker's feed."""
    feed = PatchFeed(plan, settings, rank=0, workers=1).epoch(epoch)
    for _ in range(patches // settings.stage.labelled_batch):
        yield next(feed)


def by_ray_data(plan: FeedPlan, settings: RoundSettings, patches: int, epoch: int) -> Iterator[Any]:
    """The same patches as a stream of Ray Data."""
    import ray.data

    random = np.random.default_rng(epoch)
    each = settings.scale.patches_each
    order = [plan.labelled[i] for i in random.integers(0, len(plan.labelled), patches // each + 1)]
    rows = [
        {"case": case, "seed": epoch * patches + i} for i, case in enumerate(np.repeat(order, each)[:patches])
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=max(1, patches // 8)).map(
        Cutter, fn_constructor_args=(plan, settings), compute=ray.data.ActorPoolStrategy(size=1), num_cpus=1
    )
    yield from dataset.iter_torch_batches(batch_size=settings.stage.labelled_batch)


class Cutter:
    """One actor's feed."""

    def __init__(self, plan: FeedPlan, settings: RoundSettings) -> None:
        torch.set_num_threads(1)
        self._feed = PatchFeed(plan, settings, rank=0, workers=1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with the patch of the row's case."""
        patch = self._feed.cut(self._feed.load(str(row["case"])), np.random.default_rng(int(row["seed"])))
        assert patch.labels is not None
        return {"image": patch.image.numpy(), "labels": patch.labels.numpy(), "known": patch.known}


if __name__ == "__main__":
    main()

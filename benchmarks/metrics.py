"""Our DSC and NSD beside DeepMind's package surface-distance, on real label maps, a phantom and ellipsoids.

python benchmarks/metrics.py

Each label map is scored against itself moved by a voxel or two along every axis: every class, whole volumes,
as an evaluation calls it. Both must give the same figures. Times are medians, in alternating order. Real maps
are read from ../shared/data/flare/labelsTr where that is there; the phantom of 14 classes at 512 x 512 x 300
and the ellipsoids are always made. The phantom's ratio is "time_vs_surface_distance", that of all the others
together "time_vs_surface_distance_small".

surface-distance 0.1 still uses np.Inf and np.NaN, which NumPy 2 removed; they are set here, in this process
only, so that both run on the same NumPy.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.metrics import score_case  # noqa: E402
from pwsseg.arrays.phantom import make_phantom  # noqa: E402
from pwsseg.formats.nifti import read_labels  # noqa: E402
from pwsseg.values import FLARE23  # noqa: E402

np.Inf, np.NaN = np.inf, np.nan  # type: ignore[attr-defined]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance

REAL = ROOT.parent / "shared" / "data" / "flare" / "labelsTr"
REPEATS = 5
REPEATS_OF_THE_LARGEST = 2
"""It takes the peer a minute."""
LARGEST = (300, 512, 512)
MOVED = (1, 2, 2)
"""Voxels (z, y, x) by which the scored labels are moved."""

Scores = dict[int, tuple[float, float]]


class Task(NamedTuple):
    """One pair of label maps (z, y, x) to be scored."""

    name: str
    prediction: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    classes: list[int]

    @property
    def repeats(self) -> int:
        """How often each of the two is timed."""
        return REPEATS_OF_THE_LARGEST if self.reference.shape == LARGEST else REPEATS


def task(name: str, labels: NDArray[np.uint8], spacing: tuple[float, float, float]) -> Task:
    """The labels against themselves moved, in all classes that they have."""
    return Task(name, moved(labels), labels, spacing, [int(c) for c in np.unique(labels) if c])


def tasks() -> Iterator[Task]:
    """The real maps that are there, the ellipsoids, the phantom."""
    for path in sorted(REAL.glob("*.nii.gz")):
        volume = read_labels(path)
        yield task(path.name, volume.array, volume.geometry.spacing)
    for shape, spacing in (((48, 128, 128), (2.5, 0.8, 0.8)), ((96, 96, 96), (1.0, 1.0, 1.0))):
        yield task("ellipsoids " + "x".join(map(str, shape)), ellipsoids(shape), spacing)
    yield task("phantom " + "x".join(map(str, LARGEST)), phantom(LARGEST), (0.8, 0.625, 0.625))


def phantom(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A made-up abdomen of all 14 classes, each enlarged in its own box with smooth borders."""
    small = make_phantom(0, 17, tumors=3).labels
    zoom = [new / old for new, old in zip(shape, small.shape, strict=True)]
    large = np.zeros(shape, np.uint8)
    for label, box in enumerate(ndimage.find_objects(small), start=1):
        wider = [
            slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, small.shape, strict=True)
        ]
        place = tuple(slice(round(s.start * f), round(s.stop * f)) for s, f in zip(wider, zoom, strict=True))
        mask = (small[tuple(wider)] == label).astype(np.float32)
        factors = [(p.stop - p.start) / n for p, n in zip(place, mask.shape, strict=True)]
        large[place][ndimage.zoom(mask, factors, order=1, mode="nearest", grid_mode=True) > 0.5] = label
    return large


def ellipsoids(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Four ellipsoids of different size: liver, spleen, aorta, tumor."""
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    labels = np.zeros(shape, dtype=np.uint8)
    for label, centre, radii in (
        (1, (0.0, -0.3, -0.4), (0.7, 0.4, 0.4)),
        (3, (0.2, 0.4, 0.5), (0.3, 0.2, 0.2)),
        (5, (0.0, 0.3, 0.0), (0.9, 0.08, 0.08)),
        (14, (0.1, -0.3, -0.4), (0.1, 0.1, 0.1)),
    ):
        terms = [((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True)]
        labels[terms[0][:, None, None] + terms[1][:, None] + terms[2] <= 1] = label
    return labels


def moved(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The labels moved by MOVED; what comes in from outside is background."""
    result = np.zeros_like(labels)
    z, y, x = MOVED
    result[z:, y:, x:] = labels[:-z, :-y, :-x]
    return result


def ours(task: Task) -> Scores:
    """What the project computes."""
    found = score_case(
        task.prediction, task.reference, spacing=task.spacing, classes=task.classes, mode="clean"
    )
    return {label: (score.dsc, score.nsd) for label, score in found.items()}


def peer(task: Task) -> Scores:
    """The same by surface-distance, which wants (x, y, z)."""
    scores = {}
    for label in task.classes:
        reference, prediction = ((v == label).transpose() for v in (task.reference, task.prediction))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            found = surface_distance.compute_surface_distances(reference, prediction, task.spacing[::-1])
        tolerance = FLARE23[label].nsd_tolerance_mm
        scores[label] = (
            float(surface_distance.compute_dice_coefficient(reference, prediction)),
            float(surface_distance.compute_surface_dice_at_tolerance(found, tolerance)),
        )
    return scores


def timed(function: Callable[[Task], Scores], task: Task) -> tuple[float, Scores]:
    """How long one call takes, and what it gives."""
    began = perf_counter()
    scores = function(task)
    return perf_counter() - began, scores


def difference(a: Scores, b: Scores) -> float:
    """The largest difference of a figure between two sets of scores."""
    return max(abs(p - q) for label in a for p, q in zip(a[label], b[label], strict=True))


def main() -> None:
    """Print the table and the line of figures."""
    print(f"{'labels':28}{'voxels':>14}{'classes':>9}{'ours s':>9}{'peer s':>9}{'ratio':>8}{'apart':>10}")
    small = {ours: 0.0, peer: 0.0}
    worst = largest = 0.0
    for each in tasks():
        times: dict[Callable[[Task], Scores], list[float]] = {ours: [], peer: []}
        scores: dict[Callable[[Task], Scores], Scores] = {}
        for i in range(each.repeats):
            for function in (ours, peer) if i % 2 == 0 else (peer, ours):
                taken, scores[function] = timed(function, each)
                times[function].append(taken)
        apart = difference(scores[ours], scores[peer])
        worst = max(worst, apart)
        mine, theirs = median(times[ours]), median(times[peer])
        if each.reference.shape == LARGEST:
            largest = mine / theirs
        else:
            small = {ours: small[ours] + mine, peer: small[peer] + theirs}
        print(
            f"{each.name:28}{each.reference.size:14,}{len(each.classes):9}{mine:9.3f}{theirs:9.3f}"
            f"{mine / theirs:8.3f}{apart:10.1e}",
            flush=True,
        )
    figures = {
        "time_vs_surface_distance": round(largest, 4),
        "time_vs_surface_distance_small": round(small[ours] / small[peer], 4),
        "max_abs_difference": worst,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

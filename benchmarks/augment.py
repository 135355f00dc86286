"""Bent training patches a second, beside TorchIO's, on one core.

python benchmarks/augment.py

A patch with its labels is turned by up to 10 degrees, scaled by up to 10 % and bent by about 3 mm, from a
volume in memory. Ours is `warp_patch`. TorchIO is given three ways, the fastest of which counts:

- volume: RandomAffine and RandomElasticDeformation of the volume, then a crop, as its documentation has it;
- window: a window 1.4 times as long as the patch is cut first, then the same two, then the centre is kept;
- window, one pass: the same with RandomAffineElasticDeformation, which composes both.

It bends with cubic B-splines of its least number of control points, we with piecewise linear fields. Times
are medians in alternating order. `patches_vs_torchio`: our patches a second by theirs, at the paper's size.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import SimpleITK
import torch
import torchio

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.augmentation import AugmentationSettings, warp_patch  # noqa: E402

REPEATS = 3
MARGIN = 1.4
Shape = tuple[int, int, int]
HOW = AugmentationSettings(
    rotation_degrees=10, scaling=0.1, elastic_mm=3, elastic_spacing_mm=80, gain=0, shift=0
)
AFFINE = {"scales": 0.1, "degrees": 10}
ELASTIC = {"num_control_points": 4, "max_displacement": 6, "locked_borders": 0}


class Task(NamedTuple):
    """Patches of one size from one volume."""

    name: str
    volume: Shape
    patch: Shape
    spacing: tuple[float, float, float]


TASKS = (
    Task("paper", (96, 280, 280), (48, 192, 192), (2.5, 0.8, 0.8)),
    Task("laptop", (60, 90, 90), (32, 64, 64), (5.0, 4.0, 4.0)),
)


def ours(task: Task) -> Callable[[int], object]:
    """One patch of ours, by seed."""
    image, labels = arrays(task)

    def cut(seed: int) -> object:
        z, y, x = ((n - 1) / 2 for n in task.volume)
        random = np.random.default_rng(seed)
        return warp_patch(
            image,
            labels,
            centre=(z, y, x),
            patch=task.patch,
            spacing=task.spacing,
            settings=HOW,
            random=random,
        )

    return cut


def peer(task: Task, bend: torchio.Transform, *, window: bool) -> Callable[[int], object]:
    """One patch of TorchIO's, whose axes are (x, y, z)."""
    image, labels = (a.permute(2, 1, 0)[None].contiguous() for a in arrays(task))
    affine = np.diag([*task.spacing[::-1], 1.0])
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=image, affine=affine),
        labels=torchio.LabelMap(tensor=labels, affine=affine),
    )
    x, y, z = (round(MARGIN * n) for n in reversed(task.patch))
    to_window = torchio.CropOrPad((x, y, z)) if window else torchio.Compose([])
    to_patch = torchio.CropOrPad(task.patch[::-1])

    def cut(seed: int) -> object:
        torch.manual_seed(seed)
        return to_patch(bend(to_window(subject)))

    return cut


def arrays(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """A volume (z, y, x) and its labels."""
    random = np.random.default_rng(0)
    image = torch.from_numpy(random.normal(size=task.volume).astype(np.float32))
    return image, torch.from_numpy(random.integers(0, 14, task.volume).astype(np.uint8))


def measure(functions: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Seconds a patch, medians, the functions in turn, every other time backwards."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for seed in range(REPEATS + 1):
        for name in list(functions) if seed % 2 else list(functions)[::-1]:
            began = perf_counter()
            functions[name](seed)
            times[name].append(perf_counter() - began)
    return {name: median(seconds[1:]) for name, seconds in times.items()}  # the first one warms up


def main() -> None:
    """Print the table and the line of figures."""
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    both = torchio.Compose([torchio.RandomAffine(**AFFINE), torchio.RandomElasticDeformation(**ELASTIC)])
    composed = torchio.RandomAffineElasticDeformation(affine_kwargs=AFFINE, elastic_kwargs=ELASTIC)
    ratios = {}
    print(f"{'patch':24}{'':24}{'ms a patch':>12}{'patches a second':>18}{'ours / theirs':>15}")
    for task in TASKS:
        seconds = measure(
            {
                "ours": ours(task),
                "TorchIO, volume": peer(task, both, window=False),
                "TorchIO, window": peer(task, both, window=True),
                "TorchIO, window, one pass": peer(task, composed, window=True),
            }
        )
        mine = seconds.pop("ours")
        size = f"{task.name} " + "x".join(map(str, task.patch))
        print(f"{size:24}{'ours':26}{mine * 1e3:10.1f}{1 / mine:18.2f}")
        for name, theirs in seconds.items():
            print(f"{'':24}{name:26}{theirs * 1e3:10.1f}{1 / theirs:18.2f}{theirs / mine:15.1f}", flush=True)
        ratios[task.name] = round(min(seconds.values()) / mine, 2)
    print(json.dumps({"patches_vs_torchio": ratios["paper"], "patches_vs_torchio_laptop": ratios["laptop"]}))


if __name__ == "__main__":
    main()

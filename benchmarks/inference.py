"""Our sliding window beside nnU-Net's and MONAI's: same network, same weights, same prepared scan.

python benchmarks/inference.py [--repeats 5] [--large] [--model FOLDER --scans FOLDER]

Each labels a prepared scan; ours goes on to the labels on the scan's own grid, the peers stop at labels on
the network's grid, so they are asked for less. Overlap 0.5 and Gaussian blending for both peers, no
mirroring, one thread, alternating order, medians; MONAI a second time in our precision. The network has the
paper's patch and few channels.
Scans: a real CT of ../shared/data (else a phantom), and with --large the same one made 512 x 512 x 300.

What fewer windows cost in accuracy is said with trained weights: those of `make demo`, on its held-out scans,
ours at each overlap against every window at overlap 0.5, and against the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.labelling import write_labels_on_grid  # noqa: E402
from pwsseg.arrays.phantom import make_phantom  # noqa: E402
from pwsseg.arrays.resampling import resample_scan  # noqa: E402
from pwsseg.arrays.sliding import covered, place_windows, stream  # noqa: E402
from pwsseg.formats.nifti import read_labels, read_scan  # noqa: E402
from pwsseg.networks.precision import autocast  # noqa: E402
from pwsseg.networks.prediction import PredictionSettings  # noqa: E402
from pwsseg.networks.supervision import build_network  # noqa: E402
from pwsseg.pipelines.labeller import Labeller, load_labeller, post_processed  # noqa: E402
from pwsseg.pipelines.models import model_in_folder  # noqa: E402
from pwsseg.pipelines.prepare import prepared_scan  # noqa: E402
from pwsseg.values import Geometry, orientation_of  # noqa: E402

REAL = ROOT.parent / "shared" / "data" / "flare" / "imagesTr" / "crlm1004_0000.nii.gz"
LARGE = (300, 512, 512)
DENSE = 0.5
CPU = torch.device("cpu")
CHANNELS = 15
OVERLAPS = (0.0, 0.125, 0.25, 0.375, 0.5)
SETTINGS = {
    "network": {
        "kind": "plain-conv-unet",
        "widths": (8, 16, 32, 64),
        "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        "stem": (2, 2, 2),
        "convolutions": 2,
        "prior": 0.5,
    },
    "supervision": "plain",
    "predict_with": "f1",
    "activation": "softmax",
    "classes": tuple(range(1, 15)),
    "spacing": (2.5, 0.8, 0.8),
    "clip_hu": (-325.0, 325.0),
    "patch": (48, 192, 192),
    "overlap": 0.25,
    "windows_a_batch": 2,
    "post_processing": {"largest_component": False, "floor_ml": {}},
}

Labels = NDArray[np.uint8]


class Counted(torch.nn.Module):
    """A network that counts the patches it has seen."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, 0

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """What the network says."""
        self.seen += len(patches)
        logits: torch.Tensor = self.network(patches)
        return logits


class Task(NamedTuple):
    """A prepared scan (z, y, x) float16 and the grid that it comes from."""

    name: str
    volume: NDArray[np.float16]
    native: Geometry


class Result(NamedTuple):
    """One run of one method."""

    seconds: float
    windows: int
    peak_gb: float


def nnunet_predictor(network: torch.nn.Module, patch: tuple[int, int, int], channels: int) -> Any:
    """nnU-Net's own predictor around our network."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=DENSE,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network, predictor.allowed_mirroring_axes = network, None
    predictor.configuration_manager = SimpleNamespace(patch_size=patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=channels)
    return predictor


def nnunet(network: Counted, settings: PredictionSettings, task: Task) -> None:
    """Labels on the network's grid by nnU-Net."""
    predictor = nnunet_predictor(network, settings.patch, CHANNELS)
    volume = torch.from_numpy(task.volume.astype(np.float32))[None]
    predictor.predict_sliding_window_return_logits(volume).max(0)


def monai(network: Counted, settings: PredictionSettings, task: Task) -> None:
    """Labels on the network's grid by MONAI."""
    from monai.inferers import sliding_window_inference

    volume = torch.from_numpy(task.volume.astype(np.float32))[None, None]
    batch = settings.windows_a_batch
    scores: Any = sliding_window_inference(
        volume, settings.patch, batch, network, overlap=DENSE, mode="gaussian"
    )
    scores.max(1)


def ours(network: Counted, settings: PredictionSettings, task: Task) -> None:
    """Labels on the scan's own grid by us."""
    Labeller(settings, network, CPU).labels(task.volume, task.native)


def monai_as_precise(network: Counted, settings: PredictionSettings, task: Task) -> None:
    """The same in the precision that ours takes: bf16 where the processor multiplies it."""
    with autocast(CPU):
        monai(network, settings, task)


METHODS = {"ours": ours, "nnU-Net": nnunet, "MONAI": monai, "MONAI bf16": monai_as_precise}


def measured(
    method: Callable[..., None], network: Counted, settings: PredictionSettings, task: Task
) -> Result:
    """Seconds, patches and peak memory of one run."""
    network.seen = 0
    reset_peak()
    began = perf_counter()
    with torch.inference_mode():
        method(network, settings, task)
    return Result(perf_counter() - began, network.seen, peak_bytes() / 1e9)


def reset_peak() -> None:
    """Let Linux forget the highest memory that this process had."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The highest memory since then."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def real_task(settings: PredictionSettings, *, large: bool) -> Task:
    """The real CT, or a phantom; with `large` at 512 x 512 x 300 voxels of 0.8 x 0.8 x 1.25 mm."""
    if REAL.exists():
        scan, geometry = read_scan(REAL)
    else:
        made = make_phantom(0)
        scan, geometry = made.hu, made.geometry
    name = REAL.name.partition("_")[0] if REAL.exists() else "phantom"
    if large:
        scan = resample_scan(scan, LARGE).astype(np.int16)
        said = {"shape": LARGE, "spacing": (1.25, 0.8, 0.8)}
        geometry = Geometry.model_validate(geometry.model_dump() | said)
    volume, _ = prepared_scan(scan, geometry, settings)
    return Task(f"{name}{' as 300 slices' if large else ''}", volume, geometry)


def race(task: Task, settings: PredictionSettings, repeats: int) -> dict[str, Result]:
    """Medians of all methods, in alternating order."""
    torch.manual_seed(0)
    network = Counted(build_network(settings.network, CHANNELS, "plain").eval())
    runs: dict[str, list[Result]] = {name: [] for name in METHODS}
    for i in range(repeats):
        for name in list(METHODS)[:: 1 if i % 2 == 0 else -1]:
            runs[name].append(measured(METHODS[name], network, settings, task))
    return {
        name: Result(median(r.seconds for r in rs), rs[0].windows, max(r.peak_gb for r in rs))
        for name, rs in runs.items()
    }


def dice(a: Labels, b: Labels, classes: Iterable[int]) -> float:
    """The mean over those of the classes that either has; 1 where neither has any."""
    found = [c for c in classes if (a == c).any() or (b == c).any()]
    each = [2 * np.sum((a == c) & (b == c)) / (np.sum(a == c) + np.sum(b == c)) for c in found]
    return float(np.mean(each)) if each else 1.0


class HeldOut(NamedTuple):
    """A prepared scan, its grid, the scan's own grid, and the truth there."""

    volume: NDArray[np.float16]
    grid: Geometry
    native: Geometry
    truth: Labels


def held_out(settings: PredictionSettings, scans: Path) -> list[HeldOut]:
    """The held-out scans of a corpus in FLARE's layout."""
    found = []
    for file in sorted((scans / "imagesVal").glob("*_0000.nii.gz")):
        scan = read_scan(file)
        truth = read_labels(scans / "labelsVal" / file.name.replace("_0000", "")).array
        found.append(HeldOut(*prepared_scan(scan.array, scan.geometry, settings), scan.geometry, truth))
    return found


def dense_labels(labeller: Labeller, volume: NDArray[np.float16], geometry: Geometry) -> Labels:
    """The plain method: every window of the whole volume at overlap 0.5, labels on the grid asked for."""
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    windows = place_windows(shape, labeller.settings.patch, overlap=DENSE)
    with torch.inference_mode():
        write_labels_on_grid(
            stream(torch.from_numpy(volume), labeller.scores, windows),
            covered(windows, shape),
            shape,
            classes=labeller.settings.classes,
            out=orientation_of(geometry).apply(labels),
        )
    return labels


def overlap_table(model: Path, scans: Path) -> float:
    """Print overlap against windows, time and Dice with trained weights; Dice at the model's own overlap."""
    labeller = load_labeller(model_in_folder(model))
    own, (*organs, tumor) = labeller.settings, labeller.settings.classes
    groups, cases = (organs, [tumor], own.classes), held_out(labeller.settings, scans)
    expected = [post_processed(dense_labels(labeller, c.volume, c.grid), c.grid, own) for c in cases]
    print(f"\n{len(cases)} held-out scans, weights of {model}, patch {own.patch}; Dice")
    print(f"{'':26}{'with dense 0.5':>24}{'with truth':>24}")
    print(f"{'overlap':>8}{'windows':>9}{'seconds':>9}" + 2 * f"{'organs':>8}{'tumor':>8}{'all':>8}")
    agreed = {}
    for overlap in (*sorted({*OVERLAPS, own.overlap}), None):
        network = Counted(labeller.network)
        chosen = Labeller(own.model_copy(update={"overlap": overlap or 0.0}), network, CPU)
        label = chosen.labels if overlap is not None else partial(dense_labels, chosen)
        began = perf_counter()
        made = [post_processed(label(c.volume, c.grid), c.grid, own) for c in cases]
        seconds, windows = perf_counter() - began, network.seen
        native = [post_processed(label(c.volume, c.native), c.native, own) for c in cases]
        rows = [
            [dice(labels, dense, g) for g in groups] + [dice(there, case.truth, g) for g in groups]
            for labels, dense, there, case in zip(made, expected, native, cases, strict=True)
        ]
        means = np.mean(rows, axis=0)
        name = "dense" if overlap is None else f"{overlap:.3f}"
        print(f"{name:>8}{windows:9}{seconds:9.1f}" + "".join(f"{m:8.4f}" for m in means), flush=True)
        agreed[overlap] = float(means[2])
    return agreed[own.overlap]


def main() -> None:
    """Print both tables and the line of figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each method (default: 5)")
    parser.add_argument("--large", action="store_true", help="also 512 x 512 x 300, once each: long on a CPU")
    parser.add_argument("--model", type=Path, default=ROOT / "demo/store/models/ots2.v1", help="trained")
    parser.add_argument("--scans", type=Path, default=ROOT / "demo/corpus", help="with imagesVal, labelsVal")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = PredictionSettings.model_validate(SETTINGS)
    figures: dict[str, float | None] = {}
    print(
        f"{'scan':24}{'prepared':>15}{'method':>12}{'seconds':>9}{'windows':>9}{'peak GB':>9}{'ours/it':>9}"
    )
    for large in (False, True) if given.large else (False,):
        task = real_task(settings, large=large)
        results = race(task, settings, 1 if large else given.repeats)
        for name, r in results.items():
            shape = "x".join(map(str, task.volume.shape))
            ratio = results["ours"].seconds / r.seconds
            print(
                f"{task.name:24}{shape:>15}{name:>12}{r.seconds:9.1f}{r.windows:9}{r.peak_gb:9.2f}{ratio:9.2f}",
                flush=True,
            )
            figures[f"time_vs_{name.lower().replace('-', '').replace(' ', '_')}"] = round(ratio, 3)
        limit = 1.5 * task.volume.size / np.prod(settings.patch)
        figures["passes_over_limit"] = round(results["ours"].windows / float(limit), 3)
    figures.pop("time_vs_ours")
    trained = (given.model / "model.json").exists() and (given.scans / "imagesVal").is_dir()
    if not trained:
        print(f"\nno trained weights at {given.model}: `make demo` makes them; dice_vs_dense is null")
    figures["dice_vs_dense"] = round(overlap_table(given.model, given.scans), 4) if trained else None
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""From a file on disk to a prepared scan on disk: ours beside nnU-Net's DefaultPreprocessor.

python benchmarks/preprocess.py [--repeats 5]

Both read the same NIfTI files, bring them to the paper's 0.8 x 0.8 x 2.5 mm, normalise and write what their
training reads: ours float16 into the Zarr store, turned the usual way; nnU-Net float32 (and the mask that it
crops by) as blosc2. One process, one thread, alternating order, medians; the ratio is of the sums over scans.
nnU-Net runs as its plans say by default, with cubic splines, and with the linear torch resampling that it has
beside them. What ours makes is held against SimpleITK's linear resampling of the same scan.

Scans: the real CTs of ../shared/data (else phantoms).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

for variable in (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
):  # else nnU-Net complains that they lack
    os.environ.setdefault(variable, "/nonexistent")

import numpy as np  # noqa: E402
import SimpleITK  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.phantom import make_phantom  # noqa: E402
from pwsseg.arrays.resampling import resample_scan  # noqa: E402
from pwsseg.formats.nifti import write_scan  # noqa: E402
from pwsseg.formats.reading import read_volume, source_digest  # noqa: E402
from pwsseg.formats.volume import Volume  # noqa: E402
from pwsseg.pipelines.prepare import prepared_scan  # noqa: E402
from pwsseg.rounds import load_round  # noqa: E402
from pwsseg.store import Store  # noqa: E402
from pwsseg.values import Geometry  # noqa: E402

REAL = ROOT.parent / "shared" / "data" / "flare" / "imagesTr"
SPACING = (2.5, 0.8, 0.8)
PATCH = [48, 192, 192]
CT = {"mean": 80.0, "std": 140.0, "percentile_00_5": -325.0, "percentile_99_5": 325.0}
"""Intensities as plans state them; any figures take the same time."""
DEFAULT, LINEAR = "resample_data_or_seg_to_shape", "resample_torch_fornnunet"


def nnunet(resampling: str) -> Callable[[Path, Path], None]:
    """nnU-Net's own preprocessor with the plans that it makes for CT, one case at a time."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    splines, linear = {"order": 3, "order_z": 0, "force_separate_z": None}, {"num_threads": 1}
    images = splines if resampling == DEFAULT else linear
    masks = splines | {"order": 1} if resampling == DEFAULT else linear
    configuration = {
        "architecture": {},
        "patch_size": PATCH,
        "spacing": list(SPACING),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": images | {"is_seg": False},
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": masks | {"is_seg": True},
    }
    plans = PlansManager(
        {
            "configurations": {"3d_fullres": configuration},
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "foreground_intensity_properties_per_channel": {"0": CT},
        }
    )
    preprocessor = DefaultPreprocessor(verbose=False)

    def run(scan: Path, out: Path) -> None:
        preprocessor.run_case_save(
            str(out / scan.name.partition(".")[0]),
            [str(scan)],
            None,
            plans,
            plans.get_configuration("3d_fullres"),
            {},
        )

    return run


def ours(scan: Path, out: Path) -> None:
    """From the file to the prepared cache, as ingest and a round's first stage do it together."""
    settings = load_round("ots2", "flare23", folder=ROOT / "jobs")
    assert settings.scale.spacing == SPACING
    store = Store.create(out) if not (out / "zarr.json").exists() else Store.open(out)
    case = scan.name.partition(".")[0]
    volume = read_volume(scan)
    prepared, grid = prepared_scan(volume.array, volume.geometry, settings.prediction)
    store.prepared(settings.recipe).write(case, prepared, grid, source_digest(scan))


def seconds(method: Callable[[Path, Path], None], scan: Path, stdout: Any) -> float:
    """One scan into a folder of its own."""
    with TemporaryDirectory() as folder, redirect_stdout(stdout):
        began = perf_counter()
        method(scan, Path(folder))
        return perf_counter() - began


def difference(volume: Volume) -> tuple[float, float]:
    """Mean and 99.9th percentile of |ours - SimpleITK's linear resampling|, HU, within the clip.

    Scans of which an axis is averaged first, where the voxel grows by half or more, are NaN: SimpleITK has no
    such filter.
    """
    grid = volume.geometry.resampled(SPACING)
    if any(old >= 1.5 * new for old, new in zip(volume.array.shape, grid.shape, strict=True)):
        return float("nan"), float("nan")
    image = SimpleITK.GetImageFromArray(volume.array.astype(np.float32))
    image.SetSpacing(volume.geometry.spacing[::-1])
    wanted = SimpleITK.ResampleImageFilter()
    wanted.SetSize([int(n) for n in grid.shape[::-1]])
    wanted.SetOutputSpacing(grid.spacing[::-1])
    both = zip(grid.spacing[::-1], volume.geometry.spacing[::-1], strict=True)
    wanted.SetOutputOrigin([(new - old) / 2 for new, old in both])  # both grids fill the same box
    wanted.SetInterpolator(SimpleITK.sitkLinear)
    wanted.UseNearestNeighborExtrapolatorOn()
    theirs = SimpleITK.GetArrayFromImage(wanted.Execute(image))
    apart = np.abs(np.clip(resample_scan(volume.array, grid.shape), -325, 325) - np.clip(theirs, -325, 325))
    return float(apart.mean()), float(np.percentile(apart, 99.9))


def scans(folder: Path) -> list[Path]:
    """The real CTs, or phantoms written to `folder`."""
    if REAL.is_dir():
        return sorted(REAL.glob("*.nii.gz"))
    for number in range(3):
        made = make_phantom(0, number)
        write_scan(folder / f"phantom{number}_0000.nii.gz", Volume(made.hu, made.geometry))
    return sorted(folder.glob("*.nii.gz"))


def main() -> None:
    """Print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of each method and scan (default: 5)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    methods = {"ours": ours, "nnU-Net": nnunet(DEFAULT), "nnU-Net, linear": nnunet(LINEAR)}
    head = "".join(f"{name + ', s':>19}" for name in methods)
    print(f"{'scan':12}{'voxels':>14}{'prepared':>14}{head}{'mean HU apart':>15}{'99.9 %':>8}")
    totals = dict.fromkeys(methods, 0.0)
    apart = []
    with TemporaryDirectory() as made, Path(os.devnull).open("w") as nowhere:
        for scan in scans(Path(made)):
            runs: dict[str, list[float]] = {name: [] for name in methods}
            for i in range(given.repeats + 1):  # the first warms up the file's pages and the libraries
                for name in list(methods)[:: 1 if i % 2 == 0 else -1]:
                    runs[name].append(seconds(methods[name], scan, nowhere))
            each = {name: median(found[1:]) for name, found in runs.items()}
            totals = {name: totals[name] + each[name] for name in methods}
            volume = read_volume(scan)
            apart.append(difference(volume))
            print(line(scan.name, volume.geometry, each.values(), apart[-1]), flush=True)
    print(f"{'together':40}" + "".join(f"{value:19.2f}" for value in totals.values()))
    figures = {
        "scans_per_core_vs_nnunet": round(totals["nnU-Net"] / totals["ours"], 2),
        "scans_per_core_vs_nnunet_linear": round(totals["nnU-Net, linear"] / totals["ours"], 2),
        "mean_hu_from_simpleitk": round(float(np.nanmax([mean for mean, _ in apart])), 4),
    }
    print(json.dumps(figures))


def line(name: str, geometry: Geometry, each: Iterable[float], apart: tuple[float, float]) -> str:
    """A row of the table."""
    shapes = ["x".join(map(str, shape)) for shape in (geometry.shape, geometry.resampled(SPACING).shape)]
    found = "".join(f"{value:19.2f}" for value in each)
    case = name.partition("_")[0]
    return f"{case:12}{shapes[0]:>14}{shapes[1]:>14}{found}{apart[0]:15.4f}{apart[1]:8.3f}"


if __name__ == "__main__":
    main()

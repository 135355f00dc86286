"""The Medical Segmentation Decathlon: imagesTr/NAME.nii.gz, labelsTr/NAME.nii.gz, imagesTs, dataset.json.

dataset.json lists its files under `training` ({"image": path, "label": path}) and `test`; where it doesn't,
the folders count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pwsseg.formats.dataset import Dataset
from pwsseg.formats.found import Fault, Named, Part, Split, by_stem, stem
from pwsseg.values import shown

LONGEST_PATH = 1000
"""Letters; Linux takes 4096 bytes."""


def msd_parts(
    root: Path, dataset: Dataset, labels: Path | None, *, split: Split, faults: list[Fault]
) -> list[Part]:
    """Take imagesTr and imagesTs as `split`; faults name a file that is listed and missing, or not listed."""
    parts = []
    for folder, key in (("imagesTr", "training"), ("imagesTs", "test")):
        scans, truth = by_stem(root / folder), by_stem(labels) if key == "training" else []
        listed = dataset.files(key)
        if listed is not None:
            rows = [row if isinstance(row, dict) else {"image": row} for row in listed]
            scans = _listed(root, [r.get("image") for r in rows], scans, faults=faults)
            if labels == root / "labelsTr":
                truth = _listed(root, [r["label"] for r in rows if "label" in r], truth, faults=faults)
        parts.append(Part(root / folder, scans, truth, split))
    return parts


def _listed(root: Path, said: list[Any], there: list[Named], *, faults: list[Fault]) -> list[Named]:
    """The files that are listed and there; the others become faults."""
    on_disk = {path.resolve(): (name, path) for name, path in there}
    wanted = [root / _file_name(path) for path in said]
    names = {path.resolve() for path in wanted}
    faults += [
        Fault(stem(p), f"{p} is listed in dataset.json and is not there; copy it, or correct the list")
        for p in wanted
        if p.resolve() not in on_disk
    ]
    faults += [
        Fault(name, f"{path} is not listed in dataset.json; add it to the list, or take it away")
        for at, (name, path) in on_disk.items()
        if at not in names
    ]
    return [entry for at, entry in on_disk.items() if at in names]


def _file_name(said: Any) -> str:
    """A path as dataset.json says it; what no file can be called, written so that it can at least be told."""
    text = str(said)
    return text if text.isprintable() and len(text) < LONGEST_PATH else shown(text)

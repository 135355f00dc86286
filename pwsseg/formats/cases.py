"""Where the scans of a folder are, and which label file belongs to which, in any layout that we know.

| layout | told by | file |
|---|---|---|
| nnU-Net raw | dataset.json with channel_names, or imagesTr/NAME_0000 beside a dataset.json | nnunet.py |
| Medical Segmentation Decathlon | any other dataset.json beside imagesTr | msd.py |
| FLARE | imagesTr or imagesVal | flare.py |
| a folder of NIfTI files or DICOM series | everything else | folder.py |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pwsseg.formats.dataset import HIGHEST, NAME, Dataset, meanings_of, read_dataset
from pwsseg.formats.flare import flare_parts, is_flare
from pwsseg.formats.folder import folder_part
from pwsseg.formats.found import (
    CT_CHANNEL,
    Fault,
    Found,
    Part,
    SourceCase,
    Split,
    one_a_case,
    with_case_ids,
)
from pwsseg.formats.msd import msd_parts
from pwsseg.formats.nnunet import is_nnunet, nnunet_parts
from pwsseg.values import UNKNOWN, InputError

NONE_SAID: Mapping[str, int] = {}


def find_cases(
    images: Path,
    labels: Path | None = None,
    *,
    split: Split = "training",
    meanings: Mapping[str, int] = NONE_SAID,
    scans_only: bool = False,
) -> Found:
    """Every case under `images`, with its label file where `labels` (or the layout's folder) has one.

    `meanings` says what labels of theirs are here, by name or value; `scans_only` looks for no labels.
    Faults: a bad case id, an id that two files claim, a label file without scan, and what a layout adds.
    InputError when a folder is missing or holds no scan at all, or its dataset.json can't be followed.
    """
    _check_folders(images, labels)
    dataset = read_dataset(images / NAME) if _has_dataset(images) else None
    faults: list[Fault] = []
    parts = _parts(images, dataset, labels, split=split, faults=faults)
    values = None if scans_only else _meanings(dataset, meanings)
    claims: dict[str, list[SourceCase]] = defaultdict(list)
    for part in parts:
        found = {} if scans_only else one_a_case(part.labels, faults)
        entries = list(with_case_ids(part.scans, faults))
        for case, scan in entries:
            claims[case].append(SourceCase(case, scan, found.get(case), part.split, values))
        named = {case for case, _ in entries}
        faults += [_without_scan(c, path, part.folder) for c, path in found.items() if c not in named]
    cases = [claimed[0] for _, claimed in sorted(claims.items()) if len(claimed) == 1]
    faults += [_claimed_twice(claimed) for claimed in claims.values() if len(claimed) > 1]
    if not cases and not faults:
        raise InputError(
            f"{images} holds no scan, expected NIfTI files (.nii, .nii.gz) or DICOM folders; check it"
        )
    stated = frozenset(values.values()) - {0, UNKNOWN} if dataset and values else None
    return Found(cases, sorted(faults), stated)


def _check_folders(images: Path, labels: Path | None) -> None:
    for folder in (images, labels):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder} is no folder; give the folder that holds the files")
    root = images.resolve().parent
    if labels and images.resolve().name in ("imagesTr", "imagesTs") and (root / NAME).is_file():
        raise InputError(
            f"{images} belongs to the data set of {root / NAME}, whose label values have meanings of their "
            f"own; give --images {root}, so that they are followed"
        )


def _has_dataset(images: Path) -> bool:
    return (images / NAME).is_file() and (images / "imagesTr").is_dir()


def _parts(
    images: Path, dataset: Dataset | None, labels: Path | None, *, split: Split, faults: list[Fault]
) -> list[Part]:
    if dataset is None:
        if is_flare(images):
            return flare_parts(images, labels, split=split, faults=faults)
        return [folder_part(images, labels, split=split, faults=faults)]
    truth = labels or images / "labelsTr"
    if dataset.is_nnunet or is_nnunet(images):
        return nnunet_parts(images, truth, split=split, faults=faults)
    return msd_parts(images, dataset, truth, split=split, faults=faults)


def _meanings(dataset: Dataset | None, said: Mapping[str, int]) -> dict[int, int] | None:
    if dataset:
        return meanings_of(dataset, said)
    if not said:
        return None
    strange = [old for old in said if not old.isdecimal() or int(old) > HIGHEST]
    if strange:
        raise InputError(
            f"--map names the label {strange[0]!r}, and there is no {NAME} to say which value in "
            f"0..{HIGHEST} that is; give values instead of names, as 6=1,2=2"
        )
    return {0: 0} | {int(old): new for old, new in said.items()}


def _without_scan(case: str, path: Path, scans: Path) -> Fault:
    return Fault(
        case, f"{path} has no scan {case}{CT_CHANNEL}.nii.gz in {scans}; add the scan or take it away"
    )


def _claimed_twice(claimed: list[SourceCase]) -> Fault:
    case = claimed[0].case
    paths = " and ".join(str(c.scan) for c in claimed)
    return Fault(
        case, f"{paths} both claim the case id {case}, expected one scan an id; rename or remove one"
    )

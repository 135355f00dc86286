"""dataset.json, by which nnU-Net (either version) and the Medical Segmentation Decathlon say what is what.

{"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
{"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}, "training": [...], "test": [...]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pwsseg.formats.names import class_named
from pwsseg.formats.nifti import ENDINGS
from pwsseg.formats.text import parse_json
from pwsseg.values import FLARE23, UNKNOWN, InputError, LabelSet, shown, word

NAME = "dataset.json"
IGNORE = "ignore"
"""nnU-Net's name of the voxels that nobody speaks about."""
HIGHEST = 255
"""Label files with higher values are refused: they would not fit uint8."""


@dataclass(frozen=True)
class Dataset:
    """What a dataset.json says."""

    path: Path
    said: dict[str, Any]

    @property
    def is_nnunet(self) -> bool:
        """Whether it is nnU-Net's own form; else the Decathlon's, which nnU-Net 1 used, too."""
        return "channel_names" in self.said

    def files(self, key: str) -> list[Any] | None:
        """The list `training` or `test`; None when there is none. InputError when it is no list."""
        found = self.said.get(key)
        if found is None or isinstance(found, list):
            return found
        raise InputError(f"{self.path} has {key} {shown(found)}, expected a list of files; correct it")


def read_dataset(path: Path) -> Dataset:
    """The data set described at `path`.

    InputError when it is no JSON object, has several channels, another modality than CT, or files that are
    not NIfTI.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as JSON ({error}); correct it") from error
    said = parse_json(path, text)
    if not isinstance(said, dict):
        raise InputError(f"{path} is no JSON object, expected nnU-Net's or the Decathlon's form; correct it")
    _check_channels(said.get("channel_names", said.get("modality")), path)
    ending = said.get("file_ending", ENDINGS[0])
    if ending not in ENDINGS:
        raise InputError(
            f"{path} has files that end in {shown(ending)}, expected .nii.gz or .nii; convert them"
        )
    if "dataset" in said:
        raise InputError(
            f"{path} lists its files under 'dataset', expected them in imagesTr and labelsTr; put them there"
        )
    return Dataset(path, said)


def meanings_of(dataset: Dataset, said: Mapping[str, int], label_set: LabelSet = FLARE23) -> dict[int, int]:
    """Value in the label files -> our id, 0 or 255: by `said` (names or values), else by the label's name.

    InputError when a label's name is none of ours and `said` doesn't name it, a label is a region of
    several values, or `said` names what isn't there.
    """
    labels = _labels(dataset)
    strange = sorted(set(said) - {key for name, value in labels.items() for key in (name, str(value))})
    if strange:
        raise InputError(
            f"{dataset.path} has no label {shown(strange[0])}, which --map names; its labels are "
            f"{', '.join(labels)}; correct --map"
        )
    meanings: dict[int, int] = {}
    unmapped = []
    for name, value in labels.items():
        meaning = said.get(name, said.get(str(value), _meaning(name, value, label_set)))
        if meaning is None:
            unmapped.append(name)
        else:
            meanings[value] = meaning
    if unmapped:
        wanted = ",".join(f"{name}=?" for name in unmapped)
        raise InputError(
            f"{dataset.path} has labels that {label_set.name} does not name so: {', '.join(unmapped)}; say "
            f"--map '{wanted}' with a class of ours for each ?, or 0 for none of them"
        )
    return meanings


def _meaning(name: str, value: int, label_set: LabelSet) -> int | None:
    if value == 0:
        return 0
    return UNKNOWN if name.lower() == IGNORE else class_named(name, label_set)


def _labels(dataset: Dataset) -> dict[str, int]:
    """Name -> value, from {name: value} or {value: name}."""
    labels = dataset.said.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise InputError(f"{dataset.path} has no labels, expected {{name: value}}; add them")
    found: dict[str, int] = {}
    for key, other in labels.items():
        name, value = (other, key) if isinstance(other, str) and key.isdecimal() else (key, other)
        if isinstance(value, list):
            raise InputError(
                f"{dataset.path} makes {shown(name)} a region of the values {shown(value)}, expected one "
                f"value a label; name each value in 'labels'"
            )
        digits = str(value) if isinstance(value, int | str) else ""
        number = int(digits) if digits.isdecimal() and len(digits) <= 3 else -1
        if not 0 <= number <= HIGHEST or name in found or number in found.values():
            raise InputError(
                f"{dataset.path} gives {shown(name)} the value {shown(value)}, expected a whole number in "
                f"0..{HIGHEST}, each once; correct it"
            )
        found[name] = number
    return found


def _check_channels(channels: Any, path: Path) -> None:
    names = list(channels.values()) if isinstance(channels, dict) else []
    if len(names) != 1:
        raise InputError(
            f"{path} names {len(names)} channels {shown(names)}, expected one, a CT, under 'channel_names' "
            f"or 'modality'; take the other channels away"
        )
    if str(names[0]).upper().startswith("MR"):
        raise InputError(f"{path} holds {word(str(names[0]))} scans, expected CT; leave this data set out")

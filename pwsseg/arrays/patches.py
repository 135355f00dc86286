"""Where training patches are cut.

A stream of cases, several patches from each cached volume; half of the patches are centred on a voxel of a
class drawn evenly, so that an adrenal gland is seen as often as the liver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pwsseg.arrays.augmentation import AugmentationSettings, warp_patch
from pwsseg.values import UNKNOWN

Shape = tuple[int, int, int]


class TrainingCase(NamedTuple):
    """One case on the networks' grid, in memory."""

    case: str
    image: torch.Tensor
    """(z, y, x) float32, normalised."""
    labels: torch.Tensor | None
    """(z, y, x) uint8; None for an unlabelled case."""
    known: NDArray[np.bool_]
    """(class,): whether anybody speaks about the class in this case."""
    spacing: tuple[float, float, float]
    places: dict[int, NDArray[np.int32]]
    """Some voxel positions (n, 3) of every class present."""


class Patch(NamedTuple):
    """A patch with its origin; labels None when unlabelled."""

    case: str
    image: torch.Tensor
    labels: torch.Tensor | None
    known: NDArray[np.bool_]


def class_places(
    labels: NDArray[np.uint8], *, at_most: int, random: np.random.Generator
) -> dict[int, NDArray[np.int32]]:
    """For each class present up to `at_most` of its voxel positions (n, 3), drawn evenly."""
    places = {}
    for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:UNKNOWN]) + 1:
        found = np.flatnonzero(labels == label)
        chosen = random.choice(found, min(at_most, len(found)), replace=False)
        places[int(label)] = np.stack(np.unravel_index(chosen, labels.shape), -1).astype(np.int32)
    return places


def cut_patch(
    source: TrainingCase,
    *,
    patch: Shape,
    foreground: float,
    favoured: Mapping[int, float],
    augmentation: AugmentationSettings,
    random: np.random.Generator,
    device: torch.device | None = None,
) -> Patch:
    """Cut one augmented patch; with probability `foreground` around a voxel of a random class present.

    `favoured` gives classes the share of these patches that they get wherever they are present. The patch is
    bent on `device` and lies there; None for the device of the case.
    """
    centred = source.places and random.random() < foreground
    label = _class_to_see(source, favoured, random) if centred else None
    centre = _centre(source, patch, label, random)
    image, labels = warp_patch(
        source.image,
        source.labels,
        centre=centre,
        patch=patch,
        spacing=source.spacing,
        settings=augmentation,
        random=random,
        device=device,
    )
    return Patch(source.case, image, labels, source.known)


def _class_to_see(source: TrainingCase, favoured: Mapping[int, float], random: np.random.Generator) -> int:
    """A class present: a favoured one with its share of chances, else any with the same chance."""
    for label, share in favoured.items():
        if label in source.places and random.random() < share:
            return label
    return int(random.choice(sorted(source.places)))


def _centre(
    source: TrainingCase, patch: Shape, label: int | None, random: np.random.Generator
) -> tuple[float, float, float]:
    """A patch centre (z, y, x), near a voxel of `label` or anywhere; the patch stays inside if it fits."""
    shape = source.image.shape
    if label is None:
        wanted = random.uniform(0, np.asarray(shape) - 1)
    else:
        wanted = random.choice(source.places[label]) + random.uniform(-0.25, 0.25, 3) * patch
    low = (np.asarray(patch) - 1) / 2
    high = np.asarray(shape) - 1 - low
    z, y, x = np.where(high > low, np.clip(wanted, low, high), (np.asarray(shape) - 1) / 2)
    return float(z), float(y), float(x)


def endless(
    cases: Sequence[str], load: Callable[[str], TrainingCase], *, each: int, random: np.random.Generator
) -> Iterator[TrainingCase]:
    """Go through the cases in random order for ever, giving every loaded case `each` times in a row."""
    if not cases:
        raise ValueError("there are no cases to go through")
    while True:
        for i in random.permutation(len(cases)):
            case = load(cases[i])
            for _ in range(each):
                yield case

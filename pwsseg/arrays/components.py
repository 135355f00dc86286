"""Connected components: what a prediction keeps of each organ."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import product

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SLICES = 16
"""Slices that are looked at together: they bound the memory, not the depth of the volume."""


def keep_largest(
    labels: NDArray[np.uint8], *, organs: Collection[int], voxel_ml: float, floor_ml: dict[int, float]
) -> None:
    """Leave of each organ in `labels` (z, y, x) its largest 26-connected component; the rest becomes 0.

    A largest component below the organ's floor (`floor_ml`, for large organs) goes too: a liver of 1 ml is
    a mistake (METHOD.md, Post-processing). Classes outside `organs` (the tumor) keep every component that is
    not below their floor, if they have one; a speck takes the label that is most about it.
    """
    whole, sizes, owner = _components(labels)
    wrong = np.zeros(len(sizes), dtype=bool)
    for organ in organs:
        mine = np.flatnonzero(owner == organ)
        if not len(mine):
            continue
        largest = mine[sizes[mine].argmax()]
        wrong[mine] = True
        wrong[largest] = sizes[largest] * voxel_ml < floor_ml.get(organ, 0)
    speck = np.zeros(len(sizes), dtype=bool)
    for label in floor_ml.keys() - set(organs):
        speck |= (owner == label) & (sizes * voxel_ml < floor_ml[label])
    places, components = [], []
    passed = 0
    for first, (here, parts, count) in enumerate(_parts(labels)):
        mine = whole[passed : passed + count]
        goes, specks = np.append(False, wrong[mine]), np.append(False, speck[mine])
        if goes.any():
            here[goes[parts[: len(here)]]] = 0
        if specks.any():
            found = np.argwhere(specks[parts[: len(here)]])
            components.append(mine[parts[tuple(found.T)].astype(np.intp) - 1])
            places.append(found + np.array([first * SLICES, 0, 0]))
        passed += count
    if places:
        _fill(labels, np.concatenate(places), np.concatenate(components))


def _fill(labels: NDArray[np.uint8], places: NDArray[np.intp], components: NDArray[np.intp]) -> None:
    """Give each component, its voxels at `places` (n, 3), the label that most neighbours of these have."""
    own = labels[tuple(places.T)].copy()
    _, number = np.unique(components, return_inverse=True)
    votes = np.zeros((number.max() + 1, 256), dtype=np.int64)
    beside = np.arange(-1, 2)[:, None]
    about = [np.clip(places[:, axis] + beside, 0, size - 1) for axis, size in enumerate(labels.shape)]
    for z, y, x in product(*about):
        around = labels[z, y, x]
        other = around != own
        np.add.at(votes, (number[other], around[other]), 1)
    labels[tuple(places.T)] = votes.argmax(1)[number]


def _parts(labels: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint32], int]]:
    """A few slices at a time (a view), their components and those of one slice more, numbered from 1."""
    for first in range(0, len(labels), SLICES):
        parts, count = cc3d.connected_components(
            labels[first : first + SLICES + 1], connectivity=26, return_N=True
        )
        yield labels[first : first + SLICES], parts, count


def _components(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """The component that each part belongs to, and each component's voxels and label.

    Parts of neighbouring runs of slices are one component where they share a voxel of the slice in both.
    """
    sizes, owners, links = [], [], [np.zeros((0, 2), dtype=np.intp)]
    passed, above = 0, None
    for here, parts, count in _parts(labels):
        sizes.append(np.bincount(parts[: len(here)].ravel(), minlength=count + 1)[1:])
        owner = np.zeros(count + 1, dtype=np.uint8)
        owner[parts[: len(here)].ravel()] = here.ravel()
        owners.append(owner[1:])
        if above is not None:
            both = np.stack([above, parts[0].astype(np.intp) + passed - 1], -1)[parts[0] > 0]
            links.append(np.unique(both, axis=0))
        above = parts[-1].astype(np.intp) + passed - 1
        passed += count
    pairs = np.concatenate(links)
    number, whole = passed, np.arange(passed)
    if len(pairs):
        linked = (np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1]))
        number, whole = connected_components(coo_array(linked, shape=(passed, passed)), directed=False)
    voxels = np.zeros(number, dtype=np.intp)
    np.add.at(voxels, whole, np.concatenate(sizes))
    label = np.zeros(number, dtype=np.uint8)
    np.maximum.at(label, whole, np.concatenate(owners))
    return whole, voxels, label

"""Lesions and components, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pwsseg.arrays.lesions import Amount, Detection, amounts, detect

TUMOR = 14
Labels = NDArray[np.uint8]


def row(*boxes: tuple[int, int], label: int = TUMOR) -> Labels:
    """Bars along x, each from a first voxel up to a last one, 2 x 2 voxels thick."""
    labels = np.zeros((6, 6, 60), np.uint8)
    for start, stop in boxes:
        labels[2:4, 2:4, start:stop] = label
    return labels


def test_each_lesion_is_found_by_its_own_component() -> None:
    reference = row((2, 10), (20, 30), (40, 50))
    prediction = row((2, 10), (24, 34))
    assert detect(prediction, reference) == Detection(lesions=3, found=2, predicted=2, false_positives=0)


@pytest.mark.parametrize(("stop", "found"), [(20, 1), (21, 0)])
def test_a_lesion_is_found_from_an_overlap_of_a_tenth(stop: int, found: int) -> None:
    assert detect(row((10, stop)), row((10, 11))).found == found


def test_a_mass_over_everything_finds_no_small_lesion() -> None:
    reference = row((2, 4), (50, 52))
    assert detect(row((0, 60)), reference) == Detection(lesions=2, found=0, predicted=1, false_positives=0)


def test_pieces_of_one_lesion_count_together_and_are_no_false_alarm() -> None:
    reference = row((10, 50))
    prediction = row((12, 14), (20, 22), (30, 32))
    assert detect(prediction, reference) == Detection(lesions=1, found=1, predicted=3, false_positives=0)


def test_a_component_that_touches_no_lesion_is_a_false_positive() -> None:
    assert detect(row((2, 10), (40, 50)), row((2, 10))) == Detection(1, 1, 2, 1)
    assert detect(row((2, 10)), row()) == Detection(0, 0, 1, 1)
    assert detect(row(), row((2, 10))) == Detection(1, 0, 0, 0)
    assert detect(row(), row()) == Detection(0, 0, 0, 0)


def test_other_classes_are_no_tumor() -> None:
    assert detect(row((2, 10), label=1), row((2, 10))) == Detection(1, 0, 0, 0)


def test_voxels_that_touch_at_a_corner_are_one_component() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[3, 3, 3] = 1
    labels[0, 3, 3] = 255
    assert amounts(labels, [1, 2]) == {1: Amount(3, 2), 2: Amount(0, 0)}

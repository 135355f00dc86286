"""What a reader counts: volumes, connected components, and which lesions were found.

amounts(prediction, [1, 14])[14].components
detect(prediction, reference)            # Detection(lesions=3, found=2, predicted=4, false_positives=1)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.extents import class_boxes, union
from pwsseg.values import FLARE23, LabelSet

FOUND_IOU = 0.1
"""A lesion is found from this overlap on; docs/decisions/0030-when-a-lesion-is-found.md."""

Labels = NDArray[np.uint8]


class Amount(NamedTuple):
    """How much of a class there is: voxels, and 26-connected components."""

    voxels: int
    components: int


class Detection(NamedTuple):
    """Tumors of one case, counted as 26-connected components.

    `lesions` of the reference, how many of them were `found`; components `predicted`, how many of them are
    `false_positives`.
    """

    lesions: int
    found: int
    predicted: int
    false_positives: int


def amounts(labels: Labels, classes: Iterable[int], label_set: LabelSet = FLARE23) -> dict[int, Amount]:
    """The amount of each of `classes` in labels (z, y, x)."""
    boxes = class_boxes(labels, label_set)
    found = {}
    for label in classes:
        box = boxes[label]
        mask = labels[box] == label if box else np.zeros((1, 1, 1), bool)
        found[label] = Amount(int(np.count_nonzero(mask)), int(_components(mask).max()))
    return found


def detect(prediction: Labels, reference: Labels, label_set: LabelSet = FLARE23) -> Detection:
    """Compare the tumors of both, (z, y, x) on one grid, component by component.

    A lesion is found when its overlap (IoU) with all predicted components that touch it, taken together, is
    at least FOUND_IOU. A predicted component that touches no lesion is a false positive.
    """
    boxes = [class_boxes(labels, label_set)[label_set.tumor] for labels in (prediction, reference)]
    present = [box for box in boxes if box]
    if not present:
        return Detection(0, 0, 0, 0)
    box = union(present[0], present[-1])
    predicted, lesions = (_components(v[box] == label_set.tumor) for v in (prediction, reference))
    shared = _shared(lesions, predicted)
    sizes, lesion_sizes = (np.bincount(components.ravel()) for components in (predicted, lesions))
    touched = shared > 0
    union_sizes = lesion_sizes[1:] + (touched * sizes[1:]).sum(axis=1) - shared.sum(axis=1)
    return Detection(
        lesions=len(lesion_sizes) - 1,
        found=int((shared.sum(axis=1) >= FOUND_IOU * union_sizes).sum()),
        predicted=len(sizes) - 1,
        false_positives=int((~touched.any(axis=0)).sum()),
    )


def _components(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    found: NDArray[np.uint32] = cc3d.connected_components(mask, connectivity=26)
    return found


def _shared(lesions: NDArray[np.uint32], predicted: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Voxels that each lesion shares with each predicted component, (lesions, predicted)."""
    rows, columns = int(lesions.max()) + 1, int(predicted.max()) + 1
    both = (lesions > 0) & (predicted > 0)
    pairs = lesions[both].astype(np.int64) * columns + predicted[both]
    return np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)[1:, 1:]

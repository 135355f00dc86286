"""Class-wise label fusion (Eq. 5) and what follows from it: which voxels are known, and from where.

    annotation, pseudo labels, annotated classes -> one label map; 255 where nothing can be said

Every rule has a name that goes into the record of the fused layer, and the same name recomputes the
provenance of each voxel from the parents.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from pwsseg.values import UNKNOWN

Labels = NDArray[np.uint8]
TumorRule = Literal["tumor-over-organ", "annotation-first", "pseudo-organs"]


class TumorDivision(BaseModel):
    """Annotated tumors are divided into the organs that they grow in (rule `tumor-to-organ`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reach_mm: float = Field(ge=0)


class Provenance(IntEnum):
    """Where the label of a fused voxel comes from."""

    UNKNOWN = 0
    ANNOTATED = 1
    PSEUDO = 2


def _table(classes: Collection[int]) -> NDArray[np.bool_]:
    """A look-up over all uint8 labels: is it one of `classes`."""
    table = np.zeros(256, dtype=bool)
    table[list(classes)] = True
    return table


def restrict(labels: Labels, *, to: Collection[int]) -> Labels:
    """Keep the classes in `to`; other classes become unknown, since what lies under them is not stated.

    An annotated tumor, for a network of organs, hides the organ that it grows in.
    """
    keep = _table([0, *to])
    return np.where(keep[labels], labels, np.uint8(UNKNOWN))


def fuse(
    annotation: Labels,
    pseudo: Labels,
    *,
    annotated: Collection[int],
    tumor: int,
    rule: TumorRule = "tumor-over-organ",
) -> Labels:
    """Eq. 5 in one label map: where class k is annotated the annotation speaks for k, else the pseudo label.

    Parameters
    ----------
    annotation, pseudo:
        uint8 (z, y, x) on one grid; 0 is background (or, in the annotation, an un-annotated class), 255
        in either is unknown.
    annotated:
        The classes that the annotation speaks about in this case; stated, never read off the voxels.
    tumor:
        The class that lies over organs.
    rule:
        What happens where the annotation says organ and the pseudo label says tumor, the tumor not being
        annotated in this case: Eq. 5 gives both classes the voxel; `tumor-over-organ` lets the tumor win,
        `annotation-first` the organ. `pseudo-organs` is no fusion: organs are the pseudo labels' alone, only
        an annotated tumor is kept (PWS-Seg* of Table 5).

    Returns
    -------
    uint8 (z, y, x): a voxel annotated as k keeps k; a pseudo label of an annotated class where the
    annotation does not say so is wrong by definition and becomes 255; the rest takes the pseudo label.
    """
    sources = provenance(annotation, pseudo, annotated=annotated, tumor=tumor, rule=rule)
    fused = np.full(annotation.shape, UNKNOWN, dtype=np.uint8)
    np.copyto(fused, annotation, where=sources == Provenance.ANNOTATED)
    np.copyto(fused, pseudo, where=sources == Provenance.PSEUDO)
    return fused


def provenance(
    annotation: Labels,
    pseudo: Labels,
    *,
    annotated: Collection[int],
    tumor: int,
    rule: TumorRule = "tumor-over-organ",
) -> NDArray[np.uint8]:
    """For each voxel of `fuse`'s result its `Provenance`, recomputed from the parents and the rule."""
    is_annotated = _table(counting(annotated, tumor=tumor, rule=rule))
    stated = is_annotated[annotation]
    refuted = is_annotated[pseudo] | (pseudo == UNKNOWN)
    sources = np.where(refuted, np.uint8(Provenance.UNKNOWN), np.uint8(Provenance.PSEUDO))
    if rule == "tumor-over-organ" and tumor not in annotated:
        stated &= pseudo != tumor
    sources[stated] = Provenance.ANNOTATED
    return sources


def counting(annotated: Collection[int], *, tumor: int, rule: TumorRule) -> frozenset[int]:
    """The annotated classes that count beside pseudo labels: all, or by `pseudo-organs` the tumor alone."""
    return frozenset(annotated) & {tumor} if rule == "pseudo-organs" else frozenset(annotated)


def known_classes(
    classes: Collection[int], *, annotated: Collection[int], predicted: Collection[int]
) -> frozenset[int]:
    """The classes of a round that somebody speaks about in a case: the annotation or the pseudo labels."""
    return frozenset(classes) & (frozenset(annotated) | frozenset(predicted))


def tumor_to_organ(
    annotation: Labels,
    prediction: Labels,
    *,
    tumor: int,
    organs: Collection[int],
    spacing: tuple[float, float, float],
    reach_mm: float,
) -> Labels:
    """Divide annotated tumors into the organs that they grow in, before os2 (Section 2.3, [D] METHOD.md).

    Each tumor voxel takes the organ that the OS network predicts there. Voxels predicted as background
    take the majority organ of their 26-connected tumor component; a component without any predicted organ
    takes the organ, annotated or predicted, whose nearest voxel lies within `reach_mm` of it, else
    background.

    Parameters
    ----------
    annotation, prediction:
        uint8 (z, y, x) on one grid.
    spacing:
        (z, y, x), mm.

    Returns
    -------
    `annotation` with every tumor voxel replaced; other voxels untouched.
    """
    is_organ = _table(organs)
    result = annotation.copy()
    components, count = cc3d.connected_components(annotation == tumor, connectivity=26, return_N=True)
    for number, box in enumerate(ndimage.find_objects(components, max_label=count), start=1):
        margin = _grown(box, [int(np.ceil(reach_mm / s)) for s in spacing], annotation.shape)
        inside = components[margin] == number
        predicted = prediction[margin]
        votes = np.bincount(predicted[inside & is_organ[predicted]], minlength=256)
        if votes.any():
            own = np.where(is_organ[predicted], predicted, np.uint8(votes.argmax()))
        else:
            around = np.where(is_organ[annotation[margin]], annotation[margin], predicted)
            nearest = _nearest_organ(inside, np.where(is_organ[around], around, 0), spacing, reach_mm)
            own = np.full(inside.shape, nearest, dtype=np.uint8)
        result[margin] = np.where(inside, own, result[margin])
    return result


def _grown(box: tuple[slice, ...], by: list[int], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(box, by, shape, strict=True)
    )


def _nearest_organ(
    component: NDArray[np.bool_], organs: Labels, spacing: tuple[float, float, float], reach_mm: float
) -> int:
    """The organ nearest to the component, 0 when none lies within `reach_mm`."""
    distance = ndimage.distance_transform_edt(~component, sampling=spacing)
    distance[organs == 0] = np.inf
    nearest = np.unravel_index(distance.argmin(), distance.shape)
    return int(organs[nearest]) if distance[nearest] <= reach_mm else 0

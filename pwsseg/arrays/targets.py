"""Targets by their rules: what a network learns of one case, and for each voxel who says so.

rules = TargetRules.named(["fuse:tumor-over-organ", "tumor-to-organ:10mm"], classes=range(1, 14), ...)
labels = target_labels(annotation, pseudo, rules=rules, annotated={1, 2}, spacing=spacing)
sources = target_provenance(annotation, pseudo, rules=rules, annotated={1, 2}, spacing=spacing)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.fusion import (
    Labels,
    Provenance,
    TumorRule,
    counting,
    fuse,
    provenance,
    restrict,
    tumor_to_organ,
)
from pwsseg.values import UNKNOWN

Spacing = tuple[float, float, float]

FUSE, DIVIDE = "fuse:", "tumor-to-organ:"


class TargetRules(NamedTuple):
    """How targets are made; `reach_mm` is None where tumors are not divided into organs."""

    classes: frozenset[int]
    organs: frozenset[int]
    tumor: int
    fusion: TumorRule
    reach_mm: float | None

    @classmethod
    def named(
        cls, rules: Sequence[str], *, classes: Collection[int], organs: Collection[int], tumor: int
    ) -> TargetRules | None:
        """From the names in a record; None when they name no way to fuse that is known here."""
        fusions = [r.removeprefix(FUSE) for r in rules if r.startswith(FUSE)]
        known: list[TumorRule] = [rule for rule in get_args(TumorRule) if rule in fusions]
        reach = [float(r.removeprefix(DIVIDE).removesuffix("mm")) for r in rules if r.startswith(DIVIDE)]
        if not known and "annotation-only" not in rules:
            return None
        fusion: TumorRule = known[0] if known else "tumor-over-organ"
        return cls(frozenset(classes), frozenset(organs), tumor, fusion, reach[0] if reach else None)


class _Parts(NamedTuple):
    """What is fused in the end. `divided`: voxels of annotated tumors that became organs; None for none."""

    annotation: Labels | None
    pseudo: Labels | None
    divided: NDArray[np.bool_] | None
    fused: bool


def target_labels(
    annotation: Labels | None,
    pseudo: Labels | None,
    *,
    rules: TargetRules,
    annotated: Collection[int],
    spacing: Spacing,
) -> Labels:
    """One case's target, uint8 (z, y, x) as both sources are, of which one must be there; 255 is unknown.

    `annotated`: the annotated classes of the case among the rules'. `spacing`: (z, y, x), mm.
    """
    parts = _parts(annotation, pseudo, rules=rules, annotated=annotated, spacing=spacing)
    if not parts.fused:
        assert parts.annotation is not None
        return parts.annotation
    return fuse(*_both(parts), annotated=annotated, tumor=rules.tumor, rule=rules.fusion)


def target_provenance(
    annotation: Labels | None,
    pseudo: Labels | None,
    *,
    rules: TargetRules,
    annotated: Collection[int],
    spacing: Spacing,
) -> NDArray[np.uint8]:
    """For each voxel of the target its `Provenance`.

    An annotated tumor that was divided counts as pseudo: people said tumor, the network said which organ.
    """
    parts = _parts(annotation, pseudo, rules=rules, annotated=annotated, spacing=spacing)
    if parts.fused:
        sources = provenance(*_both(parts), annotated=annotated, tumor=rules.tumor, rule=rules.fusion)
    else:
        known = parts.annotation != UNKNOWN
        sources = np.where(known, np.uint8(Provenance.ANNOTATED), np.uint8(Provenance.UNKNOWN))
    if parts.divided is not None:
        sources[parts.divided & (sources == Provenance.ANNOTATED)] = Provenance.PSEUDO
    return sources


def _parts(
    annotation: Labels | None,
    pseudo: Labels | None,
    *,
    rules: TargetRules,
    annotated: Collection[int],
    spacing: Spacing,
) -> _Parts:
    if annotation is None and pseudo is None:
        raise ValueError("a target needs an annotation or pseudo labels")
    divided = None
    if annotation is not None:
        if rules.reach_mm is not None and pseudo is not None:
            divided = annotation == rules.tumor
            annotation, pseudo = _divide(annotation, pseudo, rules, spacing)
        annotation = restrict(annotation, to=rules.classes)
    counts = counting(annotated, tumor=rules.tumor, rule=rules.fusion)
    complete = annotation is not None and (pseudo is None or counts >= rules.classes)
    return _Parts(annotation, pseudo, divided, not complete)  # complete: what is not annotated is background


def _divide(
    annotation: Labels, pseudo: Labels, rules: TargetRules, spacing: Spacing
) -> tuple[Labels, Labels]:
    assert rules.reach_mm is not None
    result = tumor_to_organ(
        annotation, pseudo, tumor=rules.tumor, organs=rules.organs, spacing=spacing, reach_mm=rules.reach_mm
    )
    # where the organ is not annotated itself, fusion asks the pseudo labels: they must say it too
    return result, np.where((annotation == rules.tumor) & (result != 0), result, pseudo)


def _both(parts: _Parts) -> tuple[Labels, Labels]:
    assert parts.pseudo is not None
    return np.zeros_like(parts.pseudo) if parts.annotation is None else parts.annotation, parts.pseudo

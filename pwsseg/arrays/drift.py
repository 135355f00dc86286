"""What changed too much between two rounds' labels, from volumes, scores and tumor counts of many cases.

list(drifts(cases, limits))      # ["held-out mean organ DSC 0.840, 0.900 before (limit: 0.05 less)"]

Volumes of a class whose held-out DSC has risen are not judged: a second round finds much more of what the
first nearly missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pwsseg.values import FLARE23

FEWEST = 5
"""Cases that a class must be found in before its volumes are judged: a median of fewer says little."""


class DriftLimits(BaseModel):
    """How far labels may drift from those before them and still be published without a person's word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dsc_drop: float = Field(ge=0, le=1)
    """What the held-out mean organ DSC, or the tumor DSC, may lose."""
    volume_factor: float = Field(ge=1)
    """A class may have this many times more or less volume, in the median of cases, or be found in this
    many times fewer cases."""
    tumor_factor: float = Field(ge=1)
    """The held-out cases may hold this many times more or fewer tumors."""


def drifts(cases: list[dict[str, Any]], limits: DriftLimits) -> Iterator[str]:
    """What lies beyond the limits, in words.

    A case says {"ml": {class: (before, after)}, "dsc": {class: (before, after)}, "tumors": (before, after) or
    None}; "dsc" and "tumors" only where it is held out and annotated.
    """
    yield from _score_drift("mean organ DSC", _pairs(cases, "dsc", FLARE23.organs), limits)
    yield from _score_drift("tumor DSC", _pairs(cases, "dsc", (FLARE23.tumor,)), limits)
    for label in FLARE23.ids:
        if _improved(_pairs(cases, "dsc", (label,))):
            continue  # more of a class that was nearly missed is no drift
        yield from _volume_drift(FLARE23[label].name, _pairs(cases, "ml", (label,)), limits)
    counts = [case["tumors"] for case in cases if case["tumors"] is not None]
    before, after = (sum(side) for side in zip(*counts, strict=True)) if counts else (0, 0)
    if _beyond(before, after, limits.tumor_factor) and max(before, after) >= FEWEST:
        yield (
            f"the held-out cases hold {after} tumors, {before} before "
            f"(limit: a factor of {limits.tumor_factor:g})"
        )


def _score_drift(name: str, pairs: list[tuple[float, float]], limits: DriftLimits) -> Iterator[str]:
    if pairs:
        before, after = (fmean(side) for side in zip(*pairs, strict=True))
        if before - after > limits.dsc_drop:
            yield f"held-out {name} {after:.3f}, {before:.3f} before (limit: {limits.dsc_drop:g} less)"


def _volume_drift(name: str, pairs: list[tuple[float, float]], limits: DriftLimits) -> Iterator[str]:
    both = [(a, b) for a, b in pairs if a > 0 and b > 0]
    if len(both) >= FEWEST:
        ratio = median(b / a for a, b in both)
        if _beyond(1.0, ratio, limits.volume_factor):
            yield (
                f"{name} has {ratio:.2f} times the volume it had, in the median of {len(both)} cases "
                f"(limit: a factor of {limits.volume_factor:g})"
            )
    had, has = (sum(ml > 0 for ml in side) for side in zip(*pairs, strict=True)) if pairs else (0, 0)
    if had >= FEWEST and has * limits.volume_factor < had:
        yield f"{name} is found in {has} cases, in {had} before (limit: a factor of {limits.volume_factor:g})"


def _improved(scores: list[tuple[float, float]]) -> bool:
    return sum(after for _, after in scores) > sum(before for before, _ in scores)


def _beyond(before: float, after: float, factor: float) -> bool:
    return after > before * factor or before > after * factor


def _pairs(
    cases: list[dict[str, Any]], kind: str, classes: tuple[int, ...] | frozenset[int]
) -> list[tuple[float, float]]:
    return [pair for case in cases for label, pair in case[kind].items() if int(label) in classes]

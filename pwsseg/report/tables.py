"""Scores as aligned text, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pwsseg.arrays.metrics import Spread, Summary, summarise
from pwsseg.values import FLARE23, LabelSet

Rows = Sequence[Mapping[str, Any]]

HEADINGS = ("round", "cases", "organs DSC", "NSD", "tumor DSC", "NSD", "all DSC", "NSD", "worst class (DSC)")


def rounds_table(scores: Mapping[str, Rows], label_set: LabelSet = FLARE23) -> str:
    """One line a round, in the order given: mean DSC and NSD in percent over organs, tumor, all classes.

    `scores` maps a layer id to its rows {case, class, dsc, nsd}; the best figure of a column has a star.
    """
    summaries = {layer: summarise(rows, label_set) for layer, rows in scores.items()}
    figures = [_figures(summary) for summary in summaries.values()]
    best = [_best(column) for column in zip(*figures, strict=True)]
    lines = [
        [layer, _cases(scores[layer]), *_starred(row, best), _worst(summary, label_set)]
        for (layer, summary), row in zip(summaries.items(), figures, strict=True)
    ]
    return align([HEADINGS, *lines])


def align(lines: Sequence[Sequence[str]], *, left: tuple[int, ...] = (0, -1)) -> str:
    """Columns padded to their widest cell, a rule under the first line; those at `left` left, others not."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    lefts = {place % len(widths) for place in left}
    padded = [_pad(line, widths, lefts) for line in (lines[0], rule, *lines[1:])]
    return "\n".join(line.rstrip() for line in padded)


def percent(value: float) -> str:
    """A share in percent with one decimal."""
    return f"{100 * value:.1f}"


def worst_class(summary: Summary) -> tuple[int, Spread] | None:
    """The class with the lowest mean DSC."""
    return min(summary.classes.items(), key=lambda item: item[1].dsc, default=None)


def _pad(line: Sequence[str], widths: Sequence[int], lefts: set[int]) -> str:
    cells = [
        cell.ljust(w) if i in lefts else cell.rjust(w)
        for i, (cell, w) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells)


def _figures(summary: Summary) -> list[float | None]:
    # Without a tumor figure, "all" would be the organs' mean again and look better than rounds that have one.
    everything = summary.mean if summary.tumor and summary.organs else None
    groups = (summary.organs, summary.tumor, everything)
    return [figure for group in groups for figure in ((group.dsc, group.nsd) if group else (None, None))]


def _best(column: Sequence[float | None]) -> float | None:
    present = [value for value in column if value is not None]
    return max(present) if len(present) > 1 else None


def _starred(figures: Sequence[float | None], best: Sequence[float | None]) -> list[str]:
    return [
        "-" if value is None else percent(value) + ("*" if value == top else " ")
        for value, top in zip(figures, best, strict=True)
    ]


def _cases(rows: Rows) -> str:
    return str(len({row["case"] for row in rows}))


def _worst(summary: Summary, label_set: LabelSet) -> str:
    worst = worst_class(summary)
    return f"{label_set[worst[0]].name} {percent(worst[1].dsc)}" if worst else "-"

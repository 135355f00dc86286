"""The paper's Fig. 1: how large each class is, in each set of cases that were annotated alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from pwsseg.report.curves import COLORS, QUIET, STYLE, drawing, svg_of
from pwsseg.report.facts import Facts
from pwsseg.report.markup import Section, row_th, table, td, th, wide_chart
from pwsseg.store import Store
from pwsseg.values import LabelSet

MOST_SETS = len(COLORS)


class LabelSetOfCases(NamedTuple):
    """Cases in which people annotated the same classes: rows of the annotation's manifest."""

    classes: frozenset[int]
    rows: list[Mapping[str, Any]]


def volumes(facts: Facts, store: Store) -> Section | None:
    """Volumes of the newest annotation, read from its manifest alone."""
    layer = next((x for x in reversed(facts.layers) if x.record.pins.kind == "annotation"), None)
    if layer is None:
        return None
    sets = _sets(layer.manifest())
    labels = store.label_set
    unannotated = sum(facts.cases.values()) - sum(len(s.rows) for s in sets)
    lines = [[row_th(named(s.classes, labels)), td(str(len(s.rows)), css="number")] for s in sets]
    lines.append([row_th("nothing"), td(str(unannotated), css="number")])
    listed = table(
        [[th("annotated"), th("cases", css="number")]], lines, caption="Cases by what is annotated"
    )
    drawn = _drawn(sets[:MOST_SETS], labels)
    return Section(
        "volumes",
        "What is annotated",
        f"Volume of each class in {layer.id}, by what its cases have annotated: the line holds nine of ten "
        "cases, the bar the middle half, the dot the median. Classes stated to be absent are left out.",
        f'<div class="beside">{wide_chart(drawn, "Volume of each class")}{listed}</div>',
    )


def named(classes: frozenset[int], labels: LabelSet) -> str:
    """A set of classes in few words: 13 organs, tumor."""
    organs = sorted(classes - {labels.tumor})
    if not organs:
        return labels[labels.tumor].name if classes else "nothing"
    told = labels[organs[0]].name if len(organs) == 1 else f"{len(organs)} organs"
    return f"{told}, {labels[labels.tumor].name}" if labels.tumor in classes else told


def _sets(rows: Sequence[Mapping[str, Any]]) -> list[LabelSetOfCases]:
    """The largest first; cases with nothing stated are in none."""
    found: dict[frozenset[int], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["annotated_classes"]:
            found.setdefault(frozenset(row["annotated_classes"]), []).append(row)
    return [
        LabelSetOfCases(c, r) for c, r in sorted(found.items(), key=lambda kv: (-len(kv[1]), sorted(kv[0])))
    ]


def _drawn(sets: Sequence[LabelSetOfCases], labels: LabelSet) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = drawing(6.4, 5.2)
        for place, label in enumerate(labels.ids):
            for i, one in enumerate(sets):
                _draw_spread(
                    axes, _millilitres(one, label), place + 0.16 * (i - (len(sets) - 1) / 2), COLORS[i]
                )
        for one, color in zip(sets, COLORS, strict=False):
            axes.plot([], [], "o", color=color, ms=5, label=f"{named(one.classes, labels)} ({len(one.rows)})")
        axes.set_xscale("log")
        axes.set_xlabel("ml")
        axes.set_yticks(range(len(labels.ids)), [labels[i].name for i in labels.ids])
        axes.invert_yaxis()
        axes.grid(axis="x", color=QUIET, alpha=0.18, lw=0.8)
        axes.legend(
            frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.3, 1.0), borderpad=0, fontsize=9
        )
        return svg_of(figure, "volumes")


def _draw_spread(axes: Axes, values: Sequence[float], place: float, color: str) -> None:
    if not values:
        return
    low, quarter, median, three, high = np.percentile(values, (5, 25, 50, 75, 95))
    axes.plot([low, high], [place, place], color=color, lw=1.1)
    axes.plot([quarter, three], [place, place], color=color, lw=3.6, solid_capstyle="butt")
    axes.plot([median], [place], "o", color=color, ms=4.6, mec="none")


def _millilitres(one: LabelSetOfCases, label: int) -> list[float]:
    counts = [(row[f"voxels_{label}"], row["voxel_ml"]) for row in one.rows if label in one.classes]
    return [voxels * ml for voxels, ml in counts if voxels]

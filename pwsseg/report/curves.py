"""Training curves and scores per round as inline SVG that takes the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pwsseg.arrays.metrics import summarise
from pwsseg.report.facts import Round, by_case
from pwsseg.values import FLARE23

INK, QUIET = "#010203", "#040506"
"""Stand-ins that the page's text colours replace, so that one drawing serves light and dark."""
COLORS = ("#3b82c4", "#d9822b", "#3a9d76", "#a259b5", "#c0504d")
NOT_A_LOSS = frozenset({"epoch", "step", "rate", "lr", "learning_rate", "seconds", "time", "workers"})
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pwsseg",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def training_curve(curve: Sequence[Mapping[str, float]], *, key: str) -> str:
    """Losses over the epochs, the total first; `key` keeps the ids of several drawings apart."""
    with mpl.rc_context(STYLE):
        figure, axes = drawing(2.75, 2.3)
        names = [name for name in curve[0] if name not in NOT_A_LOSS] if curve else []
        epochs = [row.get("epoch", i) for i, row in enumerate(curve)]
        for name, color in zip(sorted(names, key=lambda n: n != "loss"), COLORS, strict=False):
            values = [row.get(name, float("nan")) for row in curve]
            axes.plot(epochs, values, color=color, lw=2.2 if name == "loss" else 1.2, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0 if _positive(curve, names) else None)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        if len(names) > 1:
            place = {"loc": "lower left", "bbox_to_anchor": (-0.1, 1.0), "ncols": 2}
            axes.legend(frameon=False, fontsize=8, handlelength=1, **place)
        return svg_of(figure, key)


def scores_per_round(rounds: Sequence[Round], figure_name: str) -> str:
    """One dot a case and the mean of organs and tumor, round by round; `figure_name` is "dsc" or "nsd"."""
    with mpl.rc_context(STYLE):
        figure, axes = drawing(4.6, 2.7)
        groups = (("organs", FLARE23.organs, COLORS[0]), ("tumor", (FLARE23.tumor,), COLORS[1]))
        for shift, (name, classes, color) in zip((-0.08, 0.08), groups, strict=True):
            _draw_group(axes, rounds, (figure_name, name, classes, color, shift))
        axes.set_xticks(range(len(rounds)), [r.layer.id for r in rounds])
        axes.set_xlim(-0.5, len(rounds) - 0.5)
        axes.set_ylim(0, 100)
        axes.set_ylabel(f"{figure_name.upper()}, %")
        axes.grid(axis="y", color=QUIET, alpha=0.18, lw=0.8)
        axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderpad=0)
        return svg_of(figure, figure_name)


def _draw_group(
    axes: Axes, rounds: Sequence[Round], group: tuple[str, str, tuple[int, ...], str, float]
) -> None:
    figure_name, name, classes, color, shift = group
    means: list[float] = []
    for i, r in enumerate(rounds):
        rows = [row for row in r.rows if row["class"] in classes]
        means_of_cases = [summarise(found).mean for found in by_case(rows).values()]
        values = [100 * getattr(s, figure_name) for s in means_of_cases if s]
        axes.plot([i + shift] * len(values), values, "o", ms=4, mew=0, color=color, alpha=0.35, clip_on=False)
        total = summarise(rows).mean
        means.append(100 * getattr(total, figure_name) if total else float("nan"))
    places = [i + shift for i in range(len(rounds))]
    axes.plot(places, means, "-o", color=color, lw=2, ms=6.5, mec="none", label=name, clip_on=False)


def drawing(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing in inches, clear, so that the page shows through."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(length=3, width=0.8)
    return figure, axes


def _positive(curve: Sequence[Mapping[str, float]], names: Sequence[str]) -> bool:
    return all(row.get(name, 0) >= 0 for row in curve for name in names)


def svg_of(figure: Figure, key: str) -> str:
    """The drawing alone: no XML header, ids of its own, sized by the page, in the page's colours and font."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    # matplotlib's style sheet speaks to every element, on this page to those of the other drawings too
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(
        r'<svg ([^>]*?)width="[^"]*" ([^>]*?)height="[^"]*"',
        r'<svg \1\2stroke-linejoin="round"',
        svg,
        count=1,
    )
    return svg.replace(INK, "currentColor").replace(QUIET, "var(--quiet)")

"""The paper's Tables 4, 5 and 6 from what a store holds, the paper's own figures in columns of their own.

    for table in paper_tables(store):
        print(table.text())
    write_tables(paper_tables(store), Path("tables"))          # table-4.csv, table-4.md, ...

The spread of an average is taken as the paper takes it: over the classes' means, not over cases.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pwsseg.arrays.metrics import Spread, Summary, summarise
from pwsseg.report import paper
from pwsseg.report.facts import Rows, best_reference
from pwsseg.report.tables import align
from pwsseg.store import CaseRecord, Layer, Store
from pwsseg.store.contents import published_layers
from pwsseg.store.measures import GPU_AREA_MB_S, GPU_PEAK_MB
from pwsseg.values import InputError, LabelSet

NONE = "-"
MEMORY = (GPU_PEAK_MB, GPU_AREA_MB_S)
"""Measures of a case's record; a run without a GPU has none."""
SPREAD = "Mean ± standard deviation over cases, in percent; of an average, over the classes' means."
TABLE_6_CASES = len(paper.EFFICIENCY)


class Table(NamedTuple):
    """A table of text cells; `notes` says what a reader has to know to compare."""

    number: int
    title: str
    head: list[str]
    rows: list[list[str]]
    notes: str

    def text(self) -> str:
        """For the terminal."""
        aligned = align([self.head, *self.rows], left=(0,))
        return f"Table {self.number}. {self.title}\n\n{aligned}\n\n{self.notes}\n"

    def markdown(self) -> str:
        """For a page."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.rows)]
        return f"**Table {self.number}.** {self.title}\n\n" + "\n".join(lines) + f"\n\n{self.notes}\n"

    def csv(self) -> str:
        """For a spreadsheet."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([self.head, *self.rows])
        return buffer.getvalue()


class Scored(NamedTuple):
    """A prediction layer with its scores."""

    layer: Layer
    reference: Layer
    rows: Rows
    summary: Summary


def paper_tables(store: Store) -> list[Table]:
    """Tables 4, 5 and 6. A store without scores gives those of the paper's columns alone."""
    scored = scored_layers(store)
    labels = store.label_set
    return [table_4(scored[-1:], labels), table_5(scored, labels), table_6(store)]


def write_tables(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Each table as table-<number>.csv and .md in `folder`. Raises InputError where that is a file."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the tables")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        for ending, text in (("csv", table.csv()), ("md", table.markdown())):
            written.append(folder / f"table-{table.number}.{ending}")
            written[-1].write_text(text, encoding="utf-8")
    return written


def scored_layers(store: Store) -> list[Scored]:
    """Every prediction layer that was evaluated, all versions, the oldest first."""
    layers = sorted(published_layers(store), key=lambda layer: (layer.state.created, layer.id))
    references = [layer for layer in reversed(layers) if layer.record.pins.kind == "annotation"]
    found = []
    for layer in (layer for layer in layers if layer.record.pins.kind == "prediction"):
        reference, rows = best_reference(store, layer, references)
        if reference:
            found.append(Scored(layer, reference, rows, summarise(rows, store.label_set)))
    return found


def table_4(last: Sequence[Scored], labels: LabelSet) -> Table:
    """Each target's DSC and NSD in the last evaluated layer."""
    told = "".join(f" {s.layer.id}: {_cases(s.rows)} cases against {s.reference.id}." for s in last)
    head, rows = _figures_table(last, (paper.PUBLIC, paper.ONLINE), labels)
    return Table(4, "DSC and NSD of each target", head, rows, f"{SPREAD}{told}")


def table_5(scored: Sequence[Scored], labels: LabelSet) -> Table:
    """All evaluated layers side by side: rounds, and what was varied."""
    theirs = (paper.NO_FUSION, paper.FUSION, paper.PUBLIC, paper.LARGER)
    head, rows = _figures_table(scored, theirs, labels)
    told = (
        " The paper's columns, 50 public validation cases each: partly annotated cases without and with "
        "fusion (no fusion, P), unlabelled cases as well (public), and that with a larger network."
    )
    return Table(5, "Rounds and variants side by side", head, rows, f"{SPREAD}{told}")


def table_6(store: Store) -> Table:
    """Seconds and GPU memory of cases of growing size in the newest prediction layer."""
    layers = [layer for layer in published_layers(store) if layer.record.pins.kind == "prediction"]
    newest = max(layers, key=lambda layer: (layer.state.created, layer.id), default=None)
    entries = [newest.entry(case) for case in newest.cases()] if newest else []
    rows = [
        [*(_our_efficiency(entry) if entry else [NONE] * 5), *_their_efficiency(theirs)]
        for entry, theirs in zip(_spread_over_sizes(entries), paper.EFFICIENCY, strict=True)
    ]
    rows.append([*_our_mean(entries), "mean", "", *(f"{figure:,.0f}" for figure in paper.MEAN_EFFICIENCY)])
    rows[-1][-3] = f"{paper.MEAN_EFFICIENCY[0]:.2f}"
    head = ["case", "size", "seconds", "peak GPU MB", "GPU MB s"]
    told = f"{len(entries)} cases of {newest.id}" if newest else "No case"
    return Table(
        6,
        "Running time and GPU memory",
        [*head, *(f"paper: {name}" for name in head)],
        rows,
        f"{told}; shown are up to {TABLE_6_CASES} of growing size (x, y, z), and the mean of all. The "
        f"paper's are other scans, on a Quadro RTX 5000. A run without a GPU has no GPU memory to tell.",
    )


def _figures_table(
    scored: Sequence[Scored], theirs: Sequence[paper.Figures], labels: LabelSet
) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a line a target, two columns a layer and two a method of the paper."""
    names = [*(one.layer.id for one in scored), *(f"paper {figures.name}" for figures in theirs)]
    columns = [*(_our_column(one, labels) for one in scored), *(_their_column(f, labels) for f in theirs)]
    targets = [*(labels[i].name for i in labels.ids), "average (organs)", "average"]
    head = ["target", *(f"{name} {figure}" for name in names for figure in ("DSC", "NSD"))]
    return head, [[target, *(c for column in columns for c in column[i])] for i, target in enumerate(targets)]


def _our_column(scored: Scored, labels: LabelSet) -> list[tuple[str, str]]:
    summary = scored.summary
    organs = [s for i, s in summary.classes.items() if i != labels.tumor]
    cells = [_pair(summary.classes.get(i)) for i in labels.ids]
    whole = list(summary.classes.values()) if summary.tumor and summary.organs else []
    return [*cells, _over_classes(organs), _over_classes(whole)]


def _pair(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return NONE, NONE
    return (
        _cell(100 * spread.dsc, 100 * spread.dsc_sd),
        _cell(100 * spread.nsd, 100 * spread.nsd_sd),
    )


def _over_classes(spreads: Sequence[Spread]) -> tuple[str, str]:
    if not spreads:
        return NONE, NONE
    means = 100 * np.array([[s.dsc, s.nsd] for s in spreads])
    dsc, nsd = (_cell(float(m), float(d)) for m, d in zip(means.mean(0), means.std(0), strict=True))
    return dsc, nsd


def _their_column(figures: paper.Figures, labels: LabelSet) -> list[tuple[str, str]]:
    every = [*(figures.classes.get(i) for i in labels.ids), figures.organs, figures.mean]
    return [(_cell(*pair[0]), _cell(*pair[1])) if pair else (NONE, NONE) for pair in every]


def _cell(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _cases(rows: Rows) -> int:
    return len({row["case"] for row in rows})


def _spread_over_sizes(entries: Sequence[CaseRecord]) -> list[CaseRecord | None]:
    """As many cases as the paper's table has, evenly over the sizes, smallest first; None where they end."""
    ordered = sorted(entries, key=lambda entry: (entry.geometry.voxels, entry.case))
    if len(ordered) <= TABLE_6_CASES:
        return [*ordered, *[None] * (TABLE_6_CASES - len(ordered))]
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, TABLE_6_CASES).round().astype(int)]


def _our_efficiency(entry: CaseRecord) -> list[str]:
    measured = [entry.measures.get(name) for name in MEMORY]
    return [
        entry.case,
        " x ".join(str(n) for n in reversed(entry.geometry.shape)),
        f"{sum(entry.seconds.values()):.2f}",
        *(NONE if figure is None else f"{figure:,.0f}" for figure in measured),
    ]


def _our_mean(entries: Sequence[CaseRecord]) -> list[str]:
    if not entries:
        return [NONE] * 5
    seconds = np.mean([sum(entry.seconds.values()) for entry in entries])
    measured = [[e.measures[name] for e in entries if name in e.measures] for name in MEMORY]
    return ["mean", "", f"{seconds:.2f}", *(f"{np.mean(m):,.0f}" if m else NONE for m in measured)]


def _their_efficiency(theirs: paper.Efficiency) -> list[str]:
    size = " x ".join(str(n) for n in theirs.size)
    figures = f"{theirs.seconds:.2f}", f"{theirs.peak_mb:,.0f}", f"{theirs.area_mb_s:,.0f}"
    return [theirs.case, size, *figures]

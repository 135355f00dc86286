"""How much labels still change from round to round, and which cases a selection left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np

from pwsseg.arrays.stability import disagreement
from pwsseg.report.changes import case_changes
from pwsseg.report.curves import COLORS, QUIET, STYLE, drawing, svg_of
from pwsseg.report.facts import Facts
from pwsseg.report.markup import NONE, Section, row_th, table, td, th, wide_chart
from pwsseg.store import Layer, Store
from pwsseg.store.layer import counts_since

MEASURED_CASES = 6
"""Of the cases that were left out, so many are shown: where no manifest counts, their voxels are compared."""
SELECTS = "select:"
Shares = Mapping[tuple[str, str], Mapping[str, float]]
"""Layer before, layer after -> case -> the share of its organ voxels that changed, where it was counted."""


def stability(facts: Facts, store: Store) -> Section | None:
    """The change of every case, round by round; of every class; the cases that a selection dropped."""
    pairs = list(pairwise(r.layer for r in facts.rounds))
    organs = store.label_set.organs
    changes = {f"{a.id} → {b.id}": found for a, b in pairs if (found := case_changes(a, b, organs))}
    if not changes:
        return None
    chart = wide_chart(_drawn(changes), "Change a case and round")
    return Section(
        "stability",
        "Stability and selection",
        "How much of a case changed from one round to the next, a dot a case, the median as a bar: voxels "
        "against those that are an organ, volumes where voxels were not compared. Labels that no longer "
        "change have been learnt, or are the same mistake each time.",
        f"{chart}{_by_class(pairs, store)}{_selections(facts, store)}",
    )


def _by_class(pairs: Sequence[tuple[Layer, Layer]], store: Store) -> str:
    """Of every class the median over cases of its voxels changed, in percent of those it has now."""
    counted = [(a, b, b.manifest()) for a, b in pairs if counts_since(b, a)]
    if not counted:
        return ""
    classes = sorted({c for _, b, _ in counted for c in b.record.pins.classes})
    head = [[th("class"), *(th(f"{a.id} → {b.id}") for a, b, _ in counted)]]
    body = [
        [row_th(store.label_set[c].name), *(td(_median_change(rows, c)) for _, _, rows in counted)]
        for c in classes
    ]
    caption = "Voxels of a class that changed, in percent of those it has now; the median over cases"
    return table(head, body, caption=caption)


def _median_change(rows: Sequence[Mapping[str, Any]], label: int) -> str:
    has, changed = f"voxels_{label}", f"changed_{label}"
    shares = [100 * row[changed] / row[has] for row in rows if row.get(has) and row.get(changed) is not None]
    return f"{np.median(shares):.0f}" if shares else NONE


def dropped_by(targets: Layer, facts: Facts, store: Store) -> list[str]:
    """Training cases that the round's pseudo labels have and its selected targets don't."""
    parents = {p.id for p in targets.record.pins.parents}
    sources = [r.layer for r in facts.rounds if r.layer.id in parents]
    if not sources or not any(rule.startswith(SELECTS) for rule in targets.record.pins.rules):
        return []
    training = set(store.cases(split="training"))
    return sorted((training & set(sources[-1].cases())) - set(targets.cases()))


def _drawn(changes: dict[str, dict[str, float]]) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = drawing(6.4, 0.75 + 0.42 * len(changes))
        for place, found in enumerate(changes.values()):
            values = 100 * np.array(sorted(found.values()))
            jitter = 0.22 * np.sin(2.4 * np.arange(len(values)))  # dots of like value side by side
            axes.plot(values, place + jitter, "o", ms=4, mew=0, alpha=0.45, color=COLORS[0])
            axes.plot([np.median(values)], [place], "|", ms=20, mew=2.4, color=COLORS[1])
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
        axes.set_xticks([0, 5, 10, 25, 50, 100], [f"{n} %" for n in (0, 5, 10, 25, 50, 100)])
        axes.set_yticks(range(len(changes)), list(changes))
        axes.set_ylim(len(changes) - 0.5, -0.5)
        axes.grid(axis="x", color=QUIET, alpha=0.18, lw=0.8)
        return svg_of(figure, "stability")


def _selections(facts: Facts, store: Store) -> str:
    told, rounds, organs = [], [r.layer for r in facts.rounds], store.label_set.organs
    shares = {(a.id, b.id): b.changes_since(a, organs) for a, b in pairwise(rounds)}
    for layer in facts.layers:
        dropped = dropped_by(layer, facts, store)
        if not dropped:
            continue
        rules = [rule for rule in layer.record.pins.rules if rule.startswith(SELECTS)]
        measured = [
            [row_th(case), td(NONE if u is None else f"{u:.3f}")]
            for case in dropped[:MEASURED_CASES]
            for u in [_instability(rounds, layer, case, organs, shares)]
        ]
        head = [[th(f"left out of {layer.id} by {', '.join(rules)}"), th("u")]]
        told.append(table(head, measured, caption=f"Cases left out of {layer.id}"))
        if len(dropped) > MEASURED_CASES:
            told.append(f'<p class="lead">and {len(dropped) - MEASURED_CASES} more</p>')
    return "".join(told)


def _instability(
    layers: Sequence[Layer], targets: Layer, case: str, organs: Sequence[int], shares: Shares
) -> float | None:
    """The measure u over the three rounds before `targets` that hold the case; None with fewer."""
    before = [x for x in layers if x.state.created <= targets.state.created and case in x.cases()][-3:]
    if len(before) < 3:
        return None
    counted = [shares.get((a.id, b.id), {}).get(case) for a, b in pairwise(before)]
    if None not in counted:
        return 0.5 * sum(share for share in counted if share is not None)
    first, second, third = (layer.labels(case) for layer in before)
    return disagreement(first, second, third, organs=organs)

"""Parts of the report, each a function of the facts; one that has nothing to say gives None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from pwsseg.arrays.metrics import Spread, Summary
from pwsseg.report.cases import case_figure, chosen_cases
from pwsseg.report.curves import scores_per_round, training_curve
from pwsseg.report.facts import Facts, Round, published_at
from pwsseg.report.graph import LANES, Node, layer_graph
from pwsseg.report.markup import NONE, Section, row_th, swatch, table, td, th
from pwsseg.report.tables import percent
from pwsseg.store import Layer, Store
from pwsseg.values import FLARE23


def overview(facts: Facts, store: Store) -> Section | None:
    """The main figures of the last evaluated round, and how they came about."""
    del store
    if not facts.scored:
        return None
    last = facts.scored[-1]
    cards = [
        _card(f"{name} {figure.upper()}", facts.scored, (group, figure))
        for group, name in (("organs", "Organs"), ("tumor", "Tumor"))
        for figure in ("dsc", "nsd")
        if getattr(last.summary, group)
    ]
    cards += _found_lesions(last)
    charts = "".join(
        f'<figure class="chart"><h3>{figure.upper()} per round</h3>'
        f"{scores_per_round(facts.scored, figure)}</figure>"
        for figure in ("dsc", "nsd")
    )
    cases = len({row["case"] for row in last.rows})
    reference = last.reference.id if last.reference else ""
    return Section(
        "overview",
        "Where the labels stand",
        f"{last.layer.id} against {reference} on {_counted(cases, 'case')}, scored by the FLARE23 "
        "organisers' rules. Small dots are cases, large ones the means.",
        f'<dl class="cards">{"".join(cards)}</dl><div class="charts">{charts}</div>',
    )


def scores(facts: Facts, store: Store) -> Section | None:
    """DSC and NSD of every class in every round."""
    del store
    if not facts.scored:
        return None
    rounds = facts.scored
    labels = [c for c in FLARE23.ids if any(c in r.summary.classes for r in rounds)]
    body = [
        [
            row_th(FLARE23[c].name, color=FLARE23[c].color),
            *_figures(rounds, lambda s, c=c: s.classes.get(c)),  # type: ignore[misc]
        ]
        for c in labels
    ]
    totals = [
        [row_th(name), *_figures(rounds, part)]
        for name, part in (("organs", lambda s: s.organs), ("all classes", _everything))
    ]
    head = [
        [th(""), *(th(r.layer.id, span=2, css="group") for r in rounds)],
        [th("class"), *(cell for _ in rounds for cell in (th("DSC", css="group"), th("NSD")))],
    ]
    html = table(head, [*body, *totals], caption="Mean DSC and NSD per class and round, in percent")
    for total in totals:
        html = html.replace(f"<tr>{total[0]}", f'<tr class="total">{total[0]}')
    return Section(
        "scores",
        "Scores per class",
        "Mean ± standard deviation over cases, in percent; the best round of each line in bold. A class is "
        "scored in the cases where the reference annotates it.",
        html,
    )


def pictures(facts: Facts, store: Store) -> Section | None:
    """Cases side by side, round by round."""
    chosen = chosen_cases(facts, store)
    drawn = [
        case_figure(store, case, why, rounds=facts.rounds, key=f"case{i}")
        for i, (case, why) in enumerate(chosen)
    ]
    if not any(drawn):
        return None
    return Section(
        "cases",
        "How the labels evolve",
        "The slice with most classes, CT at level 40, width 400, seen from the feet: the patient's right is "
        "on the left. Point at a picture, or move to it with Tab, to see the CT under the labels.",
        "".join(drawn),
    )


def training(facts: Facts, store: Store) -> Section | None:
    """The training curve of each round's model."""
    del store
    models = {r.model.id: r.model for r in facts.rounds if r.model}
    charts = "".join(
        f'<figure class="chart"><h3>{escape(name)} <small>{_counted(len(curve), "epoch")}</small></h3>'
        f"{training_curve(curve, key=f'curve{i}')}</figure>"
        for i, (name, model) in enumerate(models.items())
        if (curve := model.curve())
    )
    if not charts:
        return None
    return Section("training", "Training", "Loss per epoch.", f'<div class="charts small">{charts}</div>')


def lineage(facts: Facts, store: Store) -> Section | None:
    """The graph of layers, and the list of them."""
    del store
    if not facts.layers:
        return None
    learned = {r.layer.id: tuple(p.id for p in r.model.record.pins.targets) for r in facts.rounds if r.model}
    nodes = [
        Node(
            layer.id,
            layer.record.pins.kind,
            layer.state.cases,
            tuple(p.id for p in layer.record.pins.parents),
            learned.get(layer.id, ()),
        )
        for layer in facts.layers
    ]
    kinds = "".join(f"<li>{swatch(f'var(--{lane})')}{lane}</li>" for lane in LANES)
    listed = f'<ul class="legend kinds">{kinds}</ul>'
    graph = (
        f'<div class="scroll" role="region" aria-label="Layer graph" tabindex="0">{layer_graph(nodes)}</div>'
    )
    drafts = f" Unfinished drafts: {', '.join(facts.drafts)}." if facts.drafts else ""
    return Section(
        "layers",
        "Layers and where they come from",
        "Published layers never change; an arrow leads from a source to what was made of it, dashed from "
        f"what only its model learned from.{drafts}",
        listed + graph + _layer_list(facts.layers),
    )


def _card(name: str, rounds: Sequence[Round], part: tuple[str, str]) -> str:
    """The last round's figure, and its change since the first round that has it."""
    group, figure = part
    first, last = next(r for r in rounds if getattr(r.summary, group)), rounds[-1]
    value = getattr(getattr(last.summary, group), figure)
    earlier = getattr(first.summary, group)
    change = f"in {escape(last.layer.id)}"
    if first is not last:
        points = 100 * (value - getattr(earlier, figure))
        css = "up" if points >= 0 else "down"
        change = f'<span class="{css}">{points:+.1f}</span> since {escape(first.layer.id)}'
    return (
        f'<div class="card"><dt>{escape(name)}</dt><dd class="figure">{percent(value)}<small>%</small></dd>'
        f'<dd class="change">{change}</dd></div>'
    )


def _found_lesions(last: Round) -> list[str]:
    """A card with the lesions found and the false alarms, where the scores count them."""
    rows = [row for row in last.rows if row.get("lesions") is not None]
    lesions, found, false = (
        sum(row[key] for row in rows) for key in ("lesions", "lesions_found", "lesions_false")
    )
    if not rows:
        return []
    return [
        f'<div class="card"><dt>Lesions found</dt><dd class="figure">{found}<small> of {lesions}</small></dd>'
        f'<dd class="change">{false / len(rows):.1f} false alarms a case</dd></div>'
    ]


def _everything(summary: Summary) -> Spread | None:
    return summary.mean if summary.tumor and summary.organs else None


def _figures(rounds: Sequence[Round], part: Callable[[Summary], Spread | None]) -> list[str]:
    """Two cells a round, the best of each figure marked."""
    spreads = [part(r.summary) for r in rounds]
    best = [max((round(s[i], 3) for s in spreads if s), default=None) for i in (1, 3)]
    cells = []
    for spread in spreads:
        if spread is None:
            cells += [td(NONE, css="group"), td(NONE)]
            continue
        for i, top in zip((1, 3), best, strict=True):
            css = ["group"] * (i == 1) + ["best"] * (len(rounds) > 1 and round(spread[i], 3) == top)
            cells.append(td(percent(spread[i]), small=f"± {percent(spread[i + 1])}", css=" ".join(css)))
    return cells


def _layer_list(layers: Sequence[Layer]) -> str:
    head = [
        [
            *(th(t) for t in ("layer", "kind")),
            th("cases", css="number"),
            *(th(t) for t in ("made of", "model", "digest", "published")),
        ]
    ]
    body = [
        [
            row_th(layer.id),
            td(layer.record.pins.kind),
            td(str(layer.state.cases), css="number"),
            td(", ".join(p.id for p in layer.record.pins.parents) or NONE),
            td(layer.record.pins.model.id if layer.record.pins.model else NONE),
            f"<td><code>{escape(layer.digest[:12])}</code></td>",
            td(f"{published_at(layer):%Y-%m-%d %H:%M}"),
        ]
        for layer in layers
    ]
    return table(head, body, caption="Published layers", kind="list")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

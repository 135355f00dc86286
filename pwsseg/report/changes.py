"""What changed from round to round: millilitres a class, the cases that changed most, and where.

Which cases changed most is read from manifests: by the voxels that a prediction counted, else by volumes. The
voxels themselves are compared on a few.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pwsseg.report.cases import OVERLAY_WIDTH, Panel, classes_over, legend, oriented_labels, slice_figure
from pwsseg.report.facts import Facts
from pwsseg.report.markup import NONE, Section, row_th, swatch, table, td, th
from pwsseg.report.overlays import enlarged
from pwsseg.store import Layer, Store
from pwsseg.store.compare import compare, summary

COMPARED_CASES = 8
"""Layers are compared voxel by voxel on this many cases at most: a report should not read a whole corpus."""

SHOWN_CASES = 3
DIFFERENCE = (("gained", "#2fbf71"), ("lost", "#e5484d"), ("another class", "#f5a524"))
"""What can happen to a voxel, and the colour of it."""


def changed(facts: Facts, store: Store) -> Section | None:
    """Volume gained and lost per class between consecutive rounds, and the cases that changed most."""
    layers = [r.layer for r in facts.rounds]
    pairs = [pair for pair in pairwise(layers) if _shared(*pair, facts)]
    if not pairs:
        return None
    counts = sorted({len(_shared(a, b, facts)) for a, b in pairs})
    return Section(
        "changes",
        "What each round changed",
        f"Millilitres that a class gained and lost from one round to the next, summed over "
        f"{' to '.join(str(n) for n in counts)} cases that both layers hold. Below, the cases that "
        f"changed most of all cases, at the slice with most change.",
        _by_class(pairs, facts, store) + _most_changed(*pairs[-1], store),
    )


def volume_change(before: Mapping[str, Any], after: Mapping[str, Any], classes: Sequence[int]) -> float:
    """Change of a case's volumes, sum of |after - before| over sum of after, from two manifest rows.

    At least this share of the labelled voxels has changed: what moved without growing doesn't show in it.
    """
    columns = [f"voxels_{c}" for c in classes]
    v1, v2 = (np.array([row[c] or 0 for c in columns], float) for row in (before, after))
    return float(np.abs(v2 - v1).sum() / max(1.0, v2.sum()))


def case_changes(a: Layer, b: Layer, organs: Collection[int]) -> dict[str, float]:
    """The share of each case in both that changed: of its voxels where b counted them, else of volumes."""
    return volume_changes(a, b) | b.changes_since(a, organs)


def volume_changes(a: Layer, b: Layer) -> dict[str, float]:
    """`volume_change` of every case that both layers hold, in the classes that both name."""
    classes = sorted(set(a.record.pins.classes) & set(b.record.pins.classes))
    first, second = ({row["case"]: row for row in layer.manifest()} for layer in (a, b))
    return {c: volume_change(first[c], second[c], classes) for c in sorted(set(first) & set(second))}


def difference(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What happened to each voxel: 0 nothing, 1 gained, 2 lost, 3 another class; any shape."""
    kinds = np.select([before == after, before == 0, after == 0], [0, 1, 2], default=3)
    return kinds.astype(np.uint8)


def _by_class(pairs: Sequence[tuple[Layer, Layer]], facts: Facts, store: Store) -> str:
    found = [
        {row["class"]: row for row in summary(list(compare(a, b, _shared(a, b, facts))))} for a, b in pairs
    ]
    labels = store.label_set
    head = [
        [th(""), *(th(f"{a.id} → {b.id}", span=2, css="group") for a, b in pairs)],
        [th("class"), *(c for _ in pairs for c in (th("gained", css="group"), th("lost")))],
    ]
    body = [
        [
            row_th(labels[c].name, color=labels[c].color),
            *(cell for change in found for cell in _gain_and_loss(change.get(c))),
        ]
        for c in sorted({c for change in found for c in change})
    ]
    return table(head, body, caption="Volume gained and lost per class, in millilitres")


def _gain_and_loss(change: Mapping[str, float] | None) -> list[str]:
    if change is None:
        return [td(NONE, css="group"), td(NONE)]
    gained, lost = (f"{change[key]:,.1f}" for key in ("gained_ml", "lost_ml"))
    return [td(f"+{gained}", css="group"), td(f"\N{MINUS SIGN}{lost}")]


def _most_changed(a: Layer, b: Layer, store: Store) -> str:
    counted = b.changes_since(a, store.label_set.organs)
    changes = volume_changes(a, b) | counted
    worst = sorted(changes, key=lambda case: (-changes[case], case))[:SHOWN_CASES]
    shown = []
    for i, case in enumerate(worst):
        what = "organ voxels" if case in counted else "volumes"
        shown.append(
            _case(store, case, (a, b), f"{what} {100 * changes[case]:.0f} % changed", key=f"change{i}")
        )
    return "".join(shown)


def _case(store: Store, case: str, layers: tuple[Layer, Layer], change: str, *, key: str) -> str:
    scan = store.scan(case)
    before, after = (oriented_labels(scan, layer) for layer in layers)
    what = difference(before, after)
    z = int(np.count_nonzero(what, axis=(1, 2)).argmax())
    panels = [
        *(Panel(layer.id, classes_over(v[z])) for layer, v in zip(layers, (before, after), strict=True)),
        Panel(f"{layers[0].id} → {layers[1].id}", _painted(what[z]), change),
    ]
    kinds = "".join(f"<li>{swatch(color)}{escape(name)}</li>" for name, color in DIFFERENCE)
    below = legend([before[z], after[z]], store.label_set) + f'<ul class="legend">{kinds}</ul>'
    return slice_figure(scan, z, panels, key=key, note="", below=below)


def _painted(what: NDArray[np.uint8]) -> NDArray[np.uint8]:
    palette = np.zeros((4, 4), np.uint8)
    for i, (_, color) in enumerate(DIFFERENCE, start=1):
        palette[i] = (*bytes.fromhex(color[1:]), 200)
    return palette[enlarged(what, OVERLAY_WIDTH)]


def _shared(a: Layer, b: Layer, facts: Facts) -> list[str]:
    """Cases that both hold, the scored ones first, as many as are compared."""
    scored = {row["case"] for r in facts.rounds for row in r.rows}
    both = set(a.cases()) & set(b.cases())
    return sorted(both, key=lambda c: (c not in scored, c))[:COMPARED_CASES]

"""Cases to look at: one slice as CT, reference, and each round's labels, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.metrics import summarise
from pwsseg.report.facts import Facts, Round, Rows, by_case
from pwsseg.report.markup import swatch
from pwsseg.report.overlays import colored, data_uri, enlarged, fullest_slice, orient, png_bytes, windowed
from pwsseg.report.tables import percent
from pwsseg.store import Layer, Scan, Store
from pwsseg.values import FLARE23, UNKNOWN, LabelSet

OVERLAY_WIDTH = 640


class Panel(NamedTuple):
    """One picture: what lies over the CT, RGBA (y, x, 4), None for the bare CT, and what its corner says."""

    title: str
    overlay: NDArray[np.uint8] | None
    corner: str = ""


def chosen_cases(facts: Facts, store: Store, count: int = 3) -> list[tuple[str, str]]:
    """Up to `count` (case, why), the best, the middle and the worst of the last evaluated round.

    Without scores, the first validation cases (or any) that the last round holds.
    """
    if not facts.rounds:
        return []
    if not facts.scored:
        held = facts.rounds[-1].layer.cases()
        validation = [c for c in held if c in set(store.cases(split="validation"))]
        return [(case, "") for case in (validation or held)[:count]]
    last = facts.scored[-1]
    scored = {case: _mean_dsc(rows) for case, rows in by_case(last.rows).items()}
    ranked = sorted(scored, key=lambda case: (-scored[case], case))
    places = {0: "best", len(ranked) // 2: "middle", len(ranked) - 1: "worst"}
    why = {0: f"best case of {last.layer.id}"} | {
        i: f"{name} case of {last.layer.id}" for i, name in places.items() if i
    }
    return [(ranked[i], why[i]) for i in sorted(why)][:count]


def case_figure(store: Store, case: str, why: str, *, rounds: Sequence[Round], key: str) -> str:
    """The pictures of a case. The CT is stored once and lies under every overlay of it."""
    scan = store.scan(case)
    reference = next((r.reference for r in reversed(rounds) if r.reference), None)
    held = [r for r in rounds if case in r.layer.cases()]
    guide = reference if reference and case in reference.cases() else (held[-1].layer if held else None)
    if guide is None:
        return ""
    z = fullest_slice(oriented_labels(scan, guide))
    shown = [(f"reference ({guide.id})", oriented_labels(scan, guide)[z], "")] if guide is reference else []
    shown += [(r.layer.id, oriented_labels(scan, r.layer)[z], _corner(r, case)) for r in held]
    panels = [Panel(title, classes_over(labels), corner) for title, labels, corner in shown]
    return slice_figure(
        scan, z, panels, key=key, note=why, below=legend([labels for _, labels, _ in shown], store.label_set)
    )


def slice_figure(scan: Scan, z: int, panels: Sequence[Panel], *, key: str, note: str, below: str) -> str:
    """A slice's CT and the panels over it, with a heading above and HTML `below`.

    `z` counts slices from inferior, as `orient` turns them.
    """
    volume = orient(scan.read(), scan.geometry)
    _, y_mm, x_mm = volume.spacing
    rows, columns = volume.array[z].shape
    size = (columns * x_mm, rows * y_mm)
    ct = data_uri(png_bytes(windowed(volume.array[z])))
    every = [Panel("CT", None), *panels]
    drawn = "".join(_panel(p, size=size, key=key, ct=ct if i == 0 else "") for i, p in enumerate(every))
    where = f"slice {z + 1} of {len(volume.array)} from inferior"
    told = f"{note}, {where}" if note else where
    return (
        f'<article class="case"><h3>{escape(scan.case)} <small>{escape(told)}</small></h3>'
        f'<div class="panels{" four" * (len(every) == 4)}">{drawn}</div>{below}</article>'
    )


def classes_over(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A slice of labels (y, x) in the classes' colours, enlarged, RGBA."""
    return colored(enlarged(labels, OVERLAY_WIDTH))


def oriented_labels(scan: Scan, layer: Layer) -> NDArray[np.uint8]:
    """The labels of the scan's case, turned as pictures show them."""
    labels: NDArray[np.uint8] = orient(layer.labels(scan.case), scan.geometry).array
    return labels


def legend(slices: Sequence[NDArray[np.uint8]], label_set: LabelSet = FLARE23) -> str:
    """Colours and names of the classes that the slices show."""
    shown = sorted({int(i) for s in slices for i in np.unique(s) if i})
    known = [(label_set[i].color, label_set[i].name) for i in shown if i != UNKNOWN]
    items = known + ([("#808080", "unknown")] if UNKNOWN in shown else [])
    told = "".join(f"<li>{swatch(color)}{escape(name)}</li>" for color, name in items)
    return f'<ul class="legend">{told}</ul>'


def _panel(panel: Panel, *, size: tuple[float, float], key: str, ct: str) -> str:
    """`ct` is the address of the CT in the panel that holds it; the others point at that one."""
    width, height = (f"{edge:.1f}" for edge in size)
    box = f'x="0" y="0" width="{width}" height="{height}" preserveAspectRatio="none"'
    base = f'<image id="{key}-ct" href="{ct}" {box}/>' if ct else f'<use href="#{key}-ct"/>'
    over = ""
    if panel.overlay is not None:
        over = f'<image class="labels" href="{data_uri(png_bytes(panel.overlay))}" {box}/>'
    corner = f'<span class="corner">{escape(panel.corner)}</span>' if panel.corner else ""
    hint = ' tabindex="0"' if over else ""
    return (
        f'<figure{hint}><div class="picture"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(panel.title)}">{base}{over}</svg>'
        f'<span class="side left">R</span><span class="side right">L</span>{corner}</div>'
        f"<figcaption>{escape(panel.title)}</figcaption></figure>"
    )


def _corner(r: Round, case: str) -> str:
    rows = [row for row in r.rows if row["case"] == case]
    return f"DSC {percent(_mean_dsc(rows))}" if rows else ""


def _mean_dsc(rows: Rows) -> float:
    found = summarise(rows).mean
    return found.dsc if found else 0.0

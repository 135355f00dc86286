"""Where the time goes: seconds a case and stage of every round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pwsseg.report import paper
from pwsseg.report.facts import Facts
from pwsseg.report.markup import NONE, Section, row_th, table, td, th
from pwsseg.store import CaseRecord, Layer, Store
from pwsseg.store.measures import GPU_AREA_MB_S, GPU_PEAK_MB, PROCESS_AREA_MB_S, PROCESS_PEAK_MB

READ_CASES = 40
"""So many records of a layer are read for its stages; the mean of all cases comes from its manifest."""


def efficiency(facts: Facts, store: Store) -> Section | None:
    """Mean seconds a case, by stage, and GPU memory where there was one."""
    del store
    layers = [r.layer for r in facts.rounds if r.layer.cases()]
    if not layers:
        return None
    records = [_some(layer) for layer in layers]
    stages = list(dict.fromkeys(stage for found in records for r in found for stage in r.seconds))
    lines = [
        [row_th(layer.id), *_figures(layer, found, stages)]
        for layer, found in zip(layers, records, strict=True)
    ]
    seconds, peak, area = paper.MEAN_EFFICIENCY
    theirs = ["20", *(NONE for _ in stages), f"{seconds:.2f}", f"{peak:,.0f}", f"{area:,.0f}"]
    lines.append([row_th("paper"), *(td(text) for text in theirs)])
    head = ["", "cases", *stages, "seconds a case", "peak MB", "MB s"]
    return Section(
        "efficiency",
        "Efficiency",
        "Mean seconds that each stage of a prediction took for a case, and memory while the network had it: "
        "the GPU's, or the whole process's where there is none. The paper's figures are of larger scans on a "
        "Quadro RTX 5000.",
        table(
            [[th(text, css="number" if text else "") for text in head]],
            lines,
            caption="Seconds a case and stage",
        ),
    )


def _some(layer: Layer) -> list[CaseRecord]:
    cases = layer.cases()
    places = np.linspace(0, len(cases) - 1, min(len(cases), READ_CASES)).round().astype(int)
    return [layer.entry(cases[i]) for i in places]


def _figures(layer: Layer, records: Sequence[CaseRecord], stages: Sequence[str]) -> list[str]:
    every = [row["seconds"] for row in layer.manifest("seconds")]
    by_stage = [[r.seconds[s] for r in records if s in r.seconds] for s in stages]
    gpu = any(GPU_PEAK_MB in r.measures for r in records)
    names = (GPU_PEAK_MB, GPU_AREA_MB_S) if gpu else (PROCESS_PEAK_MB, PROCESS_AREA_MB_S)
    measured = [[r.measures[name] for r in records if name in r.measures] for name in names]
    return [
        td(str(len(every))),
        *(td(f"{np.mean(s):.2f}" if s else NONE) for s in by_stage),
        td(f"{np.mean(every):.2f}"),
        *(td(f"{np.mean(m):,.0f}" if m else NONE) for m in measured),
    ]

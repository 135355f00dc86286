"""What stands out in the scans and the annotation that were taken in, from records and manifests alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from pwsseg.report.facts import Facts
from pwsseg.report.markup import Section, row_th, table, th
from pwsseg.store import Layer, ScanRecord, Store
from pwsseg.values import LabelSet

THICK_MM = 5.0
FEW_SLICES = 20
FAR_OUT = 3.5
"""A volume is an outlier from this robust z-score on (Iglewicz and Hoaglin, 1993)."""
LEAST_CASES = 8
"""Fewer cases say nothing about what is usual."""
NAMED_CASES = 6


class Finding(NamedTuple):
    """One kind of thing that stands out, and the cases."""

    what: str
    cases: list[str]


def quality(facts: Facts, store: Store) -> Section | None:
    """Duplicates, coarse or short scans, absent classes, volumes far from the usual."""
    if not facts.layers:
        return None
    records = [store.scan(case).record for case in store.cases()]
    found = scan_findings(records)
    layer = next((x for x in reversed(facts.layers) if x.record.pins.kind == "annotation"), None)
    if layer:
        found += annotation_findings(layer, store.label_set)
    head = [[th("finding"), th("cases", css="number"), th("which")]]
    body = [
        [
            row_th(f.what),
            f'<td class="number">{len(f.cases)}</td>',
            f'<td class="wrap">{_named(f.cases)}</td>',
        ]
        for f in found
        if f.cases
    ]
    spoken = f"{len(records)} scans and what people annotated in them. None of this is wrong by itself."
    text = table(head, body, caption="Findings", kind="list") if body else "<p>Nothing stands out.</p>"
    return Section("quality", "What stands out in the data", spoken, text)


def scan_findings(records: Sequence[ScanRecord]) -> list[Finding]:
    """Scans that are the same voxels twice, coarse, or short."""
    by_digest: dict[str, list[str]] = {}
    for record in records:
        by_digest.setdefault(record.digest, []).append(record.case)
    twins = [case for cases in by_digest.values() if len(cases) > 1 for case in cases]
    thick = [r.case for r in records if max(r.geometry.spacing) > THICK_MM]
    short = [r.case for r in records if min(r.geometry.shape) < FEW_SLICES]
    return [
        Finding("the same voxels as another case", twins),
        Finding(f"voxels longer than {THICK_MM:g} mm", thick),
        Finding(f"fewer than {FEW_SLICES} slices along an axis", short),
    ]


def annotation_findings(layer: Layer, labels: LabelSet) -> list[Finding]:
    """Classes that are stated to be absent, and volumes far from the usual of their class."""
    rows = layer.manifest()
    found = []
    for label in labels.organs:
        absent = [r["case"] for r in rows if r.get(f"voxels_{label}") == 0]
        found.append(Finding(f"{labels[label].name} is stated and has no voxel", absent))
    for label in labels.organs:
        far = volume_outliers(rows, label)
        found.append(Finding(f"volume of {labels[label].name} far from the usual", sorted(far)))
    return found


def volume_outliers(rows: Sequence[Mapping[str, Any]], label: int) -> dict[str, float]:
    """Case -> robust z-score of the logarithm of the class's volume, where it is at least FAR_OUT off.

    `rows` are those of a manifest; cases without a voxel of the class are not judged, and with fewer than
    LEAST_CASES others nobody is.
    """
    stated = [r for r in rows if r.get(f"voxels_{label}")]
    if len(stated) < LEAST_CASES:
        return {}
    logs = np.log([r[f"voxels_{label}"] * r["voxel_ml"] for r in stated])
    median = np.median(logs)
    deviation = float(np.median(np.abs(logs - median))) or 1e-9
    scores = 0.6745 * (logs - median) / deviation
    return {r["case"]: float(z) for r, z in zip(stated, scores, strict=True) if abs(z) >= FAR_OUT}


def _named(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - NAMED_CASES} more" if len(cases) > NAMED_CASES else ""
    return escape(", ".join(cases[:NAMED_CASES]) + more)

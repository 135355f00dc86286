"""Where each voxel of a target comes from, worked out again from the parents and rules that are pinned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.targets import TargetRules, target_labels, target_provenance
from pwsseg.pipelines.sources import kind_of
from pwsseg.store import CaseRecord, Layer, Pin, Store
from pwsseg.store.digests import array_digest
from pwsseg.values import StoreError


class _Made(NamedTuple):
    """What went into one case's target."""

    annotation: NDArray[np.uint8] | None
    pseudo: NDArray[np.uint8] | None
    annotated: frozenset[int]
    rules: TargetRules
    spacing: tuple[float, float, float]

    def by(self, function: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """What `target_labels` or `target_provenance` says of it."""
        given = {"rules": self.rules, "annotated": self.annotated, "spacing": self.spacing}
        return function(self.annotation, self.pseudo, **given)


def provenance_of(store: Store, layer: Layer, case: str) -> NDArray[np.uint8]:
    """`Provenance` of each voxel (z, y, x) of one case of a targets layer.

    The labels are made again beside it. StoreError when the layer was not made by rules that are known here,
    a parent is gone, or the labels that come out are not those that are stored: then nothing can be said.
    """
    entry, rules = layer.entry(case), _rules(store, layer)
    if rules is None or "science" not in layer.record.pins.settings:
        raise StoreError(
            f"layer {layer.id} is not made by the rules of targets, so nothing can be recomputed"
        )
    made = _made(store, layer, entry, rules)
    if array_digest(made.by(target_labels)) != entry.digest:
        raise StoreError(
            f"case {case} of {layer.id} comes out with other labels than are stored; "
            f"the rules have changed since code {layer.record.pins.code[:12]}"
        )
    return made.by(target_provenance)


def _rules(store: Store, layer: Layer) -> TargetRules | None:
    pins, labels = layer.record.pins, store.label_set
    if pins.kind != "fusion":
        return None
    return TargetRules.named(pins.rules, classes=pins.classes, organs=labels.organs, tumor=labels.tumor)


def _made(store: Store, layer: Layer, entry: CaseRecord, rules: TargetRules) -> _Made:
    """The parents' labels of a case, as far as its role in the round let them speak."""
    parents, case = layer.record.pins.parents, entry.case
    science = cast(dict[str, Any], layer.record.pins.settings["science"])
    annotation = _parent(store, parents[0])
    drawn = annotation.find(case)
    stated = frozenset(drawn.annotated_classes) if drawn else frozenset()
    kind = kind_of(stated, frozenset(science["labelled_at_least"]))
    fused = science["cases"][kind] == "fused" and len(parents) > 1
    return _Made(
        annotation=annotation.labels(case) if kind != "unlabelled" else None,
        pseudo=_parent(store, parents[1]).labels(case) if fused else None,
        annotated=stated & rules.classes,
        rules=rules,
        spacing=entry.geometry.spacing,
    )


def _parent(store: Store, pin: Pin) -> Layer:
    layer = store.layer(pin.id)
    if layer.digest != pin.digest:
        raise StoreError(f"layer {pin.id} is not the one that was learnt from; run `pwsseg verify`")
    return layer

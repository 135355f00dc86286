"""The boxes that a round's networks look into, and the coarse network that finds them.

sources = in_boxes(store, sources, targets, resources)     # the same sources, scans cropped to boxes
"""

from __future__ import annotations

from dataclasses import replace

from pwsseg.networks.prediction import BoxSettings
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.prepare import prepare_scans
from pwsseg.pipelines.sources import Sources, starting_model
from pwsseg.pipelines.train import train_model
from pwsseg.store import Layer, PredictionPins, Store


def in_boxes(store: Store, sources: Sources, targets: Layer, resources: Resources) -> Sources:
    """The sources with the boxes that scans are cropped to, or as they are when no network finds any.

    An organ round with a coarse network trains that first; a tumor round takes the coarse network of the
    round whose labels it learns from.
    """
    box: BoxSettings | None = None
    if sources.settings.coarse is not None:
        box = _trained(store, sources, targets, resources)
    elif sources.settings.science.stage == "ots":
        box = _inherited(store, sources, targets)
    return replace(sources, settings=sources.settings.model_copy(update={"box": box}))


def _trained(store: Store, sources: Sources, targets: Layer, resources: Resources) -> BoxSettings:
    coarse, size = sources.settings.coarse, sources.settings.scale.os.coarse
    assert coarse is not None
    assert size is not None
    part = replace(sources, settings=coarse, starts_from=starting_model(store, coarse))
    prepare_scans(store, part, resources)
    model = train_model(store, part, targets, resources)
    return BoxSettings(coarse=model.id, digest=model.digest, margin_mm=size.margin_mm, around=targets.id)


def _inherited(store: Store, sources: Sources, targets: Layer) -> BoxSettings | None:
    pins = sources.pseudo.record.pins if sources.pseudo else None
    if not isinstance(pins, PredictionPins):
        return None
    box = prediction_settings(store.model(pins.model.id)).box
    return box and box.model_copy(update={"around": targets.id})

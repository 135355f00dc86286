"""The versioned store: scans, label layers, models; Zarr v3 groups with records, see `zarr_schema/`."""

from pwsseg.store.draft import LayerDraft, Proof
from pwsseg.store.layer import Layer
from pwsseg.store.model import Model
from pwsseg.store.prepared import PreparedCache
from pwsseg.store.records import (
    AcceptedDrift,
    AnnotationPins,
    CaseRecord,
    FusionPins,
    LayerRecord,
    ModelPins,
    ModelRecord,
    Pin,
    PredictionPins,
    RetirementRecord,
    ScanRecord,
    Source,
)
from pwsseg.store.scan import Scan
from pwsseg.store.store import Store

__all__ = [
    "AcceptedDrift",
    "AnnotationPins",
    "CaseRecord",
    "FusionPins",
    "Layer",
    "LayerDraft",
    "LayerRecord",
    "Model",
    "ModelPins",
    "ModelRecord",
    "Pin",
    "PredictionPins",
    "PreparedCache",
    "Proof",
    "RetirementRecord",
    "Scan",
    "ScanRecord",
    "Source",
    "Store",
]

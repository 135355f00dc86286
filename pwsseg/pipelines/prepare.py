"""Prepared scans: turned the usual way, resampled, clipped, normalised, float16; a cache in the store."""

from __future__ import annotations

import numpy as np
import torch

from pwsseg.arrays.resampling import normalise, resample_scan
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import PredictionSettings, RoundSettings
from pwsseg.store import Store
from pwsseg.values import Geometry, StoreError, orientation_of, oriented


def prepare_scans(store: Store, sources: Sources, resources: Resources) -> None:
    """Fill the prepared cache for all cases that the round learns from or predicts.

    Raises
    ------
    StoreError
        When a scan can't be prepared, naming it.
    """
    settings = sources.settings
    cache = store.prepared(settings.recipe)
    cases = sorted({*sources.learnt, *sources.unlabelled, *sources.predicted})
    waiting = [c for c in cases if not cache.has(c, store.scan(c).record.digest)]
    items = over_cases(
        [Item(c) for c in waiting],
        [Stage(_prepare_one, {"location": store.location, "settings": settings})],
        resources=resources,
        progress=Progress(f"{settings.name} · prepare", len(waiting)),
    )
    failed = [i for i in items if i.error]
    if failed:
        raise StoreError(
            f"{len(failed)} scans can't be prepared, first {failed[0].case}: {failed[0].error}; "
            f"run `pwsseg verify` on the store"
        )


def prepared_scan(
    hu: np.ndarray, geometry: Geometry, settings: PredictionSettings
) -> tuple[np.ndarray, Geometry]:
    """Orient, resample, clip and normalise one scan: int16 HU (z, y, x) -> float16 (z, y, x), its grid.

    Every prepared scan runs up, back and left, so that the networks meet the liver on one side.
    """
    target = oriented(geometry).resampled(settings.spacing)
    resampled = resample_scan(orientation_of(geometry).apply(hu), target.shape)
    scaled = normalise(resampled, clip_hu=settings.clip_hu)
    return torch.from_numpy(scaled).half().numpy(), target  # NumPy takes four times as long


def _prepare_one(item: Item, *, location: str, settings: RoundSettings) -> Item:
    store = Store.open(location)
    scan = store.scan(item.case)
    volume, grid = prepared_scan(scan.read(), scan.geometry, settings.prediction)
    store.prepared(settings.recipe).write(item.case, volume, grid, scan.record.digest)
    return item

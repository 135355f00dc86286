"""Prepared scans: turned the usual way, resampled, clipped, normalised, float16; a cache in the store."""

from __future__ import annotations

import numpy as np
import torch

from pwsseg.arrays.resampling import network_input
from pwsseg.networks.prediction import PredictionSettings
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.finder import AbdomenFinder
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import RoundSettings
from pwsseg.store import Store
from pwsseg.values import Geometry, StoreError, Window, orientation_of, oriented


def prepare_scans(store: Store, sources: Sources, resources: Resources) -> None:
    """Fill the prepared cache for all cases that the round learns from or predicts.

    Where scans are cropped to boxes, prediction finds its own, so only the cases to learn from are prepared.

    Raises
    ------
    StoreError
        When a scan can't be prepared, naming it.
    """
    settings = sources.settings
    cache = store.prepared(settings.recipe)
    predicted = [] if settings.box or settings.stage.resized else sources.predicted
    cases = sorted({*sources.learnt, *sources.unlabelled, *predicted})
    waiting = [c for c in cases if not cache.has(c, sources.scans[c].digest)]
    items = over_cases(
        [Item(c, voxels=sources.scans[c].geometry.voxels) for c in waiting],
        [Stage(_Preparer, {"location": store.location, "settings": settings}, device=True)]
        if settings.box
        else [Stage(_prepare_one, {"location": store.location, "settings": settings})],
        resources=resources,
        progress=Progress(f"{settings.name} · prepare", len(waiting)),
    )
    failed = [i for i in items if i.error]
    if failed:
        raise StoreError(
            f"{len(failed)} scans can't be prepared, first {failed[0].case}: {failed[0].error}; "
            f"run `pwsseg verify` on the store, or go without them by --allow-missing"
        )


def read_prepared(store: Store, case: str, settings: RoundSettings) -> tuple[np.ndarray, Geometry, bool]:
    """A prepared scan (z, y, x), its grid, and whether it had to be made again because it was damaged.

    Only reading finds damaged voxels, so they are made again by whoever meets them, wherever that is.
    """
    cache = store.prepared(settings.recipe)
    try:
        return *cache.read(case), False
    except StoreError:
        with torch.random.fork_rng():  # building the finder must not change what a training draws next
            _prepare_one(
                Item(case), location=store.location, settings=settings, finder=_finder(store, settings)
            )
        return *cache.read(case), True


def prepared_scan(
    hu: np.ndarray,
    geometry: Geometry,
    settings: PredictionSettings,
    *,
    window: Window | None = None,
    device: torch.device | None = None,
) -> tuple[np.ndarray, Geometry]:
    """Orient, crop, resample, clip and normalise one scan: int16 HU (z, y, x) -> float16 (z, y, x), its grid.

    Every prepared scan runs up, back and left, so that the networks meet the liver on one side. `window` is
    the part to keep, on the scan's grid seen this way; `device` computes it.
    """
    turned, grid = orientation_of(geometry).apply(hu), oriented(geometry)
    if window is not None:
        turned, grid = turned[window.slices], grid.cropped(window)
    target = grid.reshaped(settings.patch) if settings.resized else grid.resampled(settings.spacing)
    scaled = network_input(turned, target.shape, clip_hu=settings.clip_hu, device=device)
    return scaled.half().cpu().numpy(), target  # NumPy takes four times as long to halve


def _prepare_one(
    item: Item, *, location: str, settings: RoundSettings, finder: AbdomenFinder | None = None
) -> Item:
    store = Store.open(location)
    scan = store.scan(item.case)
    hu = scan.read()
    window = _window(store, item.case, hu, settings, finder) if finder else None
    volume, grid = prepared_scan(hu, scan.geometry, settings.prediction, window=window)
    store.prepared(settings.recipe).write(item.case, volume, grid, scan.record.digest)
    return item


class _Preparer:
    """`_prepare_one` with the coarse network on its device."""

    def __init__(self, *, location: str, settings: RoundSettings) -> None:
        self._finder = _finder(Store.open(location), settings)
        self._location, self._settings = location, settings

    def __call__(self, item: Item) -> Item:
        return _prepare_one(item, location=self._location, settings=self._settings, finder=self._finder)


def _finder(store: Store, settings: RoundSettings) -> AbdomenFinder | None:
    box = settings.box
    return AbdomenFinder(store.model(box.coarse), margin_mm=box.margin_mm) if box else None


def _window(
    store: Store, case: str, hu: np.ndarray, settings: RoundSettings, finder: AbdomenFinder
) -> Window:
    """The case's box: around its labels where it has some to learn, else what the coarse network finds."""
    assert settings.box is not None
    layer, geometry = store.layer(settings.box.around), store.scan(case).geometry
    if case in layer.cases():
        return finder.around(layer.labels(case), hu, geometry).window
    return finder.find(hu, geometry).window

"""Patches for one training worker, read from the store inside the worker.

    for batch, cases in PatchFeed(...).epoch(3): ...       # Batch of tensors, and which cases they are of

Several patches are cut from each volume while it is in memory; a few volumes stay cached. Patches are bent on
the device that trains; beside a GPU, the next batch is cut while it computes (`ahead`). Every place in the
batch has a random generator of its own in every epoch, so a resumed run goes on with the same patches, and a
batch holds the same ones however many workers share it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from pwsseg.arrays.patches import Patch, TrainingCase, class_places, cut_patch, endless
from pwsseg.arrays.resampling import resample_labels
from pwsseg.networks.supervision import Batch
from pwsseg.pipelines.prepare import read_prepared
from pwsseg.store import Store
from pwsseg.values import orientation_of, oriented

if TYPE_CHECKING:
    from pwsseg.rounds import RoundSettings

T = TypeVar("T")

PLACES_A_CLASS = 2000
"""Voxel positions remembered for each class of a volume, to centre patches on."""


@dataclass(frozen=True)
class FeedPlan:
    """What the workers of one training read; small enough to travel with the training's settings."""

    location: str
    targets: str
    """Id of the layer with the labels to learn."""
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]


class PatchFeed:
    """Batches for one of several workers, which fills its share of the places in every batch.

    A place sees all cases, in an order of its own.
    """

    def __init__(
        self,
        plan: FeedPlan,
        settings: RoundSettings,
        *,
        rank: int,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        self._plan, self._settings, self._device = plan, settings, device
        labelled, unlabelled = settings.stage.labelled_batch, settings.stage.unlabelled_batch
        self._labelled = range(rank, labelled, workers)
        self._unlabelled = range(labelled + rank, labelled + unlabelled, workers) if plan.unlabelled else ()
        self._store = Store.open(plan.location)
        self._cache: OrderedDict[str, TrainingCase] = OrderedDict()

    def epoch(self, number: int) -> Iterator[tuple[Batch, list[str]]]:
        """The batches of one epoch: labelled patches first."""
        places = [self._stream(self._plan.labelled, number, place) for place in self._labelled]
        places += [self._stream(self._plan.unlabelled, number, place) for place in self._unlabelled]
        for _ in range(self._settings.stage.steps_an_epoch):
            patches = [next(place) for place in places]
            yield _batch(patches, len(self._labelled)), [p.case for p in patches]

    def _stream(self, cases: tuple[str, ...], epoch: int, place: int) -> Iterator[Patch]:
        """The patches of one place in the batch."""
        random = np.random.default_rng([self._settings.seed, place, epoch])
        for case in endless(cases, self.load, each=self._settings.scale.patches_each, random=random):
            yield self.cut(case, random)

    def cut(self, case: TrainingCase, random: np.random.Generator) -> Patch:
        """One augmented patch of a case, by the round's settings."""
        science = self._settings.science
        return cut_patch(
            case,
            patch=self._settings.stage.patch,
            foreground=science.foreground,
            favoured=science.favoured,
            augmentation=science.augmentation,
            random=random,
            device=self._device,
        )

    def load(self, case: str) -> TrainingCase:
        """One case in memory; the one that was not used for longest leaves."""
        if case not in self._cache:
            self._cache[case] = self._read(case)
            if len(self._cache) > self._settings.scale.cached_volumes:
                self._cache.popitem(last=False)
        self._cache.move_to_end(case)
        return self._cache[case]

    def _read(self, case: str) -> TrainingCase:
        volume, geometry, _ = read_prepared(self._store, case, self._settings)
        classes = self._settings.science.classes
        image = torch.from_numpy(volume.astype(np.float32))
        if case in self._plan.unlabelled:
            known = np.zeros(len(classes), dtype=bool)
            return TrainingCase(case, image, None, known, geometry.spacing, {})
        layer = self._store.layer(self._plan.targets)
        native = self._store.scan(case).geometry
        window = oriented(native).window_of(geometry)
        turned = orientation_of(native).apply(layer.labels(case))
        labels = resample_labels(turned[window.slices], geometry.shape)
        known = np.isin(classes, layer.entry(case).annotated_classes)
        places = class_places(labels, at_most=PLACES_A_CLASS, random=np.random.default_rng(0))
        return TrainingCase(case, image, torch.from_numpy(labels), known, geometry.spacing, places)


def ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same items; while one is in use the next is made in a thread. What making raises comes out here."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
        waiting = thread.submit(next, batches, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, batches, None)
            yield item


def _batch(patches: list[Patch], labelled: int) -> Batch:
    labels = [p.labels for p in patches[:labelled] if p.labels is not None]
    return Batch(
        images=torch.stack([p.image for p in patches])[:, None],
        labels=torch.stack(labels),
        known=torch.from_numpy(np.stack([p.known for p in patches[:labelled]])),
    )

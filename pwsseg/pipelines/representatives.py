"""The unlabelled scans that a round learns from when it is to learn from some only: those that cover all.

sources = choose_representatives(store, sources, resources)     # the same, or with fewer unlabelled cases

Each scan is described by an encoder (networks/description.py); scans are chosen that lie farthest from the
labelled ones and from each other (arrays/representative.py). The choice is kept beside the checkpoints, so
that a round that is run again need not describe all scans anew.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch

from pwsseg.arrays.representative import farthest_points
from pwsseg.networks.description import pooled_features
from pwsseg.networks.prediction import PredictionSettings
from pwsseg.networks.supervision import build_network
from pwsseg.pipelines.checkpoints import prediction_settings, shared_scratch
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.labeller import load_labeller
from pwsseg.pipelines.over_cases import Item, Stage, check_done, over_cases
from pwsseg.pipelines.prepare import prepared_scan
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import RoundSettings
from pwsseg.store import Model, Store
from pwsseg.store.digests import code_digest, json_digest


def choose_representatives(store: Store, sources: Sources, resources: Resources) -> Sources:
    """Keep the share of unlabelled cases that the round's [representatives] asks for.

    Raises
    ------
    StoreError
        When a scan can't be described.
    """
    asked, waiting = sources.settings.science.representatives, sources.unlabelled
    if asked is None or not waiting:
        return sources
    kept = shared_scratch(store) / f"representatives-{_digest(sources)}.json"
    if kept.exists():
        chosen = json.loads(kept.read_text(encoding="utf-8"))
    else:
        chosen = _choose(store, sources, resources, count=round(asked.keep * len(waiting)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(chosen), encoding="utf-8")
        unfinished.replace(kept)
    by = sources.described_by.id if sources.described_by else "an untrained encoder"
    say(f"  {len(chosen)} of {len(waiting)} unlabelled scans represent all, by {by}")
    return replace(sources, passed_over=frozenset(waiting) - frozenset(chosen))


def _digest(sources: Sources) -> str:
    said = {"settings": sources.pinned_settings(), "cases": sources.unlabelled, "code": code_digest()}
    return json_digest(said)[:16]


def _choose(store: Store, sources: Sources, resources: Resources, *, count: int) -> list[str]:
    labelled, waiting = sources.learnt, sources.unlabelled
    items = over_cases(
        [Item(c, windows=1, voxels=sources.scans[c].geometry.voxels) for c in (*labelled, *waiting)],
        [
            Stage(_load, {"location": store.location, "settings": _input(sources)}),
            Stage(_Describer, {"settings": sources.settings, "model": sources.described_by}, device=True),
        ],
        resources=resources,
        progress=Progress(f"{sources.settings.name} · describe", len(labelled) + len(waiting)),
    )
    check_done(items, "scan {case} can't be described")
    features = {i.case: i.fields["features"] for i in items}
    here, there = (np.asarray([features[c] for c in cases], np.float64) for cases in (waiting, labelled))
    return sorted(waiting[i] for i in farthest_points(here, chosen=there, count=count))


def _input(sources: Sources) -> PredictionSettings:
    """How a scan is prepared for the encoder: whole, resized to one patch of it."""
    model = sources.described_by
    settings = prediction_settings(model) if model else sources.settings.prediction
    return settings.model_copy(update={"resized": True, "box": None})


def _load(item: Item, *, location: str, settings: PredictionSettings) -> Item:
    scan = Store.open(location).scan(item.case)
    item.volume, _ = prepared_scan(scan.read(), scan.geometry, settings)
    return item


class _Describer:
    """An encoder on its device."""

    def __init__(self, *, settings: RoundSettings, model: Model | None) -> None:
        if model is not None:
            self._network = load_labeller(model).network
        else:
            torch.manual_seed(settings.seed)
            science = settings.science
            self._network = build_network(settings.network, len(settings.channels), science.supervision)
            self._network.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def __call__(self, item: Item) -> Item:
        """Replace the item's volume by its features."""
        device = next(self._network.parameters()).device
        image = torch.from_numpy(item.volume).float().to(device)
        features = pooled_features(self._network, image[None, None])[0]
        return Item(item.case, {"features": features.double().cpu().tolist()})

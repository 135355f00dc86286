"""Prediction on Ray Data: read and prepare, network on the devices, write; longest scans first.

predict_layer(store, sources, model, resources) -> Layer      # a round's pseudo labels, published
predict_files(model, files, out, resources) -> ...     # images in, NIfTI labels out
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from safetensors.torch import load

from pwsseg.arrays.body import find_body
from pwsseg.arrays.components import keep_largest
from pwsseg.arrays.labelling import write_labels_on_grid
from pwsseg.arrays.sliding import Shape, covered, place_windows, stream, stream_bytes
from pwsseg.formats.found import SourceCase
from pwsseg.formats.nifti import write_labels
from pwsseg.formats.reading import read_volume, stored_bytes
from pwsseg.formats.volume import Volume
from pwsseg.networks.losses import scores_of
from pwsseg.networks.precision import autocast
from pwsseg.networks.supervision import Twins, build_network
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.models import AnyModel
from pwsseg.pipelines.needs import check_memory
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.prepare import prepared_scan
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.publish import publish
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import PredictionSettings
from pwsseg.store import Layer, LayerDraft, Model, PredictionPins, Store
from pwsseg.store.digests import code_digest
from pwsseg.values import FLARE23, Geometry, Window, orientation_of


def predict_layer(store: Store, sources: Sources, model: Model, resources: Resources) -> Layer:
    """Predict and publish a round's layer; the same pins give the layer that is already there.

    Cases with a commit record are done; the others are predicted, in whatever run that is.
    """
    settings = sources.settings
    pins = layer_pins(sources, model)
    if existing := store.published(pins):
        return existing
    draft = store.draft(pins)
    committed = draft.committed()
    waiting = [c for c in sources.predicted if c not in committed]
    if committed:
        say(f"  resuming {draft.id}: {len(committed)} of {len(sources.predicted)} cases are done")
    waiting.sort(key=lambda c: -store.scan(c).geometry.voxels)
    items = over_cases(
        [Item(c) for c in waiting],
        [
            Stage(_load_prepared, {"location": store.location, "recipe": settings.recipe}),
            Stage(Predictor, {"model": model}, device=True),
            Stage(_write_layer, {"draft": draft}),
        ],
        resources=resources,
        progress=Progress(f"{settings.name} · predict", len(waiting)),
    )
    return publish(draft, sources.predicted, items)


def layer_pins(sources: Sources, model: Model) -> PredictionPins:
    """What decides a round's prediction layer."""
    settings = sources.settings
    rules = [f"predict:{settings.science.predict_with}"]
    if settings.science.post_processing.largest_component:
        rules.append("post:largest-component")
    return PredictionPins(
        name=settings.name,
        kind="prediction",
        classes=settings.science.classes,
        parents=sources.parents,
        model=model.pin,
        settings=sources.pinned_settings(),
        rules=tuple(rules),
        code=code_digest(),
    )


def predict_files(model: AnyModel, files: list[SourceCase], *, out: Path, resources: Resources) -> list[Item]:
    """Label image files and write one NIfTI a case, in the scan's own geometry, into `out`."""
    longest_first = sorted(files, key=lambda f: -stored_bytes(f.scan))
    return over_cases(
        [Item(f.case, {"path": str(f.scan)}) for f in longest_first],
        [
            Stage(_load_file, {"settings": prediction_settings(model)}),
            Stage(Predictor, {"model": model}, device=True),
            Stage(_write_file, {"out": str(out)}),
        ],
        resources=resources,
        progress=Progress("predict", len(files)),
    )


class Predictor:
    """A stage that keeps a model on its device: prepared volumes become labels on their scans' grids."""

    def __init__(self, *, model: AnyModel) -> None:
        self._labeller = load_labeller(model)

    def __call__(self, item: Item) -> Item:
        """Replace the item's prepared volume by its labels."""
        began = perf_counter()
        native = Geometry.model_validate(item.fields["geometry"])
        item.volume = self._labeller.labels(item.volume, native)
        item.fields["seconds"]["network"] = perf_counter() - began
        return item


def load_labeller(model: AnyModel) -> Labeller:
    """A model with its weights, on the GPU where there is one, else on one core."""
    settings = prediction_settings(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # one core an actor
    network = build_network(settings.network, len(model.trained.classes), settings.supervision)
    network.load_state_dict(load(model.weights_bytes()))
    return Labeller(settings, network.eval().to(device), device)


class Labeller:
    """Prepared volume (z, y, x) in, labels on the scan's native grid out."""

    def __init__(self, settings: PredictionSettings, network: torch.nn.Module, device: torch.device) -> None:
        self.settings, self.network, self._device = settings, network, device

    @torch.inference_mode()
    def labels(self, volume: np.ndarray, native: Geometry) -> np.ndarray:
        """Prepared float16 (z, y, x) -> uint8 labels (z, y, x) on the native grid, post-processed."""
        settings = self.settings
        shape: Shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        windows = self._windows(volume, shape)
        labels = np.empty(native.shape, dtype=np.uint8)
        write_labels_on_grid(
            stream(
                torch.from_numpy(volume).to(self._device),
                self.scores,
                windows,
                batch=settings.windows_a_batch,
            ),
            covered(windows, shape),
            shape,
            classes=settings.classes,
            out=orientation_of(native).apply(labels),
        )
        if settings.post_processing.largest_component:
            keep_largest(
                labels,
                organs=[c for c in settings.classes if c != FLARE23.tumor],
                voxel_ml=native.voxel_ml,
                floor_ml=settings.post_processing.floor_ml,
            )
        return labels

    def _windows(self, volume: np.ndarray, shape: Shape) -> list[Window]:
        """Where the network looks: about the body alone, and only as much as memory carries."""
        settings = self.settings
        body = find_body(volume)
        windows = place_windows(shape, settings.patch, overlap=settings.overlap, within=body.box)
        windows = body.touched(windows)
        check_memory(stream_bytes(windows, channels=1 + len(settings.classes)), self._device)
        return windows

    def scores(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (batch, 1, z, y, x) -> scores (batch, 1 + class, z, y, x), the background first."""
        activation = self.settings.activation
        with autocast(self._device):
            if not isinstance(self.network, Twins):
                return scores_of(activation, self.network(patches))
            if self.settings.predict_with == "f1":
                return scores_of(activation, self.network.f1(patches))
            first, second = self.network(patches)
        return (scores_of(activation, first) + scores_of(activation, second)) / 2


def _load_prepared(item: Item, *, location: str, recipe: str) -> Item:
    began = perf_counter()
    store = Store.open(location)
    item.volume, _ = store.prepared(recipe).read(item.case)
    item.fields["geometry"] = store.scan(item.case).geometry.model_dump(mode="json")
    item.fields["seconds"] = {"read": perf_counter() - began}
    return item


def _write_layer(item: Item, *, draft: LayerDraft) -> Item:
    classes = draft.record.pins.classes
    draft.write(item.case, item.volume, annotated_classes=classes, seconds=item.fields["seconds"])
    return Item(item.case, {"seconds": item.fields["seconds"]})


def _load_file(item: Item, *, settings: PredictionSettings) -> Item:
    began = perf_counter()
    scan = read_volume(Path(item.fields["path"]))
    item.volume, _ = prepared_scan(scan.array, scan.geometry, settings)
    item.fields["geometry"] = scan.geometry.model_dump(mode="json")
    item.fields["seconds"] = {"read": perf_counter() - began}
    return item


def _write_file(item: Item, *, out: str) -> Item:
    geometry = Geometry.model_validate(item.fields["geometry"])
    write_labels(Path(out) / f"{item.case}.nii.gz", Volume(item.volume, geometry))
    return Item(item.case, {"seconds": item.fields["seconds"]})

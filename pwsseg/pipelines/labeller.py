"""A trained model on its device.

labeller = load_labeller(model)                           # of the store, or of a copied folder
labels = labeller.labels(prepared, geometry)              # on the scan's own grid
post_processed(labels, geometry, labeller.settings)       # apart, so that a device need not wait for it
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from safetensors.torch import load

from pwsseg.arrays.body import find_body
from pwsseg.arrays.components import keep_largest
from pwsseg.arrays.labelling import write_labels_on_grid
from pwsseg.arrays.sliding import Shape, covered, place_windows, stream, stream_bytes
from pwsseg.networks.compiling import Forward
from pwsseg.networks.losses import scores_of
from pwsseg.networks.precision import autocast_predicting
from pwsseg.networks.prediction import Axis, PredictionSettings
from pwsseg.networks.supervision import Twins, build_network
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.pipelines.models import AnyModel
from pwsseg.pipelines.needs import check_memory
from pwsseg.values import FLARE23, Geometry, Window, orientation_of


def expected_shape(native: Geometry, settings: PredictionSettings) -> Shape:
    """What a whole scan is prepared to, z, y, x; a round's box is unknown before, and smaller."""
    return settings.patch if settings.resized else native.resampled(settings.spacing).shape


def expected_windows(native: Geometry, settings: PredictionSettings) -> list[Window]:
    """The windows over a whole scan; about the body alone, or in a box, there are fewer."""
    return place_windows(expected_shape(native, settings), settings.patch, overlap=settings.overlap)


def post_processed(labels: np.ndarray, native: Geometry, settings: PredictionSettings) -> np.ndarray:
    """Labels (z, y, x) on the native grid without the components that the model's settings drop."""
    if not settings.post_processing.largest_component:
        return labels
    kept = labels.copy()  # what comes from another process can't be written to
    keep_largest(
        kept,
        organs=[c for c in settings.classes if c != FLARE23.tumor],
        voxel_ml=native.voxel_ml,
        floor_ml=settings.post_processing.floor_ml,
    )
    return kept


def mirror_images(along: tuple[Axis, ...]) -> list[tuple[int, ...]]:
    """The axes of patches (batch, channel, z, y, x) that each mirror image turns round."""
    axes = sorted("zyx".index(a) + 2 for a in set(along))
    return [image for n in range(1, len(axes) + 1) for image in combinations(axes, n)]


def load_labeller(model: AnyModel) -> Labeller:
    """A model with its weights, on the GPU where there is one, else on one core."""
    settings = prediction_settings(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(settings.network, len(model.trained.classes), settings.supervision)
    network.load_state_dict(load(model.weights_bytes()))
    if device.type == "cpu":
        torch.set_num_threads(1)  # one core an actor
    return Labeller(settings, network.eval().to(device), device)


class Labeller:
    """Prepared volume (z, y, x) in, labels on the scan's native grid out."""

    def __init__(self, settings: PredictionSettings, network: torch.nn.Module, device: torch.device) -> None:
        self.settings, self.network, self.device = settings, network, device
        asked = network.f1 if isinstance(network, Twins) and settings.predict_with == "f1" else network
        self._forward = Forward(asked, compiled=settings.compiled)
        if device.type == "cpu":  # up to a quarter less time; not measured on a GPU
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @torch.inference_mode()
    def labels(self, volume: np.ndarray, native: Geometry, window: Window | None = None) -> np.ndarray:
        """Prepared float16 (z, y, x) -> uint8 labels (z, y, x) on the native grid, as the scores say.

        `window` is the part of the oriented grid that the volume fills; None for all of it.
        """
        settings = self.settings
        shape: Shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        windows = self._windows(volume, shape)
        labels = np.zeros(native.shape, dtype=np.uint8)
        turned = orientation_of(native).apply(labels)
        write_labels_on_grid(
            stream(
                torch.from_numpy(volume).to(self.device),
                self.scores,
                windows,
                batch=settings.windows_a_batch,
            ),
            covered(windows, shape),
            shape,
            classes=settings.classes,
            out=turned[window.slices] if window else turned,
        )
        return labels

    def _windows(self, volume: np.ndarray, shape: Shape) -> list[Window]:
        """Where the network looks: about the body alone, and only as much as memory carries."""
        settings = self.settings
        body = find_body(volume)
        windows = place_windows(shape, settings.patch, overlap=settings.overlap, within=body.box)
        windows = body.touched(windows)
        check_memory(stream_bytes(windows, channels=1 + len(settings.classes)), self.device)
        return windows

    @torch.inference_mode()
    def scores(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (batch, 1, z, y, x) -> scores (batch, 1 + class, z, y, x), the background first."""
        patches = patches.to(self.device)
        images = mirror_images(self.settings.mirrored)
        mean = self._scores(patches)
        for axes in images:
            mean += self._scores(patches.flip(axes)).flip(axes)
        return mean / (1 + len(images)) if images else mean

    def _scores(self, patches: torch.Tensor) -> torch.Tensor:
        activation = self.settings.activation
        with autocast_predicting(self.device):
            said = self._forward(patches)
            if isinstance(said, torch.Tensor):
                return scores_of(activation, said)
        first, second = said
        return (scores_of(activation, first) + scores_of(activation, second)) / 2

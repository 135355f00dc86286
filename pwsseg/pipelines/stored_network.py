"""A trained network of the store on its device."""

from __future__ import annotations

import torch
from safetensors.torch import load

from pwsseg.networks.losses import scores_of
from pwsseg.networks.precision import autocast
from pwsseg.networks.supervision import Twins, build_network
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.store import Store


class StoredNetwork:
    """A model as a function of patches; `settings` is all that its record says about predicting."""

    def __init__(self, store: Store, model: str) -> None:
        stored = store.model(model)
        self.settings = prediction_settings(stored)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # one core an actor
        network = build_network(self.settings.network, len(stored.trained.classes), self.settings.supervision)
        network.load_state_dict(load(stored.weights_bytes()))
        self._network = network.eval().to(self.device)

    @torch.inference_mode()
    def scores(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (batch, 1, z, y, x) -> scores (batch, 1 + class, z, y, x), the background first."""
        activation = self.settings.activation
        patches = patches.to(self.device)
        with autocast(self.device):
            if not isinstance(self._network, Twins):
                return scores_of(activation, self._network(patches))
            if self.settings.predict_with == "f1":
                return scores_of(activation, self._network.f1(patches))
            first, second = self._network(patches)
        return (scores_of(activation, first) + scores_of(activation, second)) / 2

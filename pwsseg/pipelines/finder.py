"""Where the abdomen is in a scan: asked of a coarse network, or of labels that are there already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays.abdomen import Box, bounding_window, find_abdomen, grown
from pwsseg.pipelines.labeller import load_labeller
from pwsseg.pipelines.models import AnyModel
from pwsseg.values import UNKNOWN, Geometry, orientation_of, oriented


class AbdomenFinder:
    """The coarse network on its device."""

    def __init__(self, coarse: AnyModel, *, margin_mm: float) -> None:
        self._coarse, self._margin_mm = load_labeller(coarse), margin_mm

    def find(self, hu: NDArray[np.int16], geometry: Geometry) -> Box:
        """HU (z, y, x) on the scan's own axes -> the box on its grid turned the usual way."""
        settings = self._coarse.settings
        return find_abdomen(
            orientation_of(geometry).apply(hu),
            grid=oriented(geometry),
            coarse=self._coarse.scores,
            cube=settings.patch,
            clip_hu=settings.clip_hu,
            margin_mm=self._margin_mm,
            device=self._coarse.device,
        )

    def around(self, labels: NDArray[np.uint8], hu: NDArray[np.int16], geometry: Geometry) -> Box:
        """The same around labels (z, y, x) on the scan's own axes; asks the network where there are none."""
        turned = orientation_of(geometry).apply(labels)
        found = bounding_window((turned != 0) & (turned != UNKNOWN))
        if found is None:
            return self.find(hu, geometry)
        return Box(grown(found, margin_mm=self._margin_mm, grid=oriented(geometry)), ())

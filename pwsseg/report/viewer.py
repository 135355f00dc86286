"""One case in neuroglancer: the CT in the abdomen's window, layers as segmentations in the classes' colours.

layers = layers_of(store, "case1", ["annotation", "ots2"])
with showing(store, "case1", layers) as address:          # the client, on this machine, until the end
    ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pwsseg.report.overlays import WINDOW_HU
from pwsseg.report.serving import serving
from pwsseg.store import Layer, Store
from pwsseg.store.contents import published_layers
from pwsseg.store.layer import case_path
from pwsseg.store.location import on_s3
from pwsseg.store.scan import scan_path
from pwsseg.values import FLARE23, StoreError

PANEL_PIXELS = 420
"""The longest edge of a scan fills so many pixels of a panel."""
NAMES = "names"
DIFFERENCE_COLOR = "#ff3b30"


def layers_of(store: Store, case: str, names: Sequence[str]) -> list[Layer]:
    """The layers to show: those named, else all published ones that hold the case, each name's newest.

    Raises
    ------
    StoreError
        When there is no such scan or layer, or a named layer doesn't hold the case.
    """
    store.scan(case)
    if names:
        layers = [store.layer(name) for name in names]
        for layer in layers:
            layer.entry(case)
        return layers
    newest = {layer.record.pins.name: layer for layer in published_layers(store)}  # the last version stays
    return [la for la in newest.values() if la.record.pins.kind != "fusion" and la.find(case) is not None]


def folders_of(store: Store, case: str, layers: Sequence[Layer]) -> list[str]:
    """Scan and labels as folders of OME-Zarr, for programs that open those; StoreError on S3."""
    if on_s3(store.location):
        raise StoreError(f"{store.location} is no folder; leave --napari out, or copy the case to one")
    return [
        f"{store.location}/{path}" for path in (scan_path(case), *(case_path(la.id, case) for la in layers))
    ]


def viewer_state(store: Store, case: str, layers: Sequence[Layer], url: str) -> dict[str, Any]:
    """Neuroglancer's state for a store served at `url`: sources, window, colours, names, the first slice."""
    geometry = store.scan(case).geometry
    shown: list[dict[str, Any]] = [
        {
            "type": "image",
            "name": "CT",
            "source": f"{url}/{scan_path(case)}/|zarr3:",
            "shaderControls": {"normalized": {"range": list(WINDOW_HU)}},
        }
    ]
    colors = {str(c.id): c.color for c in FLARE23.classes}
    for layer in layers:
        shown.append(
            {
                "type": "segmentation",
                "name": layer.id,
                "source": [f"{url}/{case_path(layer.id, case)}/|zarr3:", f"precomputed://{url}/{NAMES}"],
                "segments": [str(i) for i in layer.entry(case).annotated_classes],
                "segmentColors": colors,
                "selectedAlpha": 0.4,
                "visible": layer is layers[-1],
            }
        )
    extent = geometry.extent_mm[::-1]
    middle = [first + size / 2 for first, size in zip(geometry.origin, extent, strict=True)]
    return {
        "dimensions": {axis: [0.001, "m"] for axis in "xyz"},
        "position": [round(mm, 1) for mm in middle],
        "crossSectionScale": max(extent) / PANEL_PIXELS,
        "projectionScale": 1.3 * max(extent),
        "layers": shown,
        "layout": "4panel",
        "showSlices": False,
    }


def names_info() -> bytes:
    """What neuroglancer calls segment properties: the name of every class."""
    values = [c.name for c in FLARE23.classes]
    inline = {
        "ids": [str(c.id) for c in FLARE23.classes],
        "properties": [{"id": "label", "type": "label", "values": values}],
    }
    return json.dumps({"@type": "neuroglancer_segment_properties", "inline": inline}).encode()


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where two label volumes (z, y, x) differ, else 0."""
    differs: NDArray[np.uint8] = np.not_equal(first, second).view(np.uint8)
    return differs


@contextmanager
def showing(store: Store, case: str, layers: Sequence[Layer]) -> Iterator[str]:
    """Serve store and client on loopback while the context lasts; yields the client's address, with a token.

    Of two layers or more, where the last two differ is a layer of its own.

    Raises
    ------
    StoreError
        When neuroglancer is not installed.
    """
    try:
        import neuroglancer
    except ImportError as error:
        raise StoreError(
            "the viewer needs the package neuroglancer, which is not installed; pip install neuroglancer, or "
            "say --napari"
        ) from error
    neuroglancer.set_server_bind_address("127.0.0.1")
    viewer = neuroglancer.Viewer()
    try:
        address = str(viewer.get_viewer_url())
        with serving(store.objects, {f"{NAMES}/info": names_info()}, origin=_origin(address)) as url:
            viewer.set_state(neuroglancer.ViewerState(viewer_state(store, case, layers, url)))
            if len(layers) > 1:
                _add_difference(neuroglancer, viewer, store, case, layers)
            yield address
    finally:
        neuroglancer.stop()


def _origin(address: str) -> str:
    """The origin of a page, as a browser states it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _add_difference(neuroglancer: Any, viewer: Any, store: Store, case: str, layers: Sequence[Layer]) -> None:
    before, after = layers[-2:]
    geometry = store.scan(case).geometry
    scale = [mm / 1000 for mm in geometry.spacing]
    offset = [mm / s for mm, s in zip(reversed(geometry.origin), geometry.spacing, strict=True)]
    volume = neuroglancer.LocalVolume(
        difference(before.labels(case), after.labels(case)),
        dimensions=neuroglancer.CoordinateSpace(names=["z", "y", "x"], units="m", scales=scale),
        voxel_offset=[round(o) for o in offset],
        volume_type="segmentation",
    )
    with viewer.txn() as state:
        state.layers.append(
            name=f"{before.id} or {after.id}, not both",
            layer=neuroglancer.SegmentationLayer(
                source=volume, segments=[1], segment_colors={1: DIFFERENCE_COLOR}
            ),
            visible=False,
        )

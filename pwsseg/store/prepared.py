"""Scans made ready for the networks: a cache, which may be deleted and is then made again."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import cast

import numpy as np
from numpy.typing import NDArray

from pwsseg.store.digests import array_digest
from pwsseg.store.documents import folder_bytes, image_metadata, read_record
from pwsseg.store.objects import Objects
from pwsseg.store.records import PreparedRecord
from pwsseg.store.volumes import GROUP, read_voxels, read_window, write_volume
from pwsseg.values import Geometry, StoreError, Window

RECIPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class PreparedCache:
    """The prepared volumes of one recipe; the recipe's name says all that made them. Pickles."""

    def __init__(self, objects: Objects, recipe: str) -> None:
        if not RECIPE.fullmatch(recipe):
            raise StoreError(f"{recipe!r} is no name of a recipe; expected one like 'spacing-4-2-2'")
        self._objects = objects
        self.recipe = recipe

    def write(self, case: str, array: NDArray[np.float16], geometry: Geometry, scan_digest: str) -> None:
        """Keep the volume (z, y, x) made from the scan of this digest."""
        record = PreparedRecord(
            type="prepared",
            case=case,
            recipe=self.recipe,
            geometry=geometry,
            scan=scan_digest,
            digest=array_digest(array),
        )
        self._objects.create(f"prepared/{self.recipe}/{GROUP}", folder_bytes())
        if self._record(case) not in (None, record):  # a second writer of the same must not disturb readers
            self._objects.remove(f"{self._path(case)}/{GROUP}")
        ome = image_metadata(case, geometry)
        write_volume(self._objects, self._path(case), array=array, purpose="prepared", record=record, ome=ome)

    def has(self, case: str, scan_digest: str) -> bool:
        """Whether the volume is there and was made from the scan of this digest."""
        record = self._record(case)
        return record is not None and record.scan == scan_digest

    def read(self, case: str) -> tuple[NDArray[np.float16], Geometry]:
        """The volume (z, y, x) and its grid; StoreError when it is not there or damaged."""
        record = self._there(case)
        array = read_voxels(self._objects, self._path(case), record.digest, record.geometry.shape)
        return cast(NDArray[np.float16], array), record.geometry

    def read_window(self, case: str, window: Window) -> NDArray[np.float16]:
        """The voxels of one window, reading only the chunks that it touches."""
        return cast(NDArray[np.float16], read_window(self._objects, self._path(case), window))

    def geometry(self, case: str) -> Geometry:
        """The grid of the prepared volume."""
        return self._there(case).geometry

    def _path(self, case: str) -> str:
        return f"prepared/{self.recipe}/{case}"

    def _record(self, case: str) -> PreparedRecord | None:
        """None for a damaged one, too: it is made again, as one that was never there."""
        with suppress(StoreError):
            return read_record(self._objects, f"{self._path(case)}/{GROUP}", PreparedRecord)
        return None

    def _there(self, case: str) -> PreparedRecord:
        record = self._record(case)
        if record is None:
            raise StoreError(f"case {case} is not prepared by recipe {self.recipe}; prepare it first")
        return record

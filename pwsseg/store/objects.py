"""Objects by key: the only place that talks to the disk (later to S3), through obstore.

A put is whole or not at all: obstore writes a local file under another name and renames it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import obstore
import zarr
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore
from zarr.storage import ObjectStore

_used = threading.Event()
_forked = threading.Event()


def _after_fork() -> None:
    if _used.is_set():
        _forked.set()


# obstore's threads don't survive a fork: the first read in the child would wait for ever, without a word
os.register_at_fork(after_in_child=_after_fork)


class Objects:
    """The objects under one location; pickles as the location, so workers open it for themselves."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._local = LocalStore(location)

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.location,)

    @property
    def _store(self) -> LocalStore:
        if _forked.is_set():
            raise RuntimeError(
                "this process was forked from one that had used the store, which can't work; "
                "start worker processes with the 'spawn' method"
            )
        _used.set()
        return self._local

    def read(self, key: str) -> bytes | None:
        """The bytes under `key`, None when there are none."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def parts(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts (start, length) of an object; FileNotFoundError when there is none.

        A single part may start below 0, counting from the end. A file is read without obstore, which
        takes six times as long for forty parts.
        """
        if isinstance(self._store, LocalStore):
            return _file_parts(Path(self.location, key), spans)
        if spans[0][0] < 0:
            return [bytes(obstore.get(self._store, key, options={"range": {"suffix": -spans[0][0]}}).bytes())]
        starts, lengths = zip(*spans, strict=True)
        return [bytes(b) for b in obstore.get_ranges(self._store, key, starts=starts, lengths=lengths)]

    def write(self, key: str, data: bytes | Path) -> None:
        """Put the bytes, or a file's bytes, under `key`; replaces what was there."""
        obstore.put(self._store, key, data)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Put under `key` if nothing is there; False, and no change, when something was."""
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def remove(self, key: str) -> None:
        """Delete what is under `key`, if anything."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def keys(self, prefix: str) -> dict[str, int]:
        """Every key below the folder `prefix`, with the size of its object in bytes."""
        found = obstore.list(self._store, prefix or None, chunk_size=10_000)
        return {item["path"]: item["size"] for batch in found for item in batch}

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly in the folder `prefix`, sorted."""
        listed = obstore.list_with_delimiter(self._store, prefix)
        return sorted(path.rsplit("/", 1)[-1] for path in listed["common_prefixes"])

    def copy(self, source: str, target: str) -> None:
        """Copy an object without looking into it."""
        obstore.copy(self._store, source, target)

    def array(self, path: str) -> zarr.Array[Any]:
        """The Zarr array stored at `path`, to be sliced; reads nothing but its metadata."""
        return zarr.open_array(ObjectStore(self._store, read_only=True), path=path, mode="r", zarr_format=3)


def _file_parts(path: Path, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        return [os.pread(file, n, start if start >= 0 else max(0, size + start)) for start, n in spans]
    finally:
        os.close(file)

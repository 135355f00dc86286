"""Objects by key: the only place that talks to the disk or to S3, through obstore.

A put is whole or not at all: obstore writes a local file under another name and renames it. Two conditional
puts carry all that must never happen twice: `create` and `replace`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import LocalStore

from pwsseg.store.failures import NO_BUCKET, answer_lost, in_words, sentence
from pwsseg.store.handover import begin_folder, forget_successor, replace_file
from pwsseg.store.keys import check_key, check_unlinked, link_in, remove_file
from pwsseg.store.location import Backend, connect
from pwsseg.values import StoreError

if TYPE_CHECKING:
    import zarr

ATTEMPTS = 4
"""How often a conditional put is sent whose answer was lost; obstore itself doesn't repeat these."""

_used = threading.Event()
_forked = threading.Event()


def _after_fork() -> None:
    if _used.is_set():
        _forked.set()


# obstore's threads don't survive a fork: the first read in the child would wait for ever, without a word
os.register_at_fork(after_in_child=_after_fork)


UNFINISHED = re.compile(r"#[0-9]+/")
"""In the key of what lies in a folder that a killed process left aside (handover.py)."""


class Objects:
    """The objects under one location; pickles as the location, so workers open it for themselves.

    `location` is what `located` gives. What goes wrong is a StoreError with one sentence; so is a key that
    would leave the location, by its own name or by a symbolic link (keys.py).
    """

    def __init__(self, location: str, backend: Backend | None = None) -> None:
        self.location = location
        self._backend = connect(location) if backend is None else backend

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.location,)

    @property
    def _store(self) -> Backend:
        if _forked.is_set():
            raise RuntimeError(
                "this process was forked from one that had used the store, which can't work; "
                "start worker processes with the 'spawn' method"
            )
        _used.set()
        return self._backend

    def read(self, key: str) -> bytes | None:
        """The bytes under `key`, None when there are none. Files are read without obstore: in a tenth."""
        if isinstance(self._store, LocalStore):
            return self._read_file(key)
        found = self._read(key)
        return None if found is None else found[0]

    def parts(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Parts (start, length) of an object; FileNotFoundError when there is none.

        A single part may start below 0, counting from the end.
        """
        self.check(key)
        if isinstance(self._store, LocalStore):
            return _file_parts(Path(self.location, key), spans)
        with in_words(self.location):
            try:
                return self._ranges(key, spans)
            except FileNotFoundError as error:
                _check_bucket(error)
        raise FileNotFoundError(f"{key} is missing")

    def write(self, key: str, data: bytes | Path) -> None:
        """Put the bytes, or a file's bytes, under `key`; replaces what was there."""
        self.check(key)
        with in_words(self.location):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Put under `key` if nothing is there; False, and no change, when other bytes are.

        The same bytes count as ours: they may be, when the answer to the put that wrote them was lost.
        """
        return self._put_if(key, data, mode="create")

    def begin(self, key: str, data: bytes) -> bool:
        """The same for the first object of a folder: nobody lists that folder without the object."""
        self.check(key)
        if isinstance(self._store, LocalStore) and begin_folder(Path(self.location, key), data):
            return True
        return self.create(key, data)

    def replace(self, key: str, old: bytes, new: bytes) -> bool:
        """Put `new` under `key` if `old` is there; False, and no change, when that is not so."""
        self.check(key)
        if isinstance(self._store, LocalStore):
            return replace_file(Path(self.location, key), old, new)
        found = self._read(key)
        if found is None or found[0] != old:
            return found is not None and found[0] == new
        return self._put_if(key, new, mode={"e_tag": found[1]})

    def remove(self, key: str) -> None:
        """Delete what is under `key`, if anything."""
        self.check(key)
        if isinstance(self._store, LocalStore):
            self._remove_file(key)
            return
        with in_words(self.location):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError as error:
                _check_bucket(error)

    def keys(self, prefix: str) -> dict[str, int]:
        """Every key below the folder `prefix`, with the size of its object in bytes."""
        return dict(self.listed(prefix))

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The same, one by one: a layer of many scans has more keys than memory should hold."""
        self._check_prefix(prefix)
        with in_words(self.location):
            for batch in obstore.list(self._store, prefix or None, chunk_size=1000):
                for item in batch:
                    if not UNFINISHED.search(item["path"]):
                        yield item["path"], item["size"]

    def any(self) -> bool:
        """Whether there is any object at the location; one request."""
        with in_words(self.location):
            return bool(next(iter(obstore.list(self._store, chunk_size=1)), None))

    def written(self, prefix: str) -> dict[str, datetime]:
        """Every key below the folder `prefix`, with the time of its last put."""
        self._check_prefix(prefix)
        with in_words(self.location):
            found = obstore.list(self._store, prefix or None, chunk_size=10_000)
            return {item["path"]: item["last_modified"] for batch in found for item in batch}

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly in the folder `prefix`, sorted."""
        self._check_prefix(prefix)
        with in_words(self.location):
            listed = obstore.list_with_delimiter(self._store, prefix)
        return sorted(path.rsplit("/", 1)[-1] for path in listed["common_prefixes"])

    def array(self, path: str) -> zarr.Array[Any]:
        """The Zarr array stored at `path`, to be sliced; reads nothing but its metadata."""
        self.check(f"{path}/c")
        import zarr  # here, for the reason that layout.py gives
        from zarr.storage import ObjectStore

        return zarr.open_array(ObjectStore(self._store, read_only=True), path=path, mode="r", zarr_format=3)

    def link(self, key: str) -> str | None:
        """The symbolic link on the way to an object, as a key, which keeps it from being used; else None."""
        return link_in(self.location, key) if isinstance(self._store, LocalStore) else None

    def check(self, key: str) -> None:
        """StoreError when the key is none, or a symbolic link keeps it from being used."""
        check_key(key)
        if isinstance(self._store, LocalStore):
            check_unlinked(self.location, key)

    def _check_prefix(self, prefix: str) -> None:
        if prefix:
            self.check(prefix)

    def _remove_file(self, key: str) -> None:
        if key.endswith(".json"):
            forget_successor(Path(self.location, key))
        try:
            remove_file(self.location, key)
        except OSError as error:
            raise StoreError(sentence(self.location, error)) from error

    def _ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        if spans[0][0] < 0:
            found = obstore.get(self._store, key, options={"range": {"suffix": -spans[0][0]}})
            return [bytes(found.bytes())]
        starts, lengths = zip(*spans, strict=True)
        return [bytes(b) for b in obstore.get_ranges(self._store, key, starts=starts, lengths=lengths)]

    def _read(self, key: str) -> tuple[bytes, str | None] | None:
        """The bytes under `key` and their ETag."""
        self.check(key)
        with in_words(self.location):
            try:
                found = obstore.get(self._store, key)
                return bytes(found.bytes()), found.meta["e_tag"]
            except (FileNotFoundError, NotADirectoryError) as error:
                _check_bucket(error)
                return None

    def _read_file(self, key: str) -> bytes | None:
        self.check(key)
        try:
            with open(f"{self.location}/{key}", "rb", buffering=0) as file:  # noqa: PTH123 - thrice as fast
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(sentence(self.location, error)) from error

    def _put_if(self, key: str, data: bytes | Path, *, mode: Any) -> bool:
        """A conditional put; sent again when its answer was lost or the refusal was about nothing."""
        self.check(key)
        for attempt in range(ATTEMPTS):
            with in_words(self.location):
                try:
                    obstore.put(self._store, key, data, mode=mode, use_multipart=False)
                    return True
                except (AlreadyExistsError, PreconditionError):
                    there = self.read(key)
                    if there is not None or mode != "create":
                        return there == (data.read_bytes() if isinstance(data, Path) else data)
                except FileNotFoundError as error:  # what was to be replaced is gone
                    _check_bucket(error)
                    return False
                except GenericError as error:
                    if attempt == ATTEMPTS - 1 or not answer_lost(error):
                        raise
        return False


def _check_bucket(error: OSError) -> None:
    """Raise the error again when it is the bucket that is missing, not the object."""
    if NO_BUCKET in str(error):
        raise error


def _file_parts(path: Path, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    file = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(file).st_size
        return [os.pread(file, n, start if start >= 0 else max(0, size + start)) for start, n in spans]
    finally:
        os.close(file)

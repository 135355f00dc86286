"""SHA-256 of what the store keeps: the one way in which two things are said to be the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20


def bytes_digest(data: bytes) -> str:
    """The digest of these bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """The digest of an array's dtype, shape and voxels, whatever its chunks and codecs.

    Hashed are the ASCII text `<dtype> <shape joined by ",">`, a newline, and the voxels, little-endian,
    last axis fastest; for example `uint8 41,512,512`.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{array.dtype.name} {','.join(map(str, array.shape))}\n".encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def json_digest(value: object) -> str:
    """The digest of a JSON value: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return bytes_digest(text.encode())


def file_digest(path: Path) -> str:
    """The digest of a file's bytes; of a folder, that of its files' names and digests, by name."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file())
        return json_digest([[p.name, file_digest(p)] for p in files])
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def layer_digest(cases: Iterable[tuple[str, str, Sequence[int]]]) -> str:
    """The digest of a layer: of its (case, case digest, annotated classes), by case; no times, no machine."""
    return json_digest([[case, digest, list(classes)] for case, digest, classes in sorted(cases)])


def package_digest(package: Path) -> str:
    """Digest of a package's computing rooms: names and bytes of its Python files."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] not in ("report", "cli"):  # what only reads decides no label
            digest.update(f"{relative.as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


_RUNNING = package_digest(Path(__file__).parents[1])


def code_digest() -> str:
    """Digest of the code that this process runs, so that a record pins the code that made it.

    Taken when this module is imported: a file that is edited later is not what runs here.
    """
    return _RUNNING

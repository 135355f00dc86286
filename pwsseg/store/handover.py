"""Replacing a local file only if it is still what one has read: what S3 does by If-Match.

A file system has no such put, but it has `link`, which fails where something is. Who wants to replace `old`
links a successor under a name made of the digest of `old`: whoever links first decides what comes after
`old`. Whoever finds a successor there finishes its replacement, so nobody waits for a process that died.
Names that end in # and a number are obstore's own for unfinished files, and it never lists them.

Nor can a file system make a folder with a file in it in one step. Who lists versions between two steps finds
one without a record; so a version's folder is made aside, with its record, and renamed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, old: bytes, new: bytes) -> bool:
    """Put `new` in the file if `old` is in it; whether `new` is what came after `old`."""
    if not _is(path, old):
        return _is(path, new)
    successor = _successor(path, old)
    linked = _link(successor, new)
    try:
        chosen = new if linked else successor.read_bytes()
    except FileNotFoundError:  # whoever decided has finished
        return _is(path, new)
    if _is(path, old):  # again: else the successor of long ago was linked once more
        _stage(path, chosen).replace(path)
    successor.unlink(missing_ok=True)
    return _is(path, new)


def begin_folder(path: Path, data: bytes) -> bool:
    """Make the folder of `path` with this one file in it, in one step; False when the folder is there."""
    folder = path.parent
    if folder.exists():
        return False
    staged = _beside(folder, secrets.randbits(62))
    staged.mkdir(parents=True)
    (staged / path.name).write_bytes(data)
    try:
        staged.rename(folder)
    except OSError:  # made by another meanwhile
        shutil.rmtree(staged)
        if not folder.exists():
            raise
        return False
    return True


def forget_successor(path: Path) -> None:
    """Delete what a killed `replace_file` left beside the file, which is to be deleted itself."""
    with suppress(FileNotFoundError):
        _successor(path, path.read_bytes()).unlink()


def _successor(path: Path, old: bytes) -> Path:
    return _beside(path, int.from_bytes(hashlib.sha256(old).digest()[:6]))


def _link(target: Path, data: bytes) -> bool:
    """Put a whole new file under `target` unless something is there."""
    staged = _stage(target.with_name(target.name.split("#")[0]), data)
    try:
        os.link(staged, target)
    except FileExistsError:
        return False
    finally:
        staged.unlink()
    return True


def _stage(path: Path, data: bytes) -> Path:
    staged = _beside(path, secrets.randbits(62))
    staged.write_bytes(data)
    return staged


def _beside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}#{number}")


def _is(path: Path, data: bytes) -> bool:
    with suppress(FileNotFoundError):
        return path.read_bytes() == data
    return False

"""Keys that stay in the store, and files that no symbolic link takes out of it.

On a disk the folder of a store and its rooms (`scans`, `prepared`, ...) may be symbolic links, to another
disk say: whoever set the store up chose so. Below a room none is followed: reading would show what nobody put
into the store, and a deletion would reach files that are no part of it.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from pwsseg.values import StoreError, shown

SEGMENT = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f\\]+")


def check_key(key: str) -> str:
    """`key` itself; StoreError unless it is names joined by single slashes, none of them `.` or `..`."""
    if not all(SEGMENT.fullmatch(part) for part in key.split("/")):
        raise StoreError(
            f"{shown(key)} is no place in a store: expected names joined by '/', none of them '.' or '..'; "
            f"correct the id or the record that says it"
        )
    return key


def link_in(root: str, key: str) -> str | None:
    """The part of a key that is a symbolic link, the room itself left out; None when no part is."""
    room, *parts = key.split("/")
    path = room
    for part in parts:
        path = f"{path}/{part}"
        if os.path.islink(f"{root}/{path}"):  # noqa: PTH114 - each read asks six times: a Path takes as long
            return path
    return None


def check_unlinked(root: str, key: str) -> None:
    """StoreError when a symbolic link lies on the way to a file, or in its place."""
    link = link_in(root, key)
    if link is not None:
        raise StoreError(f"{link} {followed_by_nobody(link)}")


def followed_by_nobody(link: str) -> str:
    """What to say of a link."""
    room = link.partition("/")[0]
    return (
        f"is a symbolic link, which is not followed, for reading or deleting; put the files there "
        f"themselves, or link the whole folder '{room}'"
    )


def remove_file(root: str, key: str) -> None:
    """Delete a file if it is there; not even a link that appears meanwhile is followed.

    OSError when a link is met, or the file can't be deleted.
    """
    *folders, name = key.split("/")
    with suppress(FileNotFoundError):
        at = os.open(os.path.join(root, *folders[:1]), os.O_RDONLY | os.O_DIRECTORY)  # noqa: PTH118
        try:
            for folder in folders[1:]:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = inner
            os.unlink(name, dir_fd=at)
        finally:
            os.close(at)

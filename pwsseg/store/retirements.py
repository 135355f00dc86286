"""What was given up: a document of its own beside the record it speaks of, which never changes.

    retired/layers/<id>.json, retired/models/<id>.json

A retired version is still there and can be read by its full id, but is no source any more, and is passed over
where the newest version is asked for. Once `deleted` is set its voxels or weights are gone; its record stays.
"""

from __future__ import annotations

from pwsseg.store.documents import plain_bytes, read_record
from pwsseg.store.objects import Objects
from pwsseg.store.records import Pin, RetirementRecord
from pwsseg.values import StoreError

RETIRED = "retired"


def retirement_key(room: str, version: str) -> str:
    """Where the retirement of a version lies; `room` is `layers` or `models`."""
    return f"{RETIRED}/{room}/{version}.json"


def read_retirement(objects: Objects, room: str, version: str) -> RetirementRecord | None:
    """The retirement of a version, None when it is kept."""
    return read_record(objects, retirement_key(room, version), RetirementRecord)


def read_retirements(objects: Objects, room: str) -> dict[str, RetirementRecord]:
    """Every retirement in a room, by id."""
    names = [key.rsplit("/", 1)[-1].removesuffix(".json") for key in objects.keys(f"{RETIRED}/{room}")]
    found = {name: read_retirement(objects, room, name) for name in sorted(names)}
    return {name: record for name, record in found.items() if record is not None}


def keep_retirement(objects: Objects, record: RetirementRecord) -> None:
    """Put the retirement, or replace the one of the same version."""
    objects.write(retirement_key(record.room, record.pin.id), plain_bytes(record))


def refuse_retired(objects: Objects, room: str, pins: tuple[Pin, ...]) -> None:
    """StoreError when one of `pins`, to be a source, is retired."""
    retired = read_retirements(objects, room) if pins else {}
    for pin in pins:
        if pin.id in retired:
            raise StoreError(f"{_told(retired[pin.id])}, so it can't be a source; {remedy(retired[pin.id])}")


def refuse_deleted(retirement: RetirementRecord | None) -> None:
    """StoreError when the version's voxels or weights are gone."""
    if retirement is not None and retirement.deleted:
        raise StoreError(f"{_told(retirement)}; its record stays: `pwsseg show {_option(retirement)}`")


def remedy(retirement: RetirementRecord) -> str:
    """How a retired version comes back."""
    if retirement.deleted:
        return "run its round again to make it anew"
    return f"`pwsseg retire --undo {_option(retirement)}` brings it back"


def noun_of(room: str) -> str:
    """`layer` or `model`."""
    return room.removesuffix("s")


def _told(retirement: RetirementRecord) -> str:
    what = f"{noun_of(retirement.room)} {retirement.pin.id} was retired"
    when = retirement.deleted or retirement.retired
    return f"{what}{' and deleted' if retirement.deleted else ''} on {when.partition('T')[0]}"


def _option(retirement: RetirementRecord) -> str:
    return ("--model " if retirement.room == "models" else "") + retirement.pin.id

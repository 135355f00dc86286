"""Versions of layers and models: taken by a conditional create, so two drivers never share a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pwsseg.store.documents import read_record
from pwsseg.store.objects import Objects
from pwsseg.store.records import LayerPins, LayerRecord, ModelPins, ModelRecord
from pwsseg.store.retirements import read_retirements
from pwsseg.values import StoreError

VERSIONED = re.compile(r"([a-z0-9][a-z0-9-]{0,31})\.v([1-9][0-9]*)")

R = TypeVar("R", LayerRecord, ModelRecord)


@dataclass(frozen=True)
class Room(Generic[R]):
    """A folder of versions, each with one document whose record says its state."""

    objects: Objects
    folder: str
    document: str
    kind: type[R]
    encode: Callable[[R], bytes]

    def key(self, version: str) -> str:
        """Where the document of a version lies."""
        return f"{self.folder}/{version}/{self.document}"

    def read(self, version: str) -> R | None:
        """The record of a version, None when there is no such version."""
        return read_record(self.objects, self.key(version), self.kind)

    def records(self, name: str | None = None) -> Iterator[R]:
        """Every version's record, or those of one name; by name, oldest first."""
        for version in self._versions(name):
            record = self.read(version)
            if record is not None:
                yield record

    def same_pins(self, pins: LayerPins | ModelPins) -> R | None:
        """The version with these pins, whatever its state; what was deleted no longer counts."""
        return self._among(list(self.records(pins.name)), pins)

    def take(self, pins: LayerPins | ModelPins, new: Callable[[str], R]) -> R:
        """The version with these pins, else a new one: `new(id)`, put under the next free number."""
        versions = self._versions(pins.name)  # one look: a version that came between two would be missed
        found = [r for v in versions if (r := self.read(v)) is not None]
        there = self._among(found, pins)
        number = max((version_number(v) for v in versions), default=0)
        while there is None or there.pins.digest != pins.digest:
            number += 1
            record = new(f"{pins.name}.v{number}")
            if self.objects.begin(self.key(record.id), self.encode(record)):
                return record
            there = self.read(record.id)
        return there

    def _among(self, records: list[R], pins: LayerPins | ModelPins) -> R | None:
        same = [r for r in records if r.pins.digest == pins.digest]
        if all(r.state.state == "draft" for r in same):  # a draft is never retired: no look is needed
            return next(iter(same), None)
        retired = read_retirements(self.objects, self.folder)
        return next((r for r in same if r.id not in retired or not retired[r.id].deleted), None)

    def replace(self, old: R, new: R) -> bool:
        """Put `new` where the record of the version is still `old`; whether it was, in one put."""
        return self.objects.replace(self.key(old.id), self.encode(old), self.encode(new))

    def _versions(self, name: str | None) -> list[str]:
        """Every version that has a folder, or those of one name; by name, oldest first."""
        found = [m for f in self.objects.folders(self.folder) if (m := VERSIONED.fullmatch(f))]
        wanted = [m for m in found if name in (None, m[1])]
        return [m[0] for m in sorted(wanted, key=lambda m: (m[1], int(m[2])))]


def version_number(version: str) -> int:
    """The N of `name.vN`."""
    return int(version.rsplit(".v", 1)[1])


def check_name(name: str) -> None:
    """StoreError unless `name` is a name or a name with its version."""
    if not VERSIONED.fullmatch(f"{name}.v1") and not VERSIONED.fullmatch(name):
        raise StoreError(f"{name!r} is no name of a layer or model; expected one like 'os1' or 'os1.v2'")

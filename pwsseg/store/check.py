"""What a verification knows while it goes through a store, and what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeVar

from pwsseg.store.digests import bytes_digest
from pwsseg.store.documents import ARRAY, envelope, parse, seal_holds
from pwsseg.store.keys import followed_by_nobody
from pwsseg.store.layer import MANIFEST
from pwsseg.store.layout import CHUNK
from pwsseg.store.objects import Objects
from pwsseg.store.records import CaseRecord, Pin, PreparedRecord, Record, RetirementRecord, ScanRecord
from pwsseg.store.store import Store
from pwsseg.store.volumes import GROUP, histogram, read_voxels
from pwsseg.values import StoreError

SCRATCH = "runs/"

R = TypeVar("R", bound=Record)


class Finding(NamedTuple):
    """Something to know: an `error` means the store can't be trusted there, a `note` is only unfinished.

    `loose`: the objects that may go, since nothing published names them.
    """

    level: Literal["error", "note"]
    where: str
    what: str
    loose: tuple[str, ...] = ()

    @property
    def layer(self) -> str | None:
        """The layer that it is about."""
        parts = self.where.split("/")
        return parts[1] if parts[0] == "layers" and len(parts) > 1 and parts[1] != GROUP else None

    @property
    def case(self) -> str | None:
        """The case that it is about, in a layer, among the scans or the prepared ones."""
        parts = self.where.split("/")
        depth = {"layers": 2, "prepared": 2, "scans": 1}.get(parts[0], len(parts))
        return parts[depth] if len(parts) > depth and parts[depth] not in (GROUP, MANIFEST) else None


class Check:
    """One verification: the keys that are there, those accounted for, and what is known so far."""

    def __init__(self, store: Store) -> None:
        self.objects: Objects = store.objects
        self.listed = {k for k in self.objects.keys("") if not k.startswith(SCRATCH)}
        """What is there, be it behind a symbolic link."""
        linked = {k: link for k in self.listed if (link := self.objects.link(k))}
        self.links = set(linked.values())
        self.keys = self.listed - linked.keys()
        self.known: set[str] = set()
        self.scans: dict[str, ScanRecord] = {}
        self.pins: dict[tuple[str, str], str] = {}
        self.retired: dict[tuple[str, str], RetirementRecord] = {}
        self.kept: set[tuple[str, str]] = set()
        """Layers and models, as (room, id), that are not retired: they need what they were made from."""
        self.sound: set[str] = set()
        """Folders of layers and models whose own documents hold: what they don't name is an orphan."""
        self.named: set[str] = {
            k.split("/")[2] for k in self.keys if k.startswith("layers/") and k.count("/") > 2
        }
        """Cases that a layer has, or once had."""

    def gone(self, room: str, version: str) -> bool:
        """Whether `gc` has deleted this version's voxels or weights."""
        found = self.retired.get((room, version))
        return found is not None and found.deleted is not None

    def loose(self, key: str) -> bool:
        """Whether an object that belongs to nothing is an orphan of ours, which may go, and no stranger."""
        room, *rest = key.split("/")
        if room in ("layers", "models"):
            return len(rest) > 1 and f"{room}/{rest[0]}" in self.sound
        if room == "scans":
            return (
                len(rest) > 1 and f"scans/{rest[0]}/{GROUP}" not in self.listed and rest[0] not in self.named
            )
        record = f"{key.removesuffix('.parquet')}.json"
        return room == "scores" and key.endswith(".parquet") and record not in self.listed

    def behind_links(self) -> Iterator[Finding]:
        """The symbolic links that hide what lies behind them."""
        for link in sorted(self.links):
            yield Finding("error", link, followed_by_nobody(link))

    def holds_link(self, path: str) -> bool:
        """Whether a folder has a symbolic link in it: then it is not removed as a whole."""
        return any(link.startswith(f"{path}/") for link in self.links)

    def read(self, key: str) -> bytes | None:
        """The bytes under `key`, None when there are none that may be read."""
        return self.objects.read(key) if key in self.keys else None

    def document(self, key: str, kind: type[R]) -> tuple[R | None, list[Finding]]:
        """The record at `key`, and what is wrong with the document."""
        self.known.add(key)
        data = self.read(key)
        if data is None:
            return None, [Finding("error", key, "is missing")]
        try:
            record = parse(data, key, kind)
        except StoreError as error:
            return None, [Finding("error", key, str(error))]
        broken = [] if seal_holds(data) else [Finding("error", key, "was changed after it was written")]
        return record, broken

    def volume(self, path: str, kind: type[R]) -> tuple[R | None, list[Finding]]:
        """The record of a volume, and what is wrong with it, its array's metadata or its voxels."""
        record, found = self.document(f"{path}/{GROUP}", kind)
        self.known.update((f"{path}/{ARRAY}/{GROUP}", f"{path}/{ARRAY}/{CHUNK}"))
        if record is None or found:
            return record, found
        assert isinstance(record, ScanRecord | CaseRecord | PreparedRecord)
        if path.rsplit("/", 1)[-1] != record.case:
            found.append(Finding("error", path, f"holds the record of case {record.case}"))
        group = self.read(f"{path}/{GROUP}") or b""
        metadata = self.read(f"{path}/{ARRAY}/{GROUP}")
        if metadata is None or envelope(group, path).arrays != {ARRAY: bytes_digest(metadata)}:
            return record, [*found, Finding("error", path, "its array's zarr.json is missing or changed")]
        return record, [*found, *self._voxels(path, record)]

    def _voxels(self, path: str, record: ScanRecord | CaseRecord | PreparedRecord) -> list[Finding]:
        try:
            array = read_voxels(self.objects, path, record.digest, record.geometry.shape)
        except StoreError as error:
            said = str(error).removeprefix(f"{path}: ").removesuffix("; run `pwsseg verify`")
            return [Finding("error", path, said)]
        if isinstance(record, CaseRecord):
            stated = {int(k): n for k, n in record.voxels.items() if n}
            counted = {k: n for k, n in histogram(array).items() if k}
            if stated != counted:
                return [Finding("error", path, "the voxels a class are not those its record counts")]
        return []

    def pinned(self, where: str, room: str, pins: Iterable[Pin]) -> Iterator[Finding]:
        """What is wrong with the parents that a record names."""
        for pin in pins:
            digest = self.pins.get((room, pin.id))
            own, _, version = where.partition("/")
            if self.gone(room, pin.id) and (own, version) in self.kept:
                yield Finding("error", where, f"its parent {pin.id} was deleted by gc")
            if digest is None:
                yield Finding("error", where, f"its parent {pin.id} is not in the store")
            elif digest != pin.digest:
                yield Finding("error", where, f"its parent {pin.id} is not the one it was made from")

"""Removes what nothing names: orphans, and drafts that nobody has written to for a while; nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pwsseg.store.check import Finding
from pwsseg.store.draft import LayerDraft, layer_room
from pwsseg.store.model import model_room
from pwsseg.store.store import Store
from pwsseg.store.volumes import GROUP

DOCUMENTS = (f"/{GROUP}", "/model.json")


class Repair(NamedTuple):
    """What went, and what stayed because it was written to too lately; each finding as a whole."""

    removed: list[Finding]
    fresh: list[Finding]


def repair(
    store: Store, findings: Iterable[Finding], *, older_than: timedelta, dry_run: bool = False
) -> Repair:
    """Remove the loose objects of `findings` that were last written at least `older_than` ago.

    A job may be at work on a draft or between the objects of a scan: what any object of the same finding was
    put to more lately stays. A draft goes as a whole, unless it was published meanwhile.
    """
    written = store.objects.written("")
    until = datetime.now(UTC) - older_than
    done = Repair([], [])
    for finding in findings:
        there = [key for key in finding.loose if key in written]
        if not there:
            continue
        if max(written[key] for key in there) > until:
            done.fresh.append(finding)
        elif dry_run or _removed(store, finding, there):
            done.removed.append(finding)
    return done


def _removed(store: Store, finding: Finding, keys: list[str]) -> bool:
    room, _, version = finding.where.partition("/")
    if room == "layers" and "/" not in version:
        return _layer_removed(store, version)
    if room == "models" and "/" not in version:
        record = model_room(store.objects).read(version)
        if record is None or record.state.state != "draft":
            return False
    for key in sorted(keys, key=lambda k: k.endswith(DOCUMENTS)):  # what makes the others exist goes last
        store.objects.remove(key)
    return True


def _layer_removed(store: Store, version: str) -> bool:
    record = layer_room(store.objects).read(version)
    if record is None or record.state.state != "draft":
        return False
    LayerDraft(store.objects, record, store.label_set).discard()
    return True

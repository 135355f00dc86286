"""What --allow-missing means before a round begins: it goes without the scans that can't be read.

sources = without_unreadable(store, settings, sources, resources)     # after each scan was read once

Which they are is pinned: once they can be read again, the round is another, and has them.
"""

from __future__ import annotations

from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.sources import Sources, pin_sources
from pwsseg.rounds import RoundSettings
from pwsseg.store import Store


def without_unreadable(
    store: Store, settings: RoundSettings, sources: Sources, resources: Resources
) -> Sources:
    """The sources pinned without the cases whose scans can't be read; each is said with its reason."""
    cases = sorted({*sources.learnt, *sources.unlabelled, *sources.predicted})
    items = over_cases(
        [Item(c, voxels=sources.scans[c].geometry.voxels) for c in cases],
        [Stage(_read, {"location": store.location})],
        resources=resources,
        progress=Progress(f"{settings.name} · check", len(cases)),
    )
    found = {item.case: item.error for item in items if item.error}
    for case, why in sorted(found.items()):
        say(f"  {case} is left out: {why}")
    return pin_sources(store, settings, unreadable=found) if found else sources


def _read(item: Item, *, location: str) -> Item:
    Store.open(location).scan(item.case).read()
    return item

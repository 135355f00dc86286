"""From a draft with all its cases to a published layer, or to a refusal that says which cases failed."""

from __future__ import annotations

from collections.abc import Callable

from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.progress import say
from pwsseg.store import AcceptedDrift, Layer, LayerDraft
from pwsseg.values import StoreError


def publish(
    draft: LayerDraft,
    cases: list[str],
    items: list[Item],
    *,
    gate: Callable[[], AcceptedDrift | None] = lambda: None,
    notes: tuple[str, ...] = (),
) -> Layer:
    """Publish `draft` when every case is committed and `gate`, which may raise, lets it pass.

    The decision rests on commit records alone: an item that reports success without one has failed.

    Raises
    ------
    StoreError
        When cases are missing; the draft stays, and the next run does only those. What the gate raises.
    """
    missing = sorted(set(cases) - draft.committed())
    if missing:
        reasons = {i.case: i.error for i in items if i.error}
        for case in missing:
            say(f"  {case}: {reasons.get(case, 'no commit record was written')}")
        raise StoreError(
            f"{draft.id} is not published: {len(missing)} of {len(cases)} cases failed (listed above); "
            f"correct them and run the same command again, done cases are kept"
        )
    layer = draft.publish(cases, accepted_drift=gate())
    for note in notes:
        say(f"  {note}")
    say(f"  published {layer.id}: {len(cases)} cases, digest {layer.digest[:12]}")
    return layer

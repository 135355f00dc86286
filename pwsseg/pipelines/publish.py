"""From a draft with all its cases to a published layer, or to a refusal that says which cases failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.progress import say
from pwsseg.store import AcceptedDrift, Layer, LayerDraft
from pwsseg.values import StoreError


def publish(
    draft: LayerDraft,
    cases: list[str],
    items: list[Item],
    *,
    gate: Callable[[list[str]], AcceptedDrift | None] = lambda _: None,
    notes: tuple[str, ...] = (),
    absent: Mapping[str, str] = MappingProxyType({}),
    allow_missing: bool = False,
) -> Layer:
    """Publish `draft` when every case is committed and `gate`, which may raise, lets these pass.

    The decision rests on commit records alone: an item that reports success without one has failed. With
    `allow_missing` failed cases stand in the layer's record instead, beside `absent`, which were not tried.

    Raises
    ------
    StoreError
        When cases are missing; the draft stays, and the next run does only those. What the gate raises.
    """
    failed = _failed(draft, cases, items)
    for case, why in failed.items():
        say(f"  {case}: {why}")
    done = [c for c in cases if c not in failed]
    if failed and not (allow_missing and done):
        raise StoreError(
            f"{draft.id} is not published: {len(failed)} of {len(cases)} cases failed (listed above); "
            f"correct them and run the same command again, done cases are kept; or publish it without them "
            f"by --allow-missing"
        )
    missing = {**absent, **failed}
    layer = draft.publish(done, accepted_drift=gate(done), missing=missing)
    for note in notes:
        say(f"  {note}")
    say(f"  published {layer.id}: {len(done)} cases, digest {layer.digest[:12]}{goes_without(layer)}")
    return layer


def goes_without(layer: Layer) -> str:
    """The end of a sentence on a layer that was published though cases failed; nothing for any other."""
    cases = [m.case for m in layer.state.missing]
    return f", without {len(cases)} that failed: {', '.join(cases)}" if cases else ""


def _failed(draft: LayerDraft, cases: list[str], items: list[Item]) -> dict[str, str]:
    """The cases that are not committed, each with its reason."""
    reasons = {i.case: i.error for i in items if i.error}
    uncommitted = sorted(set(cases) - draft.committed())
    return {case: reasons.get(case, "no commit record was written") for case in uncommitted}

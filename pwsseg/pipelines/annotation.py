"""The newest annotation and the one that comes after it: what it has, and the cases that are new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pwsseg.pipelines.over_cases import Item
from pwsseg.pipelines.publish import publish
from pwsseg.rounds import ANNOTATION
from pwsseg.store import AnnotationPins, Layer, LayerDraft, Store
from pwsseg.store.digests import code_digest
from pwsseg.values import FLARE23, StoreError

FIX = "fix:"
"""How the notes of a case begin that tell what people corrected."""


def newest_annotation(store: Store) -> Layer | None:
    """The newest published annotation; None when there is none."""
    published = [r for r in store.layers() if r.pins.name == ANNOTATION and r.state.state == "published"]
    return store.layer(published[-1].id) if published else None


def next_pins(base: Layer | None, *, settings: Mapping[str, Any], rules: tuple[str, ...]) -> AnnotationPins:
    """Pins of the version that follows `base`."""
    return AnnotationPins(
        name=ANNOTATION,
        kind="annotation",
        classes=FLARE23.ids,
        parents=(base.pin,) if base else (),
        model=None,
        settings=dict(settings),
        rules=rules,
        code=code_digest(),
    )


def publish_next(
    store: Store,
    base: Layer | None,
    pins: AnnotationPins,
    *,
    new: Iterable[str],
    write: Callable[[LayerDraft, list[str]], list[Item]],
) -> Layer:
    """Publish `base` with the cases `new` written by `write`, which gets those that are not written yet.

    StoreError when another run published an annotation meanwhile: publishing would lose what it holds.
    """
    if existing := store.published(pins):
        return existing
    draft = store.draft(pins)
    names = set(new)
    carried = [c for c in base.cases() if c not in names] if base else []
    committed = draft.committed()
    for case in carried:
        if base and case not in committed:
            draft.carry(case, base)
    items = write(draft, sorted(names - committed))
    if existing := store.published(pins):
        return existing  # a twin of this run was quicker
    now = newest_annotation(store)
    if (now and now.id) != (base and base.id):
        draft.discard()
        raise StoreError(
            f"{now.id if now else 'another annotation'} was published while this one was made from "
            f"{base.id if base else 'nothing'}, and would be lost under it; run the same command again"
        )
    return publish(draft, sorted([*carried, *names]), items)

"""Targets: what a round's networks are to learn, as a layer of its own on the scans' native grids.

annotation (+ pseudo labels) -> <round>-targets.vN, with the rules that made it in the record
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pwsseg.arrays import targets
from pwsseg.arrays.targets import DIVIDE, FUSE, TargetRules
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.publish import publish
from pwsseg.pipelines.selection import select
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import RoundSettings
from pwsseg.store import FusionPins, Layer, LayerDraft, Store
from pwsseg.store.digests import code_digest
from pwsseg.values import FLARE23


def fuse_targets(
    store: Store, sources: Sources, resources: Resources, *, allow_missing: bool = False
) -> Layer:
    """Write and publish the round's targets; the same pins give the layer that is already there."""
    pins = target_pins(sources)
    if existing := store.published(pins):
        return existing
    for case, why in sources.left_out.items():
        say(f"  {case} is left out of training: it {why}")
    for case in sorted(sources.absent & sources.kinds.keys()):
        say(f"  {case} is missing in a layer before: only its annotation, if any, is learnt from")
    for label in sources.unheard:
        say(f"  {FLARE23[label].name} ({label}) is left out: no case that is learnt from speaks about it")
    chosen, notes = select(sources, resources)
    draft = store.draft(pins)
    committed = draft.committed()
    waiting = [c for c in chosen if c not in committed]
    items = over_cases(
        [_item(sources, case) for case in waiting],
        [
            Stage(
                _write_target,
                {
                    "draft": draft,
                    "annotation": sources.annotation,
                    "pseudo": sources.pseudo,
                    "settings": sources.settings,
                },
            )
        ],
        resources=resources,
        progress=Progress(f"{sources.settings.name} · fuse", len(waiting)),
    )
    return publish(draft, chosen, items, notes=notes, allow_missing=allow_missing)


def target_pins(sources: Sources) -> FusionPins:
    """What decides a round's targets."""
    return FusionPins(
        name=f"{sources.settings.name}-targets",
        kind="fusion",
        classes=sources.settings.science.classes,
        parents=sources.parents,
        model=None,
        settings=sources.pinned_settings(),
        rules=rules_of(sources.settings),
        code=code_digest(),
    )


def rules_of(settings: RoundSettings) -> tuple[str, ...]:
    """The named rules by which a round's targets can be recomputed from their parents."""
    science = settings.science
    rules = [f"{FUSE}{science.fusion}"] if settings.pseudo else ["annotation-only"]
    if science.tumor_division:
        rules.append(f"{DIVIDE}{science.tumor_division.reach_mm:g}mm")
    if science.selection:
        rules.append(f"select:stability:{science.selection.keep:g}")
    return tuple(rules)


def target_labels(
    annotation: NDArray[np.uint8] | None,
    pseudo: NDArray[np.uint8] | None,
    *,
    settings: RoundSettings,
    annotated: frozenset[int],
    spacing: tuple[float, float, float],
) -> NDArray[np.uint8]:
    """One case's target by the round's rules, arrays in, array out; at least one of the two must be there.

    `annotated` are the annotated classes of the case among the round's. All arrays are uint8 (z, y, x) on
    the scan's grid; 255 in the result is unknown.
    """
    rules = TargetRules.named(
        rules_of(settings), classes=settings.science.classes, organs=FLARE23.organs, tumor=FLARE23.tumor
    )
    assert rules is not None
    return targets.target_labels(annotation, pseudo, rules=rules, annotated=annotated, spacing=spacing)


def _item(sources: Sources, case: str) -> Item:
    geometry = sources.scans[case].geometry
    facts = {
        "known": sorted(sources.known(case)),
        "stated": sources.kinds[case] != "unlabelled",
        "annotated": sorted(sources.annotated[case]),
        "fused": sources.is_fused(case),
        "spacing": geometry.spacing,
    }
    return Item(case, facts, voxels=geometry.voxels)


def _write_target(
    item: Item, *, draft: LayerDraft, annotation: Layer, pseudo: Layer | None, settings: RoundSettings
) -> Item:
    case, facts = item.case, item.fields
    labels = target_labels(
        annotation.labels(case) if facts["stated"] else None,
        pseudo.labels(case) if pseudo and facts["fused"] else None,
        settings=settings,
        annotated=frozenset(facts["annotated"]),
        spacing=tuple(facts["spacing"]),
    )
    draft.write(case, labels, annotated_classes=facts["known"], seconds={})
    return Item(case)

"""What a round learns from: layers pinned by digest, every case with its role.

sources = pin_sources(store, settings)     # refuses when a parent is not published
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pwsseg.arrays.fusion import known_classes
from pwsseg.pipelines.leakage import Shown, leaks
from pwsseg.rounds import ANNOTATION, RoundSettings
from pwsseg.store import Layer, Model, Pin, Store
from pwsseg.store.digests import json_digest
from pwsseg.values import Geometry, SettingsError, StoreError

UNTRAINED = "untrained"
"""What [representatives] says for a network that nothing has been taught."""
Kind = Literal["full", "partial", "unlabelled"]


class PinnedScan(NamedTuple):
    """What a round knows of a scan before it is read."""

    digest: str
    geometry: Geometry


@dataclass(frozen=True)
class Sources:
    """A round's parents and cases, fixed for the whole run."""

    settings: RoundSettings
    annotation: Layer
    pseudo: Layer | None
    compared: tuple[Layer, ...]
    """The layers whose stability selects cases; empty when the round selects nothing."""
    starts_from: Model | None
    kinds: dict[str, Kind]
    """The kind of every training case."""
    annotated: dict[str, frozenset[int]]
    """The annotated classes of every training case, of those that the round is about."""
    validation: tuple[str, ...]
    left_out: dict[str, str]
    """Training scans that show what a held-out one shows, and why that is said (pipelines/leakage.py)."""
    described_by: Model | None
    """The model whose encoder describes scans when representatives are chosen."""
    scans: Mapping[str, PinnedScan]
    """Every scan of the store: with another among them the round is another."""
    unheard: tuple[int, ...] = ()
    """Classes of the round that nobody speaks about in any case that it learns from: left out of it."""
    passed_over: frozenset[str] = frozenset()
    """Unlabelled cases that others represent."""
    absent: frozenset[str] = frozenset()
    """Cases that a prediction among the parents was published without: no pseudo labels speak about them."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Cases that the round goes without since their scans can't be read, each with the reason."""

    @property
    def parents(self) -> tuple[Pin, ...]:
        """The layers as records pin them."""
        layers = (self.annotation, self.pseudo, *self.compared)
        return tuple(dict.fromkeys(layer.pin for layer in layers if layer is not None))

    @property
    def learnt(self) -> list[str]:
        """Cases that labels are learnt from, before selection."""
        return [c for c in self.kinds if self._role(c) in ("annotated", "fused")]

    @property
    def unlabelled(self) -> list[str]:
        """Cases that cross supervision sees without labels."""
        return [c for c in self.kinds if self._role(c) == "unlabelled" and c not in self.passed_over]

    @property
    def predicted(self) -> list[str]:
        """Cases that the round predicts: the kinds it names, and the held-out ones."""
        return [c for c in self._wanted if c not in self.unreadable]

    @property
    def missing(self) -> dict[str, str]:
        """Cases that the round would predict if their scans could be read, each with the reason."""
        return {c: why for c, why in self.unreadable.items() if c in self._wanted}

    def is_fused(self, case: str) -> bool:
        """Whether pseudo labels fill what the annotation leaves open."""
        return self._role(case) == "fused"

    def known(self, case: str) -> frozenset[int]:
        """The round's classes that somebody speaks about in a case."""
        predicted = self.pseudo.record.pins.classes if self.pseudo and self.is_fused(case) else ()
        return known_classes(
            self.settings.science.classes, annotated=self.annotated[case], predicted=predicted
        )

    def pinned_settings(self) -> dict[str, Any]:
        """What layers pin beside their parents: the round's settings, and the scans of the store."""
        said = self.settings.pinned() | {
            "scans": json_digest([[case, scan.digest] for case, scan in self.scans.items()])
        }
        if self.left_out:
            said["left_out"] = self.left_out
        if self.described_by:
            said["described_by"] = self.described_by.pin.model_dump()
        if self.unreadable:
            said["unreadable"] = sorted(self.unreadable)
        return said

    @property
    def _wanted(self) -> list[str]:
        wanted = [c for c, kind in self.kinds.items() if kind in self.settings.science.predicts]
        return sorted({*wanted, *self.validation})

    def _role(self, case: str) -> str:
        if case in self.unreadable:
            return "dropped"
        role = self._stated_role(case)
        if role != "fused" or case not in self.absent:
            return role
        return "annotated" if self.annotated[case] else "dropped"

    def _stated_role(self, case: str) -> str:
        roles = self.settings.science.cases
        kind = self.kinds[case]
        if kind == "partial" and not set(roles.partial_needs) <= self.annotated[case]:
            return "dropped"
        return {"full": roles.full, "partial": roles.partial, "unlabelled": roles.unlabelled}[kind]


def pin_sources(
    store: Store, settings: RoundSettings, *, unreadable: Mapping[str, str] = MappingProxyType({})
) -> Sources:
    """Look up the published parents of a round and sort the store's cases by their annotation.

    `unreadable` are cases to go without, each with its reason (pipelines/unreadable.py).

    Raises
    ------
    StoreError
        When a parent layer or model is not published.
    SettingsError
        When no case is annotated with all that the round asks of a labelled case.
    """
    science = settings.science
    annotation = _parent(store, ANNOTATION, settings)
    layers = {name: _parent(store, name, settings) for name in science.learns_from if name != ANNOTATION}
    annotated = stated_classes(annotation)
    least = frozenset(science.labelled_at_least)
    scans, shown = {}, {}
    for record in store.scan_records():  # of which only this is kept: a record takes 7 kB
        scans[record.case] = PinnedScan(record.digest, record.geometry)
        shown[record.case] = Shown(record.split, record.digest, record.fingerprint)
    left_out = leaks(shown)
    training = [c for c, scan in shown.items() if scan.split == "training" and c not in left_out]
    kinds = {case: kind_of(annotated.get(case, frozenset()), least) for case in training}
    sources = Sources(
        settings=settings,
        annotation=annotation,
        pseudo=layers[settings.pseudo] if settings.pseudo else None,
        compared=tuple(_parent(store, n, settings) for n in science.selection.over)
        if science.selection
        else (),
        starts_from=starting_model(store, settings),
        kinds=kinds,
        annotated={case: annotated.get(case, frozenset()) & set(science.classes) for case in training},
        validation=tuple(c for c, scan in shown.items() if scan.split == "validation"),
        left_out=left_out,
        described_by=_describing(store, settings),
        scans=scans,
        unreadable=dict(unreadable),
    )
    predictions = [layer for layer in (sources.pseudo, *sources.compared) if layer]
    absent = frozenset(m.case for layer in predictions for m in layer.state.missing)
    return _without_unheard(_some_full(replace(sources, absent=absent)))


def _some_full(sources: Sources) -> Sources:
    """The same; SettingsError when the round has no fully annotated case to learn from."""
    if "full" not in {kind for case, kind in sources.kinds.items() if case not in sources.unreadable}:
        least = sorted(set(sources.settings.science.labelled_at_least))
        readable = " whose scan can be read" if sources.unreadable else ""
        raise SettingsError(
            f"round {sources.settings.name}: no case of {sources.annotation.id}{readable} is annotated with "
            f"all of {least}; annotate one, or ask for less by labelled_at_least"
        )
    return sources


def _without_unheard(sources: Sources) -> Sources:
    """A network would label a class that it heard nothing about as it happened to begin."""
    heard: set[int] = set().union(*(sources.known(case) for case in sources.learnt))
    science = sources.settings.science
    unheard = tuple(c for c in science.classes if c not in heard)
    if not unheard:
        return sources
    kept = science.model_copy(update={"classes": tuple(c for c in science.classes if c in heard)})
    return replace(sources, settings=sources.settings.model_copy(update={"science": kept}), unheard=unheard)


def stated_classes(annotation: Layer) -> dict[str, frozenset[int]]:
    """The annotated classes of every case of an annotation layer, read from its manifest."""
    rows = annotation.manifest("case", "annotated_classes")
    return {row["case"]: frozenset(row["annotated_classes"]) for row in rows}


def kind_of(annotated: frozenset[int], least: frozenset[int]) -> Kind:
    """What a round calls a case with these annotated classes, of which it asks `least` of a full one."""
    if not annotated:
        return "unlabelled"
    return "full" if least <= annotated else "partial"


def _parent(store: Store, name: str, settings: RoundSettings) -> Layer:
    try:
        return store.layer(name)
    except StoreError as error:
        remedy = (
            "ingest annotated scans first (jobs/ingest.py --images DIR --labels DIR --annotated FILE)"
            if name == ANNOTATION
            else f"run it first: python jobs/round.py --round {name}"
        )
        raise StoreError(
            f"round {settings.name} learns from layer {name}, which is not published; {remedy}"
        ) from error


def _describing(store: Store, settings: RoundSettings) -> Model | None:
    asked = settings.science.representatives
    if asked is None or asked.encoder == UNTRAINED:
        return None
    try:
        return store.model(asked.encoder)
    except StoreError as error:
        raise StoreError(
            f"round {settings.name} describes scans by model {asked.encoder}, which the store has not; "
            f"run that round first, or say encoder = '{UNTRAINED}'"
        ) from error


def starting_model(store: Store, settings: RoundSettings) -> Model | None:
    """The model that the round goes on from; None for a round from scratch, StoreError when it is absent."""
    name = settings.science.starts_from
    if name == "scratch":
        return None
    try:
        return store.model(name)
    except StoreError as error:
        raise StoreError(
            f"round {settings.name} goes on from model {name}, which the store has not; run it first: "
            f"python jobs/round.py --round {name.removesuffix('-coarse')} --scale {settings.scale_name}"
        ) from error

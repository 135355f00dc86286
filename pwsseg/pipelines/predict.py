"""Prediction on Ray Data: read and prepare, network on the devices, write; longest scans first.

predict_layer(store, sources, model, resources) -> Layer      # a round's pseudo labels, published
predict_files(model, files, out, resources) -> ...            # images in, NIfTI labels out
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter

from pwsseg.formats.found import SourceCase
from pwsseg.formats.nifti import write_labels
from pwsseg.formats.reading import read_volume, stored_bytes
from pwsseg.formats.volume import Volume
from pwsseg.networks.prediction import PredictionSettings
from pwsseg.pipelines.checkpoints import prediction_settings
from pwsseg.pipelines.cluster import Resources
from pwsseg.pipelines.finder import AbdomenFinder
from pwsseg.pipelines.gate import check_drift
from pwsseg.pipelines.labeller import expected_windows, load_labeller, post_processed
from pwsseg.pipelines.memory_meter import MemoryMeter
from pwsseg.pipelines.models import AnyModel, coarse_of
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.prepare import prepared_scan, read_prepared
from pwsseg.pipelines.progress import Progress, say
from pwsseg.pipelines.publish import publish
from pwsseg.pipelines.selection import measured_changes
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import RoundSettings
from pwsseg.store import Layer, LayerDraft, Model, PredictionPins, Store
from pwsseg.store.digests import code_digest
from pwsseg.store.layer import SINCE
from pwsseg.values import FLARE23, Geometry

REMADE = "its prepared scan was damaged and was made again"
"""Note of a case whose prepared scan could not be read."""


def predict_layer(
    store: Store,
    sources: Sources,
    model: Model,
    resources: Resources,
    *,
    accept_drift: str | None = None,
    allow_missing: bool = False,
) -> Layer:
    """Predict and publish a round's layer; the same pins give the layer that is already there.

    Cases with a commit record are done; the others are predicted, in whatever run that is.
    Labels that drift beyond the round's limits are published only with a reason in `accept_drift`, and only
    with `allow_missing` is a layer published without the cases that failed.
    """
    settings = sources.settings
    pins = layer_pins(sources, model)
    if existing := store.published(pins):
        return existing
    draft = store.draft(pins)
    committed = draft.committed()
    waiting = [c for c in sources.predicted if c not in committed]
    if committed:
        say(f"  resuming {draft.id}: {len(committed)} of {len(sources.predicted)} cases are done")
    prediction = settings.prediction
    grids = {c: sources.scans[c].geometry for c in waiting}
    windows = {c: len(expected_windows(grids[c], prediction)) for c in waiting}
    waiting.sort(key=lambda c: (-windows[c], c))
    items = over_cases(
        [Item(c, windows=windows[c], voxels=grids[c].voxels) for c in waiting],
        [
            Stage(load_scan, {"location": store.location})
            if settings.box
            else Stage(load_prepared, {"location": store.location, "settings": settings}),
            Stage(Predictor, {"model": model}, device=True),
            Stage(write_layer, {"draft": draft, "since": sources.pseudo, "settings": prediction}),
        ],
        resources=resources,
        progress=Progress(f"{settings.name} · predict", len(waiting), windows=sum(windows.values())),
    )
    gate = partial(check_drift, store, draft, sources, resources, accept=accept_drift)
    return publish(
        draft,
        sources.predicted,
        items,
        gate=gate,
        notes=tuple(f"{i.case}: {REMADE}" for i in items if i.fields.get("remade")),
        absent=sources.missing,
        allow_missing=allow_missing,
    )


def layer_pins(sources: Sources, model: Model) -> PredictionPins:
    """What decides a round's prediction layer."""
    settings = sources.settings
    rules = [f"predict:{settings.science.predict_with}"]
    if settings.science.post_processing.largest_component:
        rules.append("post:largest-component")
        if speck := settings.science.post_processing.floor_ml.get(FLARE23.tumor):
            rules.append(f"post:specks:{speck:g}ml")
    if settings.science.representatives:
        rules.append(f"select:farthest-point:{settings.science.representatives.keep:g}")
    if sources.pseudo:
        rules.append(f"{SINCE}{sources.pseudo.id}")
    return PredictionPins(
        name=settings.name,
        kind="prediction",
        classes=settings.science.classes,
        parents=sources.parents,
        model=model.pin,
        settings=sources.pinned_settings(),
        rules=tuple(rules),
        code=code_digest(),
    )


def predict_files(model: AnyModel, files: list[SourceCase], *, out: Path, resources: Resources) -> list[Item]:
    """Label image files and write one NIfTI a case, in the scan's own geometry, into `out`."""
    settings = prediction_settings(model)
    longest_first = sorted(files, key=lambda f: -stored_bytes(f.scan))
    return over_cases(
        [Item(f.case, {"path": str(f.scan)}) for f in longest_first],
        [
            Stage(_load_file, {"settings": settings}),
            Stage(Predictor, {"model": model}, device=True),
            Stage(_write_file, {"out": str(out), "settings": settings}),
        ],
        resources=resources,
        progress=Progress("predict", len(files)),
    )


class Predictor:
    """A stage that keeps a model on its device: prepared volumes become labels on their scans' grids.

    A model that looks into boxes gets the scans themselves, int16 HU, and finds the box first.
    """

    def __init__(self, *, model: AnyModel) -> None:
        self._labeller = load_labeller(model)
        box = self._labeller.settings.box
        self._finder = AbdomenFinder(coarse_of(model, box), margin_mm=box.margin_mm) if box else None
        self._meter = MemoryMeter(self._labeller.device)

    def __call__(self, item: Item) -> Item:
        """Replace the item's prepared volume by its labels."""
        began = perf_counter()
        with self._meter.measuring() as measures:
            self._label(item)
        item.fields["measures"] = measures
        item.fields["seconds"]["network"] = perf_counter() - began
        return item

    def _label(self, item: Item) -> None:
        native = Geometry.model_validate(item.fields["geometry"])
        window, settings = None, self._labeller.settings
        if self._finder:
            window, item.fields["notes"] = self._finder.find(item.volume, native)
            item.volume, _ = prepared_scan(
                item.volume, native, settings, window=window, device=self._labeller.device
            )
        item.volume = self._labeller.labels(item.volume, native, window)


def load_prepared(item: Item, *, location: str, settings: RoundSettings) -> Item:
    """Give an item its prepared volume."""
    began = perf_counter()
    store = Store.open(location)
    item.volume, _, remade = read_prepared(store, item.case, settings)
    if remade:
        item.fields["notes"] = [REMADE]
    item.fields["geometry"] = store.scan(item.case).geometry.model_dump(mode="json")
    item.fields["seconds"] = {"read": perf_counter() - began}
    return item


def load_scan(item: Item, *, location: str) -> Item:
    """Give an item its scan, int16 HU."""
    began = perf_counter()
    scan = Store.open(location).scan(item.case)
    item.volume = scan.read()
    item.fields["geometry"] = scan.geometry.model_dump(mode="json")
    item.fields["seconds"] = {"read": perf_counter() - began}
    return item


def write_layer(item: Item, *, draft: LayerDraft, since: Layer | None, settings: PredictionSettings) -> Item:
    """Post-process a case's labels and commit them to the draft, with what changed since another layer."""
    began = perf_counter()
    native = Geometry.model_validate(item.fields["geometry"])
    item.volume = post_processed(item.volume, native, settings)
    changes = measured_changes(since, item.volume, item.case) if since else {}
    seconds = item.fields["seconds"] | {"post": perf_counter() - began}
    draft.write(
        item.case,
        item.volume,
        annotated_classes=draft.record.pins.classes,
        seconds=seconds,
        notes=item.fields.get("notes", ()),
        measures=item.fields.get("measures", {}) | changes,
    )
    return Item(item.case, {"seconds": seconds, "remade": REMADE in item.fields.get("notes", ())})


def _load_file(item: Item, *, settings: PredictionSettings) -> Item:
    began = perf_counter()
    scan = read_volume(Path(item.fields["path"]))
    item.volume = scan.array
    if settings.box is None:
        item.volume, _ = prepared_scan(scan.array, scan.geometry, settings)
    item.fields["geometry"] = scan.geometry.model_dump(mode="json")
    item.fields["seconds"] = {"read": perf_counter() - began}
    return item


def _write_file(item: Item, *, out: str, settings: PredictionSettings) -> Item:
    began = perf_counter()
    geometry = Geometry.model_validate(item.fields["geometry"])
    item.volume = post_processed(item.volume, geometry, settings)
    item.fields["seconds"]["post"] = perf_counter() - began
    write_labels(Path(out) / f"{item.case}.nii.gz", Volume(item.volume, geometry))
    return Item(item.case, {k: item.fields[k] for k in ("seconds", "measures", "notes") if k in item.fields})

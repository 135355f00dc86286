import contextlib
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from filled_store import (
    CASES,
    CLASSES,
    GEOMETRY,
    add_annotation,
    add_model,
    add_scan,
    annotation_pins,
    filled_store,
    hu_volume,
    label_volume,
    model_pins,
    prediction_pins,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ome_zarr_models.v05 import Image, ImageLabel

from pwsseg.store import Layer, LayerDraft, Source, Store
from pwsseg.store.compare import compare, most_changed, same_voxels, summary
from pwsseg.store.digests import array_digest
from pwsseg.store.layer import SINCE
from pwsseg.store.layout import LAYOUTS, encode
from pwsseg.store.measures import CHANGED_ORGANS
from pwsseg.store.objects import Objects
from pwsseg.store.parallel import GROUP_SIZE, side_by_side
from pwsseg.store.tables import manifest_bytes, read_rows
from pwsseg.store.verify import verify
from pwsseg.values import UNKNOWN, InputError, SettingsError, StoreError, Window


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    for case in CASES:
        add_scan(store, case)
    return store


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("full"))


def files(store: Store) -> dict[str, bytes]:
    root = Path(store.location)
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# the store itself


def test_create_opens_what_is_there(store: Store) -> None:
    before = files(store)
    assert Store.create(store.location).cases() == list(CASES)
    assert files(store) == before


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("x")
    zarr.create_group(tmp_path / "foreign", attributes={"somebody": "else"})
    for name in ("file", "folder", "foreign"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(StoreError, match=name):
            Store.open(tmp_path / name)
        with pytest.raises(StoreError, match=name):
            Store.create(tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(StoreError, match="does not exist"):
        Store.open(tmp_path / "nowhere")
    for location in ("gs://bucket/prefix", "s3://key:secret@bucket/prefix", "s3://bucket/../other"):
        with pytest.raises(SettingsError, match="s3://bucket/prefix") as refused:
            Store.open(location)
        assert "secret" not in str(refused.value)


def test_a_later_format_is_refused_with_a_sentence(store: Store) -> None:
    root = Path(store.location) / "zarr.json"
    root.write_text(root.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(StoreError, match=r"expected store format 1"):
        Store.open(store.location)


def test_everything_pickles_by_location(full: Store) -> None:
    parts = (
        full,
        full.scan("case-a"),
        full.layer("os1"),
        full.model("os1"),
        full.draft(annotation_pins("new")),
    )
    for part in parts:
        assert len(pickle.dumps(part)) < 10_000
    again = pickle.loads(pickle.dumps(parts))
    assert again[0].location == full.location
    assert (again[2].labels("case-b") == full.layer("os1").labels("case-b")).all()
    again[4].discard()


def test_a_forked_process_fails_at_once_instead_of_hanging(full: Store) -> None:
    full.cases()
    pid = os.fork()
    if pid == 0:
        try:
            full.cases()
        except RuntimeError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# scans


@settings(max_examples=25, deadline=None)
@given(volume=hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=20)))
def test_any_volume_comes_back_as_it_was(volume: Any) -> None:
    for purpose, layout in LAYOUTS.items():
        array = volume.astype(layout.dtype)
        stored = zarr.storage.MemoryStore(
            {k: zarr.core.buffer.cpu.Buffer.from_bytes(v) for k, v in encode(array, purpose).items()}
        )
        assert np.array_equal(zarr.open_array(stored, mode="r")[:], array, equal_nan=True)
        assert len(encode(array, purpose)) == 2


def test_a_scan_comes_back_exactly(store: Store) -> None:
    scan = store.scan("case-a")
    assert np.array_equal(scan.read(), hu_volume(len("case-a") + ord("a")))
    assert scan.geometry == GEOMETRY
    assert scan.record.source.name == "case-a_0000.nii.gz"
    assert scan.digest == array_digest(scan.read())


def test_splits_are_told_apart(full: Store) -> None:
    assert full.cases() == list(CASES)
    assert full.cases("training") == ["case-a", "case-b"]
    assert full.cases("validation") == ["case-c"]


def test_a_case_id_is_taken_once(store: Store) -> None:
    before = files(store)
    source = Source(format="dicom", name="other", digest="6" * 64)
    same = store.scan("case-a").read()
    assert (
        store.write_scan("case-a", same, GEOMETRY, source=source, split="training").record.source.format
        == "nifti"
    )
    with pytest.raises(StoreError, match="case-a is in the store with another scan"):
        store.write_scan("case-a", same + 1, GEOMETRY, source=source, split="training")
    assert files(store) == before


def test_ids_that_are_paths_are_refused(store: Store) -> None:
    source = Source(format="nifti", name="x", digest="6" * 64)
    before = files(store)
    for case in ("../x", "a/b", "", ".hidden", "zarr.json", "manifest.parquet"):
        with pytest.raises((InputError, StoreError)):
            store.write_scan(case, hu_volume(0), GEOMETRY, source=source, split="training")
    assert files(store) == before


def test_an_array_off_its_grid_is_refused(store: Store) -> None:
    source = Source(format="nifti", name="x", digest="6" * 64)
    with pytest.raises(StoreError, match="expected int16"):
        store.write_scan("new", hu_volume(0)[1:], GEOMETRY, source=source, split="training")


# openness


def test_scans_and_layers_are_ome_zarr_of_three_objects(full: Store) -> None:
    root = Path(full.location)
    scans, cases = sorted(root.glob("scans/case-*")), sorted(root.glob("layers/*/case-*"))
    assert len(scans) == 3
    assert len(cases) == 6
    for path in scans:
        assert (
            Image.from_zarr(zarr.open_group(path, mode="r")).attributes.ome.multiscales[0].name == path.name
        )
    for path in cases:
        label: Any = ImageLabel.from_zarr(zarr.open_group(path, mode="r")).attributes.ome.image_label
        assert {p.label_value for p in label.properties} >= {1, 2, 14}
        assert (path / str(label.source.image)).resolve() == root / "scans" / path.name
    for path in (*scans, *cases):
        assert sum(p.is_file() for p in path.rglob("*")) == 3


def test_plain_zarr_reads_a_layer(full: Store) -> None:
    group = zarr.open_group(full.location, mode="r")
    labels = np.asarray(group["layers/os1.v1/case-b/0"])
    assert np.array_equal(labels, label_volume(1))
    ours: Any = group["layers/os1.v1/case-b"].attrs["pwsseg"]
    assert ours["record"]["voxels"]["1"] == (labels == 1).sum()


# layers


def test_a_draft_is_no_source_until_it_is_published(store: Store) -> None:
    draft = store.draft(annotation_pins())
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    for name in ("annotation", "annotation.v1"):
        with pytest.raises(StoreError, match="unfinished draft"):
            store.layer(name)
    assert store.published(annotation_pins()) is None
    layer = draft.publish(["case-a"])
    assert store.layer("annotation").id == store.layer("annotation.v1").id == layer.id == "annotation.v1"
    assert (layer.labels("case-a") == label_volume()).all()
    assert layer.cases() == ["case-a"]


def test_neither_side_has_the_other_sides_verbs() -> None:
    verbs = {name for name in dir(Layer) if not name.startswith("_")}
    told = {"cases", "changes_since", "digest", "entry", "find", "id", "manifest", "pin", "state"}
    assert verbs == told | {"labels", "stored"}
    assert not {"labels", "cases", "digest"} & set(dir(LayerDraft))


def test_absent_layers_and_odd_names_get_a_sentence(store: Store) -> None:
    with pytest.raises(StoreError, match="no layer os9"):
        store.layer("os9")
    with pytest.raises(StoreError, match="is no name"):
        store.layer("../../etc")


def test_the_same_pins_give_the_layer_that_is_there(store: Store) -> None:
    layer = add_annotation(store)
    before = files(store)
    again = store.published(annotation_pins())
    assert again is not None
    assert again.digest == layer.digest
    assert add_annotation(store).id == layer.id
    assert files(store) == before


def test_other_pins_give_the_next_version(store: Store) -> None:
    add_annotation(store)
    draft = store.draft(annotation_pins("newer code"))
    assert draft.id == "annotation.v2"
    assert store.draft(annotation_pins("newer code")).id == "annotation.v2"
    draft.write("case-a", label_volume(1), annotated_classes=(1, 2), seconds={})
    draft.publish(["case-a"])
    assert store.layer("annotation").id == "annotation.v2"
    assert store.layer("annotation.v1").cases() == ["case-a", "case-b"]


def test_publishing_needs_every_case(store: Store) -> None:
    draft = store.draft(annotation_pins())
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    before = files(store)
    with pytest.raises(StoreError, match="case case-b not written"):
        draft.publish(["case-a", "case-b"])
    assert files(store) == before


def test_publishing_needs_the_scans_grid(store: Store) -> None:
    draft = store.draft(annotation_pins())
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    shutil.rmtree(Path(store.location) / "scans" / "case-a")
    source = Source(format="nifti", name="x", digest="6" * 64)
    store.write_scan("case-a", hu_volume(99), GEOMETRY, source=source, split="training")
    with pytest.raises(StoreError, match="case-a not on the scan's grid"):
        draft.publish(["case-a"])


def test_labels_must_fit_scan_and_statement(store: Store) -> None:
    draft = store.draft(annotation_pins())
    before = files(store)
    for labels, classes in (
        (label_volume()[1:], CLASSES),
        (label_volume().astype(np.int16), CLASSES),
        (label_volume(), (1,)),
        (label_volume(), (1, 2, 3)),
    ):
        with pytest.raises(StoreError, match="case-a"):
            draft.write("case-a", labels, annotated_classes=classes, seconds={})  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="no scan"):
        draft.write("case-x", label_volume(), annotated_classes=CLASSES, seconds={})
    assert files(store) == before


def test_people_may_leave_voxels_unknown_and_models_may_not(full: Store) -> None:
    unknown = label_volume()
    unknown[0] = UNKNOWN
    pins = annotation_pins(code="later")
    drawn = full.draft(pins)
    entry = drawn.write("case-a", unknown, annotated_classes=CLASSES, seconds={})
    drawn.discard()
    assert entry.voxels["255"] == 120
    draft = full.draft(prediction_pins(full.layer("annotation"), full.model("os1"), code="later"))
    with pytest.raises(StoreError, match=r"case-a hold \[255\]"):
        draft.write("case-a", unknown, annotated_classes=CLASSES, seconds={})


def test_records_count_stated_classes_even_when_absent(full: Store) -> None:
    assert full.layer("os1").entry("case-a").voxels == {"1": 144, "2": 18, "14": 0}
    fused = full.layer("os1-fused").entry("case-a")
    assert fused.voxels["255"] == 120
    assert fused.measures == {"stability": 0.25}
    (row,) = full.layer("os1-fused").manifest()
    assert (row["voxels_14"], row["voxels_unknown"], row["annotated_classes"]) == (0, 120, [1, 2, 14])


def test_a_layer_of_other_cases_than_the_one_before_has_changed_nothing(store: Store) -> None:
    """It says since which layer it counts, and its manifest has no column of counts."""
    before = add_annotation(store)
    draft = store.draft(
        annotation_pins("of new cases").model_copy(update={"rules": (f"{SINCE}{before.id}",)})
    )
    draft.write("case-a", label_volume(1), annotated_classes=(1, 2), seconds={})
    layer = draft.publish(["case-a"])
    assert layer.changes_since(before, CLASSES) == {}
    assert layer.manifest("case", CHANGED_ORGANS) == [{"case": "case-a"}]


def test_published_is_for_ever(store: Store) -> None:
    draft = store.draft(annotation_pins())
    add_annotation(store)
    before = files(store)
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={"again": 1.0})
    assert draft.publish(["case-a", "case-b"]).id == "annotation.v1"
    first = store.layer("annotation").entry("case-a")
    assert draft.write("case-a", label_volume(1), annotated_classes=CLASSES, seconds={}) == first
    with pytest.raises(StoreError, match="for ever"):
        draft.write("case-c", label_volume(), annotated_classes=CLASSES, seconds={})
    with pytest.raises(StoreError, match="for ever"):
        draft.discard()
    with pytest.raises(StoreError, match="other cases"):
        draft.publish(["case-a"])
    assert files(store) == before


def test_a_discarded_draft_leaves_nothing(store: Store) -> None:
    before = files(store)
    draft = store.draft(annotation_pins())
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    draft.discard()
    assert files(store) == before
    with pytest.raises(StoreError, match="is gone"):
        draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})


def test_cases_no_longer_wanted_are_not_published(store: Store) -> None:
    draft = store.draft(annotation_pins())
    for case in CASES:
        draft.write(case, label_volume(), annotated_classes=CLASSES, seconds={})
    assert draft.publish(["case-a"]).cases() == ["case-a"]
    assert not list(verify(store))


def test_a_case_carried_over_is_the_same_bytes(store: Store) -> None:
    old = add_annotation(store)
    draft = store.draft(annotation_pins("v2"))
    assert draft.carry("case-a", old) == old.entry("case-a")
    draft.write("case-c", label_volume(), annotated_classes=(1, 2), seconds={})
    new = draft.publish(["case-a", "case-c"])
    stored = files(store)
    for key in ("zarr.json", "0/zarr.json", "0/c/0/0/0"):
        assert stored[f"layers/{new.id}/case-a/{key}"] == stored[f"layers/{old.id}/case-a/{key}"]
    assert not list(verify(store))


# interruption, repetition, company


class CrashError(Exception):
    pass


def crash_after(monkeypatch: pytest.MonkeyPatch, puts: int) -> None:
    """From the put after `puts` others on, every put fails, as if the process were gone."""
    left = itertools.count(puts, -1)

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def put(*args: Any) -> Any:
            if next(left) <= 0:
                raise CrashError
            return original(*args)

        return put

    for name in ("write", "create", "begin", "replace"):
        monkeypatch.setattr(Objects, name, failing(getattr(Objects, name)))


def test_a_layer_resumed_after_any_put_equals_an_undisturbed_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store.location, tmp_path / "undisturbed")
    wanted = add_annotation(Store.open(tmp_path / "undisturbed")).digest
    states = []
    for puts in range(12):
        shutil.copytree(store.location, tmp_path / f"crash-{puts}")
        other = Store.open(tmp_path / f"crash-{puts}")
        with monkeypatch.context() as patch, contextlib.suppress(CrashError):
            crash_after(patch, puts)
            add_annotation(other)
        states.append([r.state.state for r in other.layers()])
        assert add_annotation(other).digest == wanted
        assert not list(verify(other))
    assert states == [[], *[["draft"]] * 8, *[["published"]] * 3]


@pytest.mark.parametrize("key", ["0/zarr.json", "0/c/0/0/0", "case-a/zarr.json"])
def test_a_writer_overtaken_by_another_tells_the_truth(
    store: Store, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels under the same pins, put just before one of the overtaken writer's own objects."""
    draft, other = store.draft(annotation_pins()), store.draft(annotation_pins())
    original, raced = Objects.create, iter([True])

    def create(self: Objects, name: str, data: bytes | Path) -> bool:
        if name.endswith(key) and next(raced, False):
            other.write("case-a", label_volume(1), annotated_classes=CLASSES, seconds={"other": 1.0})
        return original(self, name, data)

    monkeypatch.setattr(Objects, "create", create)
    record = draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    layer = draft.publish(["case-a"])
    assert next(raced, False) is False
    assert layer.entry("case-a") == record
    assert array_digest(layer.labels("case-a")) == record.digest
    assert not list(verify(store))


def publish_slowly(location: str, barrier: Any, order: tuple[str, ...], ids: Any) -> None:
    store = Store.open(location)
    barrier.wait()
    draft = store.draft(annotation_pins())
    for case in order:
        draft.write(case, label_volume(), annotated_classes=CLASSES, seconds={"pid": os.getpid()})
    ids.put((draft.publish(CASES).id, draft.publish(CASES).digest))


def test_two_processes_with_the_same_pins_make_one_layer(store: Store) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, ids = spawn.Barrier(2), spawn.Queue()
    orders = (CASES, CASES[::-1])
    drivers = [spawn.Process(target=publish_slowly, args=(store.location, barrier, o, ids)) for o in orders]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(60)
    assert [d.exitcode for d in drivers] == [0, 0]
    assert ids.get(timeout=5) == ids.get(timeout=5)
    assert [r.id for r in store.layers()] == ["annotation.v1"]
    assert not list(verify(store))


def test_versions_taken_at_once_are_all_different(store: Store) -> None:
    room = Objects(store.location)
    original = Objects.begin
    raced = iter([True])

    def begin(self: Objects, key: str, data: bytes) -> bool:
        if next(raced, False):
            store.draft(annotation_pins("somebody else, a moment earlier"))
        return original(self, key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "begin", begin)
        assert Store.open(room.location).draft(annotation_pins()).id == "annotation.v2"


def test_a_version_is_never_listed_without_its_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that looks while another makes its folder joins it, or comes before it: never beside it."""
    seen = []
    original = Path.rename

    def rename(path: Path, target: Path) -> Path:
        seen.append((store.objects.folders("layers"), [*store.objects.keys("layers")]))
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    before = [*store.objects.keys("layers")]
    store.draft(annotation_pins())
    ((folders, keys),) = seen
    assert "annotation.v1" not in folders
    assert keys == before
    assert store.objects.folders("layers") == ["annotation.v1"]


def test_a_folder_that_another_makes_meanwhile_is_left_to_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, original = "layers/annotation.v1/zarr.json", Path.rename

    def rename(path: Path, target: Path) -> Path:
        assert store.objects.create(key, b"theirs")
        return original(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert not store.objects.begin(key, b"ours")
    assert store.objects.read(key) == b"theirs"
    assert {p.name for p in Path(store.location, "layers").iterdir()} == {"annotation.v1", "zarr.json"}


def test_a_store_that_another_job_is_creating_is_no_strange_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "zarr.json#1").write_bytes(b"half")
    assert Store.create(tmp_path / "store").cases() == []


# models, prepared scans, scores


def test_a_model_is_kept_once(store: Store, tmp_path: Path) -> None:
    layer = add_annotation(store)
    assert store.trained(model_pins(layer)) is None
    model = add_model(store, layer, tmp_path)
    assert store.trained(model_pins(layer)) is not None
    assert add_model(store, layer, tmp_path, value=2.0).digest == model.digest
    assert store.model("os1").curve()[1] == {"epoch": 1, "loss": 0.5}
    assert store.model("os1").weights_bytes() == (tmp_path / "weights-1.0.safetensors").read_bytes()


def test_a_model_interrupted_after_any_put_is_whole_in_the_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = add_annotation(store)
    losses = []
    for puts in range(6):
        shutil.copytree(store.location, tmp_path / f"crash-{puts}")
        other = Store.open(tmp_path / f"crash-{puts}")
        with monkeypatch.context() as patch, contextlib.suppress(CrashError):
            crash_after(patch, puts)
            add_model(other, layer, tmp_path)
        model = add_model(other, layer, tmp_path, value=2.0)
        losses.append(model.curve()[1]["loss"])
        assert model.weights_bytes() == (tmp_path / f"weights-{2 * losses[-1]}.safetensors").read_bytes()
        assert not list(verify(other))
    assert losses == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


def test_weights_that_could_run_are_refused(store: Store, tmp_path: Path) -> None:
    layer = add_annotation(store)
    path = tmp_path / "weights-3.0.safetensors"
    before = files(store)
    for content in (pickle.dumps({"weights": 1}), b"", b"\xff" * 40):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="no safetensors"):
            store.write_model(
                model_pins(layer), path, [], network={}, classes=(0,), activation="softmax", preprocessing={}
            )
    assert files(store) == before


def test_a_prepared_scan_knows_its_scan(full: Store) -> None:
    cache = full.prepared("spacing-4-2-2")
    scan = full.scan("case-a")
    assert cache.has("case-a", scan.digest)
    assert not cache.has("case-a", full.scan("case-b").digest)
    assert not cache.has("case-b", scan.digest)
    array, geometry = cache.read("case-a")
    assert np.array_equal(array, scan.read().astype(np.float16))
    assert geometry == GEOMETRY
    window = Window((1, 2, 3), (4, 8, 9))
    assert np.array_equal(cache.read_window("case-a", window), array[window.slices])
    with pytest.raises(StoreError, match="not prepared"):
        cache.read("case-b")


def test_scores_with_a_column_that_the_format_does_not_name_are_refused(full: Store) -> None:
    with pytest.raises(ValueError, match="no column hausdorff"):
        full.write_scores(
            "os1", "annotation", [{"case": "a", "class": 1, "dsc": 1.0, "nsd": 1.0, "hausdorff": 2}]
        )


def test_scores_come_back(full: Store) -> None:
    assert full.scores("os1", "annotation") == [{"case": "case-a", "class": 1, "dsc": 1.0, "nsd": 1.0}]
    assert full.scores("annotation", "os1") is None


# comparing


@settings(max_examples=30, deadline=None)
@given(
    pair=hnp.array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
        lambda shape: st.tuples(*[hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 14, 255]))] * 2)
    )
)
def test_voxels_that_are_the_same_are_counted_by_label(pair: Any) -> None:
    same = same_voxels(*pair)
    assert same[0] == 0
    for i in (1, 14, 255):
        assert same[i] == ((pair[0] == i) & (pair[1] == i)).sum()


def test_layers_are_compared_where_both_speak(full: Store) -> None:
    changes = list(compare(full.layer("annotation"), full.layer("os1")))
    assert {c.case for c in changes} == {"case-a", "case-b"}
    moved = next(c for c in changes if c.case == "case-b" and c.label == 1)
    assert (moved.before, moved.after, moved.gained, moved.lost) == (144, 144, 24, 24)
    assert moved.dice == pytest.approx(2 * 120 / 288)
    rows = {row["class"]: row for row in summary(changes)}
    assert rows[1]["gained"] == 24
    assert rows[1]["gained_ml"] == pytest.approx(24 * 2.5 * 0.8 * 0.75 / 1000)
    assert rows[2]["dice"] == 1.0
    assert rows[14]["dice"] is None
    assert [(row["case"], row["gained"], row["lost"]) for row in most_changed(changes, 5)] == [
        ("case-b", 24, 24)
    ]


# verifying


def test_a_healthy_store_has_no_errors(full: Store) -> None:
    (full.scratch() / "half a checkpoint").write_text("x")
    assert [(f.level, f.where) for f in verify(full)] == [("note", "layers/os1.v2")]


@pytest.fixture(scope="module")
def copied(full: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    target = tmp_path_factory.mktemp("copied") / "store"
    shutil.copytree(full.location, target)
    return Store.open(target)


def damaged_places(store: Store) -> list[str]:
    return [name for name in files(store) if not name.startswith(("runs/", "layers/os1.v2/"))]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found(copied: Store, data: st.DataObject) -> None:
    path = Path(copied.location) / data.draw(st.sampled_from(damaged_places(copied)))
    original = path.read_bytes()
    where, bit = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(original)
    changed[where] ^= 1 << bit
    path.write_bytes(changed)
    try:
        assert [f for f in verify(copied) if f.level == "error"]
    finally:
        path.write_bytes(original)


def test_any_missing_object_is_found(copied: Store) -> None:
    for name in damaged_places(copied):
        path = Path(copied.location) / name
        moved = path.rename(Path(copied.location).parent / "aside")
        found = [f for f in verify(copied) if f.level == "error" or f.where.startswith("prepared/")]
        moved.rename(path)
        assert found, name


def test_orphans_and_strangers_are_found(copied: Store) -> None:
    for name in (
        "layers/os1.v1/case-z/0/c/0/0/0",
        "scans/case-z/0/zarr.json",
        "notes.txt",
        "scores/a--b.parquet",
    ):
        path = Path(copied.location) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        place = name.split("/0/")[0]
        assert [f for f in verify(copied) if f.level == "error" and f.where.startswith(place)], name
        path.unlink()
    assert not [f for f in verify(copied) if f.level == "error"]


def test_a_damaged_case_is_not_read(copied: Store) -> None:
    path = Path(copied.location) / "layers/os1.v1/case-a/0/c/0/0/0"
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(StoreError, match="can't be read"):
        copied.layer("os1").labels("case-a")
    path.unlink()
    with pytest.raises(StoreError, match="not those of its record"):
        copied.layer("os1").labels("case-a")
    path.write_bytes(original)


def test_a_parent_that_changed_is_found(copied: Store) -> None:
    path = Path(copied.location) / "layers/annotation.v1/zarr.json"
    original = path.read_bytes()
    document = json.loads(original)
    document["attributes"]["pwsseg"]["record"]["state"]["digest"] = "0" * 64
    path.write_text(json.dumps(document))
    wheres = {
        f.where for f in verify(copied) if f.level == "error" and "not the one it was made from" in f.what
    }
    path.write_bytes(original)
    assert {"layers/os1.v1", "models/os1.v1", "layers/os1-fused.v1"} <= wheres


def test_prediction_pins_need_a_model(full: Store) -> None:
    pins = prediction_pins(full.layer("annotation"), full.model("os1"))
    with pytest.raises(ValueError, match="model"):
        type(pins).model_validate({**pins.model_dump(), "model": None})


def test_reads_side_by_side_stay_near_who_takes_them() -> None:
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return item

    results = side_by_side(read, range(10_000), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.2)
    assert len(begun) <= 6 * GROUP_SIZE
    assert [*results] == [*range(3, 10_000)]


def test_a_manifest_of_many_cases_says_of_each_what_its_record_says(full: Store) -> None:
    entry = full.layer("os1-fused").entry(full.layer("os1-fused").cases()[0])
    plain = [entry.model_copy(update={"case": f"case-{i:04}", "measures": {}}) for i in range(600)]
    compared = [*plain[:-1], plain[-1].model_copy(update={"measures": {CHANGED_ORGANS: 7.0}})]
    rows = read_rows(manifest_bytes(iter(plain), CLASSES))
    assert [row["case"] for row in rows] == [e.case for e in plain]
    assert {row["digest"] for row in rows} == {entry.digest}
    assert CHANGED_ORGANS not in rows[0]
    rows = read_rows(manifest_bytes(compared, CLASSES))
    assert [row[CHANGED_ORGANS] for row in rows] == [None] * 599 + [7]

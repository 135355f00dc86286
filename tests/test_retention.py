"""Giving up in two steps: what is kept keeps its sources, and what is gone can still be explained."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from filled_store import (
    CLASSES,
    add_model,
    annotation_pins,
    filled_store,
    label_volume,
    model_pins,
    prediction_pins,
)

from pwsseg.cli import main
from pwsseg.store import Store
from pwsseg.store.contents import published_layers
from pwsseg.store.graph import Key, sources_of
from pwsseg.store.retention import collect, restore, retire
from pwsseg.store.verify import verify
from pwsseg.values import StoreError

OS1, FUSED, MODEL = Key("layers", "os1.v1"), Key("layers", "os1-fused.v1"), Key("models", "os1.v1")
DRAFT, ANNOTATION = Key("layers", "os1.v2"), Key("layers", "annotation.v1")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """annotation.v1 -> model os1.v1 -> os1.v1 -> os1-fused.v1, without the draft."""
    folder = tmp_path_factory.mktemp("retention")
    store = filled_store(folder)
    store.draft(prediction_pins(store.layer("annotation"), store.model("os1"), code="later")).discard()
    shutil.copytree(store.location, folder / "swept", ignore=lambda _, names: {"os1.v2"} & set(names))
    return Store.open(folder / "swept")


@pytest.fixture
def store(filled: Store, tmp_path: Path) -> Store:
    shutil.copytree(filled.location, tmp_path / "store")
    return Store.open(tmp_path / "store")


def files(store: Store) -> dict[str, bytes]:
    return {key: store.objects.read(key) or b"" for key in store.objects.keys("")}


def test_what_something_kept_came_of_is_refused_by_name(store: Store) -> None:
    before = files(store)
    with pytest.raises(StoreError, match=r"os1\.v1 can't be retired: layer os1-fused\.v1 came of it"):
        retire(store, [OS1])
    with pytest.raises(StoreError, match=r"layer os1\.v1 came of it"):
        retire(store, [MODEL])
    assert files(store) == before


def test_a_draft_keeps_its_sources(store: Store) -> None:
    retire(store, [FUSED])
    store.draft(prediction_pins(store.layer("annotation"), store.model("os1"), code="at work"))
    with pytest.raises(StoreError, match=r"model os1\.v1 can't be retired: layer os1\.v2 came of it"):
        retire(store, [OS1, MODEL])
    with pytest.raises(StoreError, match="unfinished draft"):
        retire(store, [DRAFT])


def test_a_coarse_model_is_needed_by_what_looks_into_its_boxes(store: Store) -> None:
    retire(store, [FUSED])
    annotation, coarse = store.layer("annotation"), store.model("os1")
    box = {"coarse": coarse.id, "digest": coarse.digest, "margin_mm": 20.0, "around": annotation.id}
    pins = prediction_pins(annotation, coarse, code="boxed")
    boxed = pins.model_copy(update={"name": "ots1", "settings": pins.settings | {"box": box}})
    record = store.draft(boxed).record
    other = record.model_copy(update={"pins": boxed.model_copy(update={"model": None})})
    assert MODEL in sources_of(other)
    assert MODEL not in sources_of(other.model_copy(update={"pins": pins.model_copy(update={"model": None})}))


def test_annotation_is_never_given_up(store: Store) -> None:
    with pytest.raises(StoreError, match="never given up"):
        retire(store, [ANNOTATION, FUSED, OS1, MODEL])
    assert not store.retired("layers")


def test_what_is_retired_is_no_source_and_no_newest_version(store: Store) -> None:
    before = files(store)
    (record,) = retire(store, [FUSED])
    after = files(store)
    assert {key: after[key] for key in before} == before, "no record changes"
    assert set(after) - set(before) == {"retired/layers/os1-fused.v1.json"}
    assert record.frees == sum(len(data) for key, data in before.items() if "os1-fused.v1/case-" in key)
    with pytest.raises(StoreError, match=r"is retired; `pwsseg retire --undo os1-fused\.v1`"):
        store.layer("os1-fused")
    assert store.layer("os1-fused.v1").cases() == ["case-a"], "readable by its id until it is deleted"
    assert FUSED.id not in [layer.id for layer in published_layers(store)]
    pins = annotation_pins("later").model_copy(update={"parents": (store.layer("os1-fused.v1").pin,)})
    with pytest.raises(StoreError, match="so it can't be a source"):
        store.draft(pins)
    assert not list(verify(store))


def test_an_older_version_steps_in_for_a_retired_one(store: Store) -> None:
    draft = store.draft(prediction_pins(store.layer("annotation"), store.model("os1"), code="newer"))
    draft.write("case-a", label_volume(1), annotated_classes=CLASSES, seconds={})
    assert draft.publish(["case-a"]).id == store.layer("os1").id == "os1.v2"
    retire(store, [Key("layers", "os1.v2")])
    assert store.layer("os1").id == "os1.v1"


def test_retiring_can_be_taken_back(store: Store) -> None:
    before = files(store)
    retire(store, [FUSED, OS1])
    with pytest.raises(StoreError, match=r"os1-fused\.v1 was made from layer os1\.v1, retired too"):
        restore(store, [FUSED])
    restore(store, [FUSED, OS1])
    assert files(store) == before
    with pytest.raises(StoreError, match="is not retired"):
        restore(store, [OS1])


def test_a_chain_is_deleted_and_stays_explained(store: Store) -> None:
    pins, digest = store.layer("os1").record.pins, store.layer("os1").digest
    before = files(store)
    retire(store, [FUSED, OS1, MODEL])
    assert [r.pin.id for r in collect(store, dry_run=True).deleted] == ["os1-fused.v1", "os1.v1", "os1.v1"]
    assert set(before) < set(files(store)), "a dry run deletes nothing"
    assert len(collect(store).deleted) == 3
    after = files(store)
    gone = set(before) - set(after)
    assert gone == {
        key
        for key in before
        if key.startswith(("layers/os1.v1/case-", "layers/os1-fused.v1/case-", "models/os1.v1/weights"))
    }
    record = next(r for r in store.layers() if r.id == "os1.v1")
    assert record.pins == pins
    assert record.state.state == "published"
    assert record.state.digest == digest
    with pytest.raises(StoreError, match=r"os1\.v1 was retired and deleted"):
        store.layer("os1.v1")
    assert not list(verify(store))
    assert collect(store).deleted == []
    with pytest.raises(StoreError, match="deleted"):
        restore(store, [OS1])


def test_the_same_pins_make_a_deleted_layer_anew(store: Store, tmp_path: Path) -> None:
    annotation = store.layer("annotation")
    pins = prediction_pins(annotation, store.model("os1"))
    retire(store, [FUSED, OS1, MODEL])
    with pytest.raises(StoreError, match="was retired on"):
        store.published(pins)
    collect(store)
    assert store.published(pins) is None
    assert store.trained(model_pins(annotation)) is None
    model = add_model(store, annotation, tmp_path)
    assert model.id == "os1.v2"
    draft = store.draft(prediction_pins(annotation, model))
    draft.write("case-a", label_volume(), annotated_classes=CLASSES, seconds={})
    assert draft.publish(["case-a"]).id == "os1.v2"
    assert not list(verify(store))


def test_gc_leaves_what_something_kept_came_of_since(store: Store, tmp_path: Path) -> None:
    """A training pins its targets only when it ends: they may have been retired while it ran."""
    pins = model_pins(store.layer("os1"))
    retire(store, [FUSED, OS1])
    draft = store.layer("os1.v1")
    store.write_model(
        pins.model_copy(update={"targets": (draft.pin,)}),
        next(Path(store.location).glob("models/os1.v1/weights.safetensors")),
        [],
        network={},
        classes=(0,),
        activation="softmax",
        preprocessing={},
    )
    found = collect(store)
    assert [r.pin.id for r in found.deleted] == ["os1-fused.v1"]
    assert [(r.pin.id, needing) for r, needing in found.needed] == [("os1.v1", [Key("models", "os1.v2")])]
    assert store.layer("os1.v1").cases()


def test_a_gc_cut_short_is_finished_by_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    retire(store, [FUSED])
    remove, left = type(store.objects).remove, iter([True, False])

    def failing(self: object, key: str) -> None:
        if not next(left, False):
            raise KeyboardInterrupt
        remove(store.objects, key)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(type(store.objects), "remove", failing)
        collect(store)
    assert [f.what for f in verify(store)] == ["is deleted but for 2 objects; run `pwsseg gc` again"]
    collect(store)
    assert not list(verify(store))


def test_the_commands_say_what_goes_and_what_it_frees(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", store.location]
    assert main(["retire", "os1.v1", *where]) == 1
    assert "layer os1-fused.v1 came of it" in capsys.readouterr().err
    assert main(["retire", *where]) == 1
    capsys.readouterr()
    assert main(["retire", "os1.v1", "os1-fused.v1", "--model", "os1.v1", *where]) == 0
    out = capsys.readouterr().out
    assert "retired  layer os1-fused.v1" in out
    assert "`pwsseg retire --undo os1.v1 os1-fused.v1 --model os1.v1` takes it back" in out
    assert main(["layers", *where]) == 0
    assert "x os1.v1" in capsys.readouterr().out
    assert main(["gc", "--dry-run", *where]) == 0
    assert "would be freed" in capsys.readouterr().out
    assert main(["gc", *where, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["deleted"]) == 3
    assert main(["layers", *where]) == 0
    assert capsys.readouterr().out.count("deleted") == 3
    assert main(["show", "os1.v1", *where]) == 0
    assert "deleted" in capsys.readouterr().out
    assert main(["report", *where, "--out", str(Path(store.location).parent / "r.html")]) == 0

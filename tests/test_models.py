"""A model as a folder that was copied out of a store, and what is refused of such a folder."""

import pickle
import re
import shutil
from pathlib import Path

import pytest
from filled_store import filled_store

from pwsseg.pipelines.models import is_path, model_in_folder
from pwsseg.store import Store
from pwsseg.values import InputError, StoreError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("full"))


@pytest.fixture
def folder(store: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(store.location, "models", "os1.v1"), tmp_path / "copied"))


def test_a_copied_folder_is_the_stored_model(store: Store, folder: Path) -> None:
    stored, copied = store.model("os1"), pickle.loads(pickle.dumps(model_in_folder(folder)))
    assert (copied.id, copied.trained) == (stored.id, stored.trained)
    assert copied.weights_bytes() == stored.weights_bytes()


def test_its_weights_file_names_it_as_well(folder: Path) -> None:
    assert model_in_folder(folder / "weights.safetensors") == model_in_folder(folder)


def test_other_weights_than_the_record_names_are_refused(folder: Path) -> None:
    with (folder / "weights.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match=r"is not the file that model\.json beside it names; copy"):
        model_in_folder(folder)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_folder_without_one_of_both_files_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{re.escape(name)} can't be read .*; give the folder of a model"):
        model_in_folder(folder)


def test_another_record_is_refused(store: Store, folder: Path) -> None:
    shutil.copy(Path(store.location, "zarr.json"), folder / "model.json")
    with pytest.raises(StoreError, match=r"record of type store, where ModelRecord was expected"):
        model_in_folder(folder)


def test_a_path_is_told_from_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert is_path("copied")
    assert is_path("models/ots2.v1")
    assert not is_path("ots2.v1")

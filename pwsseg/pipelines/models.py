"""A trained model from wherever it lies: in the store, or as a folder that was copied out of one.

FOLDER/model.json  FOLDER/weights.safetensors       as STORE/models/ots2.v1/ has them

A model that looks into boxes needs its coarse network's folder beside its own, named as in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pwsseg.networks.prediction import BoxSettings
from pwsseg.store.digests import bytes_digest
from pwsseg.store.documents import parse
from pwsseg.store.model import DOCUMENT, WEIGHTS
from pwsseg.store.records import ModelRecord, Trained
from pwsseg.store.versions import check_name
from pwsseg.values import InputError


class AnyModel(Protocol):
    """What predicting needs of a model; pickles."""

    @property
    def id(self) -> str:
        """Name and version, such as `ots2.v1`."""

    @property
    def trained(self) -> Trained:
        """What builds its network again."""

    def weights_bytes(self) -> bytes:
        """Its safetensors file, checked."""

    def beside(self, name: str) -> AnyModel:
        """Another model from the same place, such as `os2-coarse.v1`."""


@dataclass(frozen=True)
class ModelFolder:
    """A model outside a store."""

    folder: Path
    id: str
    trained: Trained

    def weights_bytes(self) -> bytes:
        """The safetensors file; InputError when it is missing or not the one that model.json names."""
        path = self.folder / WEIGHTS
        data = _bytes(path)
        if bytes_digest(data) != self.trained.weights:
            raise InputError(f"{path} is not the file that {DOCUMENT} beside it names; copy both again")
        return data

    def beside(self, name: str) -> ModelFolder:
        """The model in the folder of that name next to this one; InputError when there is none."""
        check_name(name)  # it stands in a file that others may have made
        folder = self.folder.parent / name
        if not folder.is_dir():
            raise InputError(
                f"{self.id} in {self.folder} needs the model {name}, and there is no {folder}; copy that one "
                f"too from the store's models, or name the store by --store and the model by its name"
            )
        return model_in_folder(folder)


def coarse_of(model: AnyModel, box: BoxSettings) -> AnyModel:
    """The model that finds `box` for `model`; InputError when it has other weights than those meant."""
    coarse = model.beside(box.coarse)
    if coarse.trained.weights != box.digest:
        raise InputError(
            f"{coarse.id} beside {model.id} is not the one that {model.id} was trained with; copy both "
            f"folders from one store's models"
        )
    return coarse


def model_in_folder(path: Path) -> ModelFolder:
    """The model in a folder, or beside its weights file.

    Raises
    ------
    InputError
        When model.json or the weights are missing, damaged or of a training that did not end, of this model
        or of the coarse one that it needs.
    StoreError
        When model.json is no record of ours.
    """
    folder = (path if path.is_dir() else path.parent).absolute()
    document = folder / DOCUMENT
    record = parse(_bytes(document), str(document), ModelRecord)
    if not isinstance(record.state, Trained):
        raise InputError(f"{document} is of a training that did not end; run its round again and copy anew")
    model = ModelFolder(folder, record.id, record.state)
    model.weights_bytes()
    if box := model.trained.network.get("box"):
        coarse_of(model, BoxSettings.model_validate(box))
    return model


def is_path(said: str) -> bool:
    """Whether a model is named by a path: with a slash, or a folder that holds one."""
    return "/" in said or (Path(said) / DOCUMENT).exists()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}); give the folder of a model, with {DOCUMENT} and "
            f"{WEIGHTS} in it, as STORE/models/ots2.v1"
        ) from error

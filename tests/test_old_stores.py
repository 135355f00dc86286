"""What was written once stays readable: stores of earlier days, kept as they were."""

from pathlib import Path

import numpy as np
import pytest
from filled_store import CLASSES, GEOMETRY, hu_volume, label_volume

from pwsseg.store import Store
from pwsseg.store.verify import verify

STORES = Path(__file__).parent / "stores"


@pytest.fixture
def store() -> Store:
    return Store.open(STORES / "v1")


def test_the_first_stores_scans_are_read(store: Store) -> None:
    assert store.cases() == ["case-a", "case-b"]
    assert store.cases("validation") == ["case-b"]
    scan = store.scan("case-a")
    assert scan.geometry == GEOMETRY
    assert np.array_equal(scan.read(), hu_volume(len("case-a") + ord("a")))


def test_the_first_stores_layers_are_read(store: Store) -> None:
    assert [record.id for record in store.layers()] == ["annotation.v1", "os1.v1"]
    os1 = store.layer("os1")
    assert os1.digest == "9e858e9de59ae01058537c239ea51fd3c91770c5e6c2c76e4fc58b55ad3ac16b"
    assert os1.record.pins.parents == (store.layer("annotation").pin,)
    assert np.array_equal(os1.labels("case-b"), label_volume(1))
    assert os1.entry("case-b").annotated_classes == CLASSES
    assert [(row["case"], row["voxels_1"], row["voxels_14"]) for row in os1.manifest()] == [
        ("case-a", 144, 0),
        ("case-b", 144, 0),
    ]


def test_the_first_stores_model_and_scores_are_read(store: Store) -> None:
    model = store.model("os1")
    assert model.digest == "8e31fec9d7870e22705a974551945651e36d617d34b54091ec2fe33e393048cd"
    assert model.trained.network == {"name": "unet", "channels": [8, 16]}
    assert len(model.weights_bytes()) == 104
    assert model.curve() == [{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": 0.5}]
    assert store.scores("os1", "annotation") == [{"case": "case-a", "class": 1, "dsc": 1.0, "nsd": 1.0}]


def test_the_first_store_verifies(store: Store) -> None:
    assert list(verify(store)) == []

"""A tiny store with all that a store can hold, for the tests of the store and of the command line."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pwsseg.store import AnnotationPins, FusionPins, Layer, Model, ModelPins, PredictionPins, Source, Store
from pwsseg.values import UNKNOWN, Geometry

AXIAL = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
GEOMETRY = Geometry(shape=(7, 12, 10), spacing=(2.5, 0.8, 0.75), origin=(-40.0, 12.5, 300.0), direction=AXIAL)
CASES = ("case-a", "case-b", "case-c")
CLASSES = (1, 2, 14)


def hu_volume(seed: int, geometry: Geometry = GEOMETRY) -> NDArray[np.int16]:
    return np.random.default_rng(seed).normal(40, 60, geometry.shape).astype(np.int16)


def label_volume(shift: int = 0, geometry: Geometry = GEOMETRY) -> NDArray[np.uint8]:
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1:5, 2 + shift : 8 + shift, 2:8] = 1
    labels[5:7, 1:4, 1:4] = 2
    return labels


def add_scan(store: Store, case: str, split: Literal["training", "validation"] = "training") -> None:
    source = Source(format="nifti", name=f"{case}_0000.nii.gz", digest="5" * 64)
    store.write_scan(case, hu_volume(len(case) + ord(case[-1])), GEOMETRY, source=source, split=split)


def annotation_pins(code: str = "abc123") -> AnnotationPins:
    return AnnotationPins(
        kind="annotation",
        name="annotation",
        classes=CLASSES,
        parents=(),
        model=None,
        settings={"annotated": "annotated.csv"},
        rules=(),
        code=code,
    )


def add_annotation(store: Store, cases: tuple[str, ...] = CASES[:2]) -> Layer:
    draft = store.draft(annotation_pins())
    for case in cases:
        draft.write(case, label_volume(), annotated_classes=CLASSES, seconds={"read": 0.5})
    return draft.publish(cases)


def model_pins(layer: Layer) -> ModelPins:
    return ModelPins(
        name="os1", targets=(layer.pin,), starts_from=None, settings={"epochs": 2}, cases=CASES, code="abc123"
    )


def weights_file(folder: Path, value: float = 1.0) -> Path:
    path = folder / f"weights-{value}.safetensors"
    save_file({"conv.weight": np.full((2, 3), value, np.float32)}, path)
    return path


def add_model(store: Store, layer: Layer, folder: Path, value: float = 1.0) -> Model:
    return store.write_model(
        model_pins(layer),
        weights_file(folder, value),
        [{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": value / 2}],
        network={"name": "unet", "channels": [8, 16]},
        classes=(0, 1, 2, 14),
        activation="softmax",
        preprocessing={"spacing": [4.0, 2.0, 2.0]},
    )


def prediction_pins(layer: Layer, model: Model, code: str = "abc123") -> PredictionPins:
    return PredictionPins(
        kind="prediction",
        name="os1",
        classes=CLASSES,
        parents=(layer.pin,),
        model=model.pin,
        settings={"overlap": 0.5},
        rules=("largest-component",),
        code=code,
    )


def store_at_work(folder: Path) -> Store:
    """The filled store, with a committed case in its draft."""
    store = filled_store(folder)
    draft = store.draft(prediction_pins(store.layer("annotation"), store.model("os1"), code="later"))
    draft.write("case-a", label_volume(1), annotated_classes=CLASSES, seconds={})
    return store


def filled_store(folder: Path, location: str | Path | None = None) -> Store:
    """Three scans, four layers (one with unknown voxels, one a draft), a model, a prepared scan, scores.

    The store is made at `location`, or in `folder`, which takes the weights' file.
    """
    store = Store.create(location or folder / "store")
    for case, split in zip(CASES, ("training", "training", "validation"), strict=True):
        add_scan(store, case, "training" if split == "training" else "validation")
    annotation = add_annotation(store)
    model = add_model(store, annotation, folder)
    draft = store.draft(prediction_pins(annotation, model))
    for shift, case in enumerate(CASES):
        draft.write(case, label_volume(shift), annotated_classes=CLASSES, seconds={"predict": 1.25})
    os1 = draft.publish(CASES)
    fused = store.draft(
        FusionPins(
            kind="fusion",
            name="os1-fused",
            classes=CLASSES,
            parents=(annotation.pin, os1.pin),
            model=None,
            settings={},
            rules=("annotated-wins", "else-unknown"),
            code="abc123",
        )
    )
    labels = label_volume()
    labels[0] = UNKNOWN
    fused.write(
        "case-a", labels, annotated_classes=CLASSES, seconds={"fuse": 0.1}, measures={"stability": 0.25}
    )
    fused.publish(["case-a"])
    store.draft(prediction_pins(annotation, model, code="later"))
    scan = store.scan("case-a")
    store.prepared("spacing-4-2-2").write("case-a", scan.read().astype(np.float16), GEOMETRY, scan.digest)
    store.write_scores("os1", "annotation", [{"case": "case-a", "class": 1, "dsc": 1.0, "nsd": 1.0}])
    return store

"""Who says what a voxel of a target is: recomputed from parents and rules alone, and true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from filled_store import add_model, filled_store
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pwsseg.arrays.fusion import Provenance
from pwsseg.arrays.targets import TargetRules, target_labels, target_provenance
from pwsseg.cli import main
from pwsseg.formats.nifti import read_labels
from pwsseg.pipelines.fuse import target_labels as written_labels
from pwsseg.pipelines.fuse import target_pins
from pwsseg.pipelines.provenance import provenance_of
from pwsseg.pipelines.sources import pin_sources
from pwsseg.rounds import RoundSettings, load_round
from pwsseg.store import AnnotationPins, Layer, PredictionPins, Source, Store
from pwsseg.values import FLARE23, Geometry, StoreError

ORGANS, TUMOR = FLARE23.organs, FLARE23.tumor
U, A, P = Provenance.UNKNOWN, Provenance.ANNOTATED, Provenance.PSEUDO
LABEL_MAPS = arrays(np.uint8, (2, 2, 3), elements=st.sampled_from([0, 1, 2, 3, TUMOR, 255]))
FUSIONS = st.sampled_from([["annotation-only"], ["fuse:tumor-over-organ"], ["fuse:annotation-first"]])
DIVISIONS = st.sampled_from([[], ["tumor-to-organ:2mm"], ["select:stability:0.9"]])
GEOMETRY = Geometry(
    shape=(1, 1, 6),
    spacing=(1.0, 1.0, 1.0),
    origin=(0.0, 0.0, 0.0),
    direction=(0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
)

# case: annotated classes, annotation, pseudo labels, target and provenance by the rules of os2
BY_HAND = {
    "full": ((*ORGANS, TUMOR), [1, 14, 0, 2, 0, 0], None, [1, 255, 0, 2, 0, 0], [A, U, A, A, A, A]),
    "partial": (
        (1, TUMOR),
        [1, 0, 14, 14, 0, 0],
        [2, 1, 11, 1, 3, 0],
        [1, 255, 11, 1, 3, 0],
        [A, U, P, P, P, P],
    ),
    "unlabelled": ((), None, [0, 1, 2, 3, 13, 0], [0, 1, 2, 3, 13, 0], [P, P, P, P, P, P]),
}


@given(
    annotation=st.none() | LABEL_MAPS,
    pseudo=LABEL_MAPS,
    annotated=st.sets(st.sampled_from([1, 2, 3, TUMOR])),
    names=st.tuples(FUSIONS, DIVISIONS).map(lambda pair: [*pair[0], *pair[1]]),
    classes=st.sampled_from([(1, 2, 3), (1, 2, 3, TUMOR)]),
)
def test_provenance_is_true_by_every_rule(
    annotation: NDArray[np.uint8] | None,
    pseudo: NDArray[np.uint8],
    annotated: set[int],
    names: list[str],
    classes: tuple[int, ...],
) -> None:
    rules = TargetRules.named(names, classes=classes, organs=(1, 2, 3), tumor=TUMOR)
    assert rules is not None
    asked = {"rules": rules, "annotated": annotated & set(classes), "spacing": (1.0, 1.0, 1.0)}
    labels = target_labels(annotation, pseudo, **asked)  # type: ignore[arg-type]
    sources = target_provenance(annotation, pseudo, **asked)  # type: ignore[arg-type]
    drawn = np.zeros_like(pseudo) if annotation is None else annotation
    divided = (drawn == TUMOR) & (rules.reach_mm is not None)
    assert ((sources == U) == (labels == 255)).all()
    assert (labels[sources == A] == drawn[sources == A]).all()
    assert (labels[(sources == P) & ~divided] == pseudo[(sources == P) & ~divided]).all()
    assert np.isin(labels[(sources == P) & divided], [0, 1, 2, 3, TUMOR]).all()
    assert not (sources[divided] == A).any()


def os2() -> RoundSettings:
    return load_round("os2", "laptop", folder=Path(__file__).resolve().parents[1] / "jobs")


def volume(labels: Sequence[int]) -> NDArray[np.uint8]:
    return np.array([[labels]], np.uint8)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Layer]:
    """The targets of os2 for the cases worked by hand, by the pipeline's own function."""
    folder = tmp_path_factory.mktemp("targets")
    store = Store.create(folder / "store")
    for n, case in enumerate(BY_HAND):
        source = Source(format="nifti", name=case, digest=str(n) * 64)
        store.write_scan(case, np.full((1, 1, 6), n, np.int16), GEOMETRY, source=source, split="training")
    draft = store.draft(
        AnnotationPins(
            kind="annotation",
            name="annotation",
            classes=FLARE23.ids,
            parents=(),
            model=None,
            settings={},
            rules=(),
            code="c",
        )
    )
    for case, (stated, drawn, *_) in BY_HAND.items():
        if drawn is not None:
            draft.write(case, volume(drawn), annotated_classes=stated, seconds={})
    annotation = draft.publish([case for case, (_, drawn, *_) in BY_HAND.items() if drawn is not None])
    model = add_model(store, annotation, folder)
    prediction = PredictionPins(
        kind="prediction",
        name="os1",
        classes=tuple(ORGANS),
        parents=(annotation.pin,),
        model=model.pin,
        settings={},
        rules=(),
        code="c",
    )
    os1 = store.draft(prediction)
    for case in ("partial", "unlabelled"):
        os1.write(case, volume(BY_HAND[case][2] or []), annotated_classes=ORGANS, seconds={})
    os1.publish(["partial", "unlabelled"])
    sources = pin_sources(store, os2())
    pins = target_pins(sources).model_copy(update={"code": "c"})
    made = store.draft(pins)
    for case in sources.learnt:
        labels = written_labels(
            annotation.labels(case) if sources.kinds[case] != "unlabelled" else None,
            store.layer("os1").labels(case) if sources.is_fused(case) else None,
            settings=sources.settings,
            annotated=sources.annotated[case],
            spacing=GEOMETRY.spacing,
        )
        made.write(case, labels, annotated_classes=sources.known(case), seconds={})
    return store, made.publish(sources.learnt)


@pytest.mark.parametrize("case", BY_HAND)
def test_a_pipelines_target_is_explained_voxel_by_voxel(targets: tuple[Store, Layer], case: str) -> None:
    store, layer = targets
    _, _, _, labels, sources = BY_HAND[case]
    assert layer.labels(case).tolist() == volume(labels).tolist()
    assert provenance_of(store, layer, case).tolist() == [[sources]]


def test_the_command_counts_and_writes_it(
    targets: tuple[Store, Layer], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, _ = targets
    out = tmp_path / "partial.nii.gz"
    arguments = ["os2-targets", "--case", "partial", "--store", store.location, "--out", str(out)]
    assert main(["provenance", *arguments]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[2:5]] == [["unknown", "1"], ["annotated", "1"], ["pseudo", "4"]]
    assert read_labels(out).array.tolist() == volume(BY_HAND["partial"][4]).tolist()


def test_what_was_made_by_other_rules_is_refused(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    for name in ("os1-fused", "os1"):
        with pytest.raises(StoreError, match="not made by the rules of targets"):
            provenance_of(store, store.layer(name), "case-a")

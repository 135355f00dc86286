"""Eq. 5 in one label map, tumors divided into organs, and how stable labels are: worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pwsseg.arrays.fusion import (
    Provenance,
    TumorRule,
    fuse,
    known_classes,
    provenance,
    restrict,
    tumor_to_organ,
)
from pwsseg.arrays.stability import changed_by_class, disagreement, where_different
from pwsseg.pipelines.fuse import target_labels
from pwsseg.rounds import RoundSettings, load_round

TUMOR = 14
ORGANS = range(1, 14)
A, P, U = Provenance.ANNOTATED, Provenance.PSEUDO, Provenance.UNKNOWN
LABEL_MAPS = arrays(np.uint8, (2, 3, 4), elements=st.sampled_from([0, 1, 2, 3, TUMOR, 255]))
CLASS_SETS = st.sets(st.sampled_from([1, 2, 3, TUMOR]))
RULES = st.sampled_from(["tumor-over-organ", "annotation-first"])


def row(*labels: int) -> NDArray[np.uint8]:
    """Labels along x of a volume (1, 1, n)."""
    return np.array([[labels]], dtype=np.uint8)


def os2() -> RoundSettings:
    return load_round("os2", "laptop", folder=Path(__file__).resolve().parents[1] / "jobs")


# annotation, pseudo, annotated classes -> fused, provenance
@pytest.mark.parametrize(
    ("annotation", "pseudo", "annotated", "fused", "source"),
    [
        pytest.param(1, 2, {1}, 1, A, id="an annotated voxel keeps its class over the pseudo label"),
        pytest.param(1, 0, {1}, 1, A, id="an annotated voxel keeps its class over pseudo background"),
        pytest.param(1, 255, {1}, 1, A, id="an annotated voxel keeps its class over unknown"),
        pytest.param(1, 2, {1, 2}, 1, A, id="between two annotated classes the annotation decides"),
        pytest.param(0, 1, {1}, 255, U, id="a pseudo label that the annotation refutes is unknown"),
        pytest.param(255, 1, {1}, 255, U, id="a refuted pseudo label under an unknown voxel is unknown"),
        pytest.param(0, 2, {1}, 2, P, id="a class that is not annotated comes from the pseudo label"),
        pytest.param(0, 0, {1}, 0, P, id="background of both is background"),
        pytest.param(255, 0, {1}, 0, P, id="unknown in the annotation takes the pseudo background"),
        pytest.param(0, 255, {1}, 255, U, id="unknown in the pseudo label stays unknown"),
        pytest.param(2, 0, {1}, 0, P, id="an annotation of a class not stated as annotated is not heard"),
        pytest.param(0, 3, set(), 3, P, id="an unannotated case is all pseudo labels"),
        pytest.param(14, 1, {14}, 14, A, id="an annotated tumor lies over a pseudo organ"),
        pytest.param(0, 14, {14}, 255, U, id="a pseudo tumor is refuted by an annotation of tumors"),
        pytest.param(1, 14, {1, 14}, 1, A, id="an annotated organ withstands a tumor that is refuted"),
        pytest.param(1, 14, {1}, 14, P, id="a pseudo tumor lies over an annotated organ"),
    ],
)
def test_voxel_is_fused_by_eq_5(
    annotation: int, pseudo: int, annotated: set[int], fused: int, source: Provenance
) -> None:
    result = fuse(row(annotation), row(pseudo), annotated=annotated, tumor=TUMOR)
    assert result.dtype == np.uint8
    assert result.item() == fused
    assert provenance(row(annotation), row(pseudo), annotated=annotated, tumor=TUMOR).item() == source


def test_annotation_first_keeps_the_organ_under_a_pseudo_tumor() -> None:
    fused = fuse(row(1, 0), row(14, 14), annotated={1}, tumor=TUMOR, rule="annotation-first")
    assert fused.tolist() == row(1, 14).tolist()


def test_without_fusion_organs_are_the_pseudo_labels_alone_and_an_annotated_tumor_is_kept() -> None:
    annotation, pseudo = row(1, 1, 0, 14, 0), row(1, 2, 1, 3, 14)
    rule: TumorRule = "pseudo-organs"
    fused = fuse(annotation, pseudo, annotated={1, TUMOR}, tumor=TUMOR, rule=rule)
    assert fused.tolist() == row(1, 2, 1, 14, 255).tolist()
    sources = provenance(annotation, pseudo, annotated={1, TUMOR}, tumor=TUMOR, rule=rule)
    assert sources.tolist() == [[[P, P, P, A, U]]]


@given(LABEL_MAPS, LABEL_MAPS, CLASS_SETS, RULES)
def test_provenance_says_where_every_voxel_comes_from(
    annotation: NDArray[np.uint8], pseudo: NDArray[np.uint8], annotated: set[int], rule: TumorRule
) -> None:
    fused = fuse(annotation, pseudo, annotated=annotated, tumor=TUMOR, rule=rule)
    sources = provenance(annotation, pseudo, annotated=annotated, tumor=TUMOR, rule=rule)
    assert (fused[sources == A] == annotation[sources == A]).all()
    assert (fused[sources == P] == pseudo[sources == P]).all()
    assert (fused[sources == U] == 255).all()
    assert (fused[sources != U] != 255).all()


@given(LABEL_MAPS, LABEL_MAPS, CLASS_SETS, RULES)
def test_fused_map_equals_eq_5_class_by_class(
    annotation: NDArray[np.uint8], pseudo: NDArray[np.uint8], annotated: set[int], rule: TumorRule
) -> None:
    fused = fuse(annotation, pseudo, annotated=annotated, tumor=TUMOR, rule=rule)
    tumor_wins = (
        (pseudo == TUMOR) if rule == "tumor-over-organ" and TUMOR not in annotated else np.zeros(1, bool)
    )
    for k in (1, 2, 3, TUMOR):
        if k in annotated:
            assert ((fused == k) == ((annotation == k) & ~tumor_wins)).all()
        else:
            taken = np.isin(annotation, list(annotated)) & ~tumor_wins
            assert ((fused == k) == ((pseudo == k) & ~taken)).all()


@given(LABEL_MAPS, LABEL_MAPS, CLASS_SETS)
def test_fusing_changes_neither_parent(
    annotation: NDArray[np.uint8], pseudo: NDArray[np.uint8], annotated: set[int]
) -> None:
    before = annotation.copy(), pseudo.copy()
    fuse(annotation, pseudo, annotated=annotated, tumor=TUMOR)
    assert (annotation == before[0]).all()
    assert (pseudo == before[1]).all()


def test_restrict_makes_other_classes_unknown_and_keeps_background() -> None:
    assert restrict(row(0, 1, 2, 14, 255), to=[1, 2]).tolist() == row(0, 1, 2, 255, 255).tolist()


def test_known_classes_are_the_rounds_own_that_somebody_speaks_about() -> None:
    assert known_classes([1, 2, 3], annotated={1, 14}, predicted={2}) == {1, 2}
    assert known_classes([1, 2, 3], annotated=(), predicted=()) == frozenset()


def divided(
    annotation: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    reach_mm: float,
    spacing: tuple[float, float, float] = (1, 1, 1),
) -> list[int]:
    result = tumor_to_organ(
        annotation, prediction, tumor=TUMOR, organs=ORGANS, spacing=spacing, reach_mm=reach_mm
    )
    return [int(v) for v in result.ravel()]


def test_tumor_voxel_takes_the_organ_predicted_there() -> None:
    assert divided(row(14, 14, 14), row(1, 2, 1), 5) == [1, 2, 1]


def test_tumor_voxel_predicted_as_background_takes_its_components_majority() -> None:
    assert divided(row(14, 14, 14, 14), row(2, 0, 1, 1), 0) == [2, 1, 1, 1]


def test_majorities_are_of_each_component() -> None:
    assert divided(row(14, 14, 0, 14, 14), row(1, 0, 0, 2, 0), 0) == [1, 1, 0, 2, 2]


def test_components_join_over_corners() -> None:
    annotation = np.zeros((2, 2, 2), np.uint8)
    prediction = np.zeros_like(annotation)
    annotation[0, 0, 0] = annotation[1, 1, 1] = 14
    prediction[0, 0, 0] = 3
    assert divided(annotation, prediction, 0)[-1] == 3


def test_predicted_tumor_is_no_organ() -> None:
    assert divided(row(14, 14), row(14, 14), 0) == [0, 0]


def test_component_without_prediction_takes_the_nearest_organ_within_reach() -> None:
    annotation, prediction = row(1, 0, 0, 14, 0, 0, 0), row(0, 0, 0, 0, 0, 0, 2)
    assert divided(annotation, prediction, 2.9) == [1, 0, 0, 0, 0, 0, 0]
    assert divided(annotation, prediction, 3) in ([1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 2, 0, 0, 0])
    assert divided(row(0, 1, 0, 14, 0, 0, 0), prediction, 3)[3] == 1
    assert divided(row(1, 0, 0, 14, 0, 0, 0), row(0, 0, 0, 0, 0, 2, 0), 3)[3] == 2


def test_reach_is_measured_in_millimetres() -> None:
    annotation = np.zeros((3, 1, 4), np.uint8)
    annotation[1, 0, 1], annotation[2, 0, 1], annotation[1, 0, 3] = 14, 1, 2
    nearest = divided(annotation, np.zeros_like(annotation), 10, spacing=(5, 1, 1))
    assert nearest[5] == 2
    assert divided(annotation, np.zeros_like(annotation), 1.5, spacing=(5, 1, 1))[5] == 0


def test_division_leaves_every_other_voxel_and_its_parents_untouched() -> None:
    annotation, prediction = row(0, 1, 14, 255), row(3, 3, 3, 3)
    assert divided(annotation, prediction, 5) == [0, 1, 3, 255]
    assert annotation.tolist() == row(0, 1, 14, 255).tolist()


@given(LABEL_MAPS, LABEL_MAPS, st.floats(0, 4))
def test_division_leaves_no_tumor_and_nothing_but_organs_in_its_place(
    annotation: NDArray[np.uint8], prediction: NDArray[np.uint8], reach_mm: float
) -> None:
    result = np.reshape(divided(annotation, prediction, reach_mm), annotation.shape)
    tumor = annotation == TUMOR
    assert (result[~tumor] == annotation[~tumor]).all()
    assert np.isin(result[tumor], [0, *ORGANS]).all()
    organ = tumor & np.isin(prediction, ORGANS)
    assert (result[organ] == prediction[organ]).all()


@pytest.mark.parametrize("annotated", [frozenset(), frozenset({11}), frozenset({1, 2, 3, 4, 13})])
def test_divided_tumor_reaches_the_target_whichever_organs_are_annotated(annotated: frozenset[int]) -> None:
    target = target_labels(
        row(14, 14, 14, 0), row(11, 0, 11, 0), settings=os2(), annotated=annotated, spacing=(1, 1, 1)
    )
    assert target.tolist() == row(11, 11, 11, 0).tolist()


def test_target_of_an_unlabelled_case_is_its_pseudo_labels() -> None:
    pseudo = row(0, 1, 13)
    target = target_labels(None, pseudo, settings=os2(), annotated=frozenset(), spacing=(1, 1, 1))
    assert target.tolist() == pseudo.tolist()


def test_target_of_an_annotated_case_hides_what_lies_under_a_tumor() -> None:
    target = target_labels(
        row(0, 1, 14), None, settings=os2(), annotated=frozenset(ORGANS), spacing=(1, 1, 1)
    )
    assert target.tolist() == row(0, 1, 255).tolist()


def test_instability_is_the_mean_of_both_changes() -> None:
    first, second, third = row(1, 1, 0, 0), row(1, 2, 2, 0), row(1, 2, 2, 2)
    # y1 != y2 at 2 of 3 voxels of y2; y2 != y3 at 1 of 4 voxels of y3
    assert disagreement(first, second, third, organs=ORGANS) == pytest.approx(0.5 * (2 / 3 + 1 / 4))


def test_instability_of_equal_labels_is_zero_even_without_any_organ() -> None:
    assert disagreement(row(1, 2), row(1, 2), row(1, 2), organs=ORGANS) == 0
    assert disagreement(row(0, 0), row(0, 0), row(0, 0), organs=ORGANS) == 0


def test_change_by_class_counts_who_has_it_alone() -> None:
    changed = changed_by_class(*where_different(row(1, 1, 2, 0, 14), row(1, 2, 2, 3, 0)))
    assert {k: int(n) for k, n in enumerate(changed) if n} == {0: 2, 1: 1, 2: 1, 3: 1, 14: 1}


def test_instability_counts_no_tumor() -> None:
    assert disagreement(row(1, 0), row(1, 0), row(1, 14), organs=ORGANS) == 0

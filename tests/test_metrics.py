"""Known answers on analytic shapes, the organisers' quirks one by one, and equality with surface-distance."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from pwsseg.arrays.metrics import ClassScore, dice, score_case, score_in_both_modes, summarise
from pwsseg.arrays.surfaces import surface_dice
from pwsseg.formats.nifti import read_labels
from pwsseg.values import FLARE23

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance

LIVER, AORTA, CAVA, ESOPHAGUS, TUMOR = 1, 5, 6, 10, 14
UNIT = (1.0, 1.0, 1.0)
Mask = NDArray[np.bool_]


def cube(shape: tuple[int, int, int], start: tuple[int, int, int], edge: int) -> Mask:
    mask = np.zeros(shape, bool)
    z, y, x = start
    mask[z : z + edge, y : y + edge, x : x + edge] = True
    return mask


def labelled(mask: Mask, label: int) -> NDArray[np.uint8]:
    return np.where(mask, label, 0).astype(np.uint8)


def one(a: Mask, b: Mask, *, label: int = LIVER, mode: str = "flare") -> ClassScore:
    scores = score_case(labelled(a, label), labelled(b, label), spacing=UNIT, classes=[label], mode=mode)  # type: ignore[arg-type]
    return scores[label]


def library_nsd(a: Mask, b: Mask, *, spacing: tuple[float, float, float], tolerance_mm: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = surface_distance.compute_surface_distances(
            np.ascontiguousarray(b.transpose()), np.ascontiguousarray(a.transpose()), spacing[::-1]
        )
    return float(surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm))


def test_equal_masks_score_one() -> None:
    a = cube((12, 12, 12), (3, 3, 3), 5)
    assert one(a, a) == ClassScore(1.0, 1.0)


def test_shifted_cube_has_the_dice_of_its_overlap() -> None:
    a, b = cube((9, 9, 20), (1, 1, 1), 6), cube((9, 9, 20), (1, 1, 3), 6)
    assert dice(a, b) == pytest.approx(4 / 6)


def test_planes_six_mm_apart_agree_from_six_mm_on() -> None:
    a, b = np.zeros((2, 12, 10, 10), bool)
    a[:4], b[:6] = True, True
    assert surface_dice(a, b, spacing=(3.0, 1.0, 1.0), tolerance_mm=6.0) == 1.0
    assert surface_dice(a, b, spacing=(3.0, 1.0, 1.0), tolerance_mm=5.99) < 1.0


def test_offset_is_measured_in_millimetres_of_its_own_axis() -> None:
    a, b = cube((20, 20, 20), (5, 5, 5), 6), cube((20, 20, 20), (7, 5, 5), 6)
    assert surface_dice(a, b, spacing=(1.0, 9.0, 9.0), tolerance_mm=2.0) == 1.0
    assert surface_dice(a, b, spacing=(1.01, 9.0, 9.0), tolerance_mm=2.0) < 1.0


def test_distant_cubes_share_no_surface() -> None:
    a, b = cube((30, 9, 9), (1, 1, 1), 5), cube((30, 9, 9), (22, 1, 1), 5)
    assert surface_dice(a, b, spacing=UNIT, tolerance_mm=3.0) == 0.0


def test_touching_cubes_share_the_face_between_them() -> None:
    a, b = cube((42, 42, 84), (1, 1, 1), 40), cube((42, 42, 84), (1, 1, 41), 40)
    assert dice(a, b) == 0.0
    assert surface_dice(a, b, spacing=UNIT, tolerance_mm=0.0) == pytest.approx(1 / 6, abs=0.01)


def test_a_mask_at_the_edge_of_the_volume_is_closed_there() -> None:
    a, b = cube((6, 6, 6), (0, 0, 0), 6), cube((8, 8, 8), (1, 1, 1), 6)
    inner = surface_dice(b, b, spacing=UNIT, tolerance_mm=1.0)
    assert surface_dice(a, a, spacing=UNIT, tolerance_mm=1.0) == inner == 1.0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.5, 6.0)] * 3),
    tolerance_mm=st.floats(0.0, 8.0),
    smooth=st.floats(0.0, 2.0),
)
def test_equal_to_the_library_on_random_shapes(
    seed: int, spacing: tuple[float, float, float], tolerance_mm: float, smooth: float
) -> None:
    noise = np.random.default_rng(seed).normal(size=(2, 11, 13, 9))
    a, b = (ndimage.gaussian_filter(n, smooth) > 0 for n in noise)
    ours = surface_dice(a, b, spacing=spacing, tolerance_mm=tolerance_mm)
    assert ours == pytest.approx(library_nsd(a, b, spacing=spacing, tolerance_mm=tolerance_mm), abs=1e-9)


def test_equal_to_the_library_on_a_real_label_map(shared_data: Path) -> None:
    volume = read_labels(shared_data / "flare" / "labelsTr" / "ts.nii.gz")
    reference, spacing = volume.array, volume.geometry.spacing
    prediction = np.zeros_like(reference)
    prediction[1:, 2:, 2:] = reference[:-1, :-2, :-2]
    found = score_case(prediction, reference, spacing=spacing, classes=FLARE23.ids, mode="clean")
    for label in (4, 7, 12):
        a, b = (v == label for v in (prediction, reference))
        theirs = library_nsd(a, b, spacing=spacing, tolerance_mm=FLARE23[label].nsd_tolerance_mm)
        assert 0 < theirs < 1
        assert found[label].nsd == pytest.approx(theirs, abs=1e-9)


def test_surfaces_of_a_fine_grid_reach_past_a_byte() -> None:
    a, b = np.zeros((2, 3, 3, 400), bool)
    a[1, 1, 3], b[1, 1, 203] = True, True
    assert surface_dice(a, b, spacing=(1.0, 1.0, 0.03125), tolerance_mm=6.25) == 1.0
    assert surface_dice(a, b, spacing=(1.0, 1.0, 0.03125), tolerance_mm=6.24) == pytest.approx(0.5)


def test_absent_from_both_scores_one() -> None:
    nothing = np.zeros((4, 4, 4), bool)
    for mode in ("flare", "clean"):
        assert one(nothing, nothing, mode=mode) == ClassScore(1.0, 1.0)


@pytest.mark.parametrize("label", [LIVER, AORTA, CAVA, ESOPHAGUS])
def test_absent_from_one_scores_zero(label: int) -> None:
    something, nothing = cube((6, 6, 6), (1, 1, 1), 3), np.zeros((6, 6, 6), bool)
    for mode in ("flare", "clean"):
        assert one(something, nothing, label=label, mode=mode) == ClassScore(0.0, 0.0)
        assert one(nothing, something, label=label, mode=mode) == ClassScore(0.0, 0.0)


def test_nsd_is_zero_below_a_dice_of_a_fifth() -> None:
    a, b = cube((12, 12, 30), (1, 1, 1), 10), cube((12, 12, 30), (1, 1, 10), 10)
    score = one(a, b)
    assert score == ClassScore(0.1, 0.0)
    assert one(a, b, mode="clean").nsd > 0


@pytest.mark.parametrize("label", [AORTA, CAVA, ESOPHAGUS])
def test_tubes_count_only_on_the_reference_slices(label: int) -> None:
    reference = np.zeros((20, 8, 8), bool)
    reference[5:10, 2:6, 2:6] = True
    prediction = np.zeros_like(reference)
    prediction[:, 2:6, 2:6] = True
    assert one(prediction, reference, label=label) == ClassScore(1.0, 1.0)
    assert one(prediction, reference, label=label, mode="clean").dsc == pytest.approx(10 / 25)
    assert one(prediction, reference, label=LIVER).dsc == pytest.approx(0.4)


@pytest.mark.parametrize("label", [AORTA, CAVA, ESOPHAGUS])
def test_the_last_slice_of_a_tube_is_dropped(label: int) -> None:
    reference = np.zeros((20, 8, 8), bool)
    reference[5:10, 2:6, 2:6] = True
    prediction = reference.copy()
    prediction[9] = False
    assert one(prediction, reference, label=label) == ClassScore(1.0, 1.0)
    prediction[8] = False
    assert one(prediction, reference, label=label).dsc == pytest.approx(2 * 3 / (3 + 4), abs=1e-4)


def test_a_tube_predicted_only_outside_the_range_scores_zero() -> None:
    reference, prediction = np.zeros((2, 20, 8, 8), bool)
    reference[5:10, 2:6, 2:6] = True
    prediction[12:15, 2:6, 2:6] = True
    assert one(prediction, reference, label=AORTA) == ClassScore(0.0, 0.0)


def test_a_tube_on_a_single_slice_is_scored_there() -> None:
    reference, prediction = np.zeros((2, 9, 8, 8), bool)
    reference[5, 2:6, 2:6] = True
    prediction[4:7, 2:6, 2:6] = True
    assert one(prediction, reference, label=AORTA) == ClassScore(1.0, 1.0)


def test_flare_rounds_to_four_digits_and_clean_does_not() -> None:
    a, b = cube((9, 9, 20), (1, 1, 1), 6), cube((9, 9, 20), (1, 1, 3), 6)
    assert one(a, b).dsc == 0.6667
    assert one(a, b, mode="clean").dsc == 4 / 6


def test_both_modes_at_once_are_what_each_gives_alone() -> None:
    rng = np.random.default_rng(3)
    a, b = (ndimage.zoom(rng.integers(0, 15, (6, 5, 5)), 3, order=0).astype(np.uint8) for _ in range(2))
    b[:, :9] = a[:, :9]
    both = score_in_both_modes(a, b, spacing=UNIT, classes=range(1, 15))
    for mode in ("flare", "clean"):
        assert both[mode] == score_case(a, b, spacing=UNIT, classes=range(1, 15), mode=mode)
    assert both["flare"][AORTA] != both["clean"][AORTA]


def test_only_the_classes_asked_for_are_scored() -> None:
    labels = labelled(cube((6, 6, 6), (1, 1, 1), 3), LIVER)
    assert set(score_case(labels, labels, spacing=UNIT, classes={LIVER, TUMOR})) == {LIVER, TUMOR}


def test_unknown_voxels_of_a_prediction_are_no_class() -> None:
    reference = labelled(cube((6, 6, 6), (1, 1, 1), 4), LIVER)
    prediction = reference.copy()
    prediction[1:3][reference[1:3] == LIVER] = 255
    assert score_case(prediction, reference, spacing=UNIT, classes=[LIVER])[LIVER].dsc == pytest.approx(
        2 / 3, abs=1e-4
    )


def test_grids_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        score_case(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), spacing=UNIT, classes=[1])


def test_summary_averages_classes_and_not_rows() -> None:
    rows = [
        {"case": "a", "class": 1, "dsc": 1.0, "nsd": 1.0},
        {"case": "b", "class": 1, "dsc": 0.8, "nsd": 0.6},
        {"case": "a", "class": 2, "dsc": 0.5, "nsd": 0.4},
        {"case": "b", "class": 14, "dsc": 0.2, "nsd": 0.1},
    ]
    summary = summarise(rows)
    assert summary.classes[1].cases == 2
    assert summary.classes[1].dsc == pytest.approx(0.9)
    assert summary.classes[1].dsc_sd == pytest.approx(np.std([1.0, 0.8], ddof=1))
    assert summary.organs is not None
    assert summary.organs.dsc == pytest.approx((0.9 + 0.5) / 2)
    assert summary.organs.cases == 2
    assert summary.tumor is not None
    assert summary.tumor[:3] == (1, 0.2, 0.0)
    assert summary.mean is not None
    assert summary.mean.nsd == pytest.approx((0.8 + 0.4 + 0.1) / 3)


def test_summary_of_nothing_has_no_figures() -> None:
    assert summarise([]) == ({}, None, None, None)

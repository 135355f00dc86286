"""From scans to patches: resampling, augmentation, where patches are cut, and what predictions keep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pwsseg.arrays.augmentation import NO_AUGMENTATION, AugmentationSettings, warp_patch
from pwsseg.arrays.components import SLICES, keep_largest
from pwsseg.arrays.patches import Patch, TrainingCase, class_places, cut_patch, endless
from pwsseg.arrays.resampling import nearest_index, normalise, resample_labels, resample_scan
from pwsseg.pipelines.feed import ahead
from pwsseg.values import Geometry, StoreError

Shape = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
STRONG = AugmentationSettings(
    rotation_degrees=20, scaling=0.2, elastic_mm=2, elastic_spacing_mm=6, gain=0.2, shift=0.3
)
SPACING = (2.0, 1.0, 1.0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Arrays this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scan_and_labels(shape: Shape = (9, 10, 11)) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.from_numpy(rng(1).normal(size=shape).astype(np.float32))
    return image, torch.from_numpy(rng(2).integers(0, 15, shape).astype(np.uint8))


def warped(
    how: AugmentationSettings, *, centre: tuple[float, float, float], patch: Shape, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    image, labels = scan_and_labels()
    cut, cut_labels = warp_patch(
        image, labels, centre=centre, patch=patch, spacing=SPACING, settings=how, random=rng(seed)
    )
    assert cut_labels is not None
    assert cut.shape == cut_labels.shape == patch
    assert (cut.dtype, cut_labels.dtype) == (torch.float32, torch.uint8)
    return cut, cut_labels


def test_no_augmentation_returns_the_window_itself() -> None:
    image, labels = scan_and_labels()
    for centre in ((4, 5.5, 5), (4.3, 5.4, 4.6)):
        cut, cut_labels = warped(NO_AUGMENTATION, centre=centre, patch=(3, 4, 5))
        assert torch.equal(cut, image[3:6, 4:8, 3:8])
        assert torch.equal(cut_labels, labels[3:6, 4:8, 3:8])


def test_beyond_the_volume_labels_are_unknown_and_the_image_repeats_its_border() -> None:
    image, labels = scan_and_labels()
    cut, cut_labels = warped(NO_AUGMENTATION, centre=(0, 5, 10), patch=(3, 3, 3))
    assert (cut_labels[0] == 255).all()
    assert (cut_labels[:, :, 2] == 255).all()
    assert torch.equal(cut_labels[1:, :, :2], labels[0:2, 4:7, 9:11])
    assert torch.equal(cut[0], cut[1])
    assert torch.equal(cut[1, :, 2], image[0, 4:7, 10])


def test_unknown_labels_inside_the_volume_stay_unknown() -> None:
    image, _ = scan_and_labels()
    labels = torch.full(image.shape, 255, dtype=torch.uint8)
    labels[4] = 254
    _, cut = warp_patch(
        image, labels, centre=(4, 5, 5), patch=(3, 3, 3), spacing=SPACING, settings=STRONG, random=rng()
    )
    assert cut is not None
    assert {int(v) for v in np.unique(cut)} <= {254, 255}


def test_the_same_generator_warps_the_same_way_and_another_another_way() -> None:
    first = warped(STRONG, centre=(4, 5, 5), patch=(5, 6, 7), seed=3)
    again = warped(STRONG, centre=(4, 5, 5), patch=(5, 6, 7), seed=3)
    other = warped(STRONG, centre=(4, 5, 5), patch=(5, 6, 7), seed=4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_image_and_labels_are_warped_together(seed: int) -> None:
    labels = torch.zeros(20, 20, 20, dtype=torch.uint8)
    labels[:, :, 10:] = 1
    how = STRONG.model_copy(update={"gain": 0, "shift": 0})
    cut, cut_labels = warp_patch(
        labels.float(), labels, centre=(9.5, 9.5, 9.5), patch=(8, 8, 8), spacing=SPACING,
        settings=how, random=rng(seed),
    )  # fmt: skip
    assert cut_labels is not None
    inside = cut_labels != 255
    assert ((cut - cut_labels.float()).abs()[inside] <= 0.5 + 1e-4).all()


def read_positions(how: AugmentationSettings, centre: tuple[float, float, float]) -> NDArray[np.float64]:
    """Where a patch of 9 x 10 x 11 is read from (z, y, x, axis): a ramp along an axis says it, for linear
    interpolation gives a ramp back exactly."""
    ramps = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij"))
    how = how.model_copy(update={"gain": 0, "shift": 0})
    patches = [
        warp_patch(
            ramp, None, centre=centre, patch=(9, 10, 11), spacing=SPACING, settings=how, random=rng(7)
        )[0]
        for ramp in ramps
    ]
    return torch.stack(patches, -1).double().numpy()


def test_labels_are_those_of_the_voxels_nearest_to_where_the_image_is_read() -> None:
    labels = torch.from_numpy(rng().integers(0, 250, (40, 40, 40)).astype(np.uint8))
    _, cut = warp_patch(
        torch.zeros(40, 40, 40), labels, centre=(20, 19.5, 20), patch=(9, 10, 11), spacing=SPACING,
        settings=STRONG, random=rng(7),
    )  # fmt: skip
    position = read_positions(STRONG, (20, 19.5, 20))
    clear = (np.abs(position % 1 - 0.5) > 0.01).all(-1)
    z, y, x = np.moveaxis(np.rint(position).astype(int), -1, 0)
    assert cut is not None
    assert (cut.numpy() == labels.numpy()[z, y, x])[clear].all()
    assert clear.mean() > 0.9


def test_rotated_patch_keeps_its_centre_and_all_distances_in_mm() -> None:
    how = NO_AUGMENTATION.model_copy(update={"rotation_degrees": 30.0})
    position = read_positions(how, (20, 19.5, 20)) * SPACING
    np.testing.assert_allclose(position.mean((0, 1, 2)), np.asarray((20, 19.5, 20)) * SPACING, atol=0.02)
    for axis, spacing in enumerate(SPACING):
        steps = np.linalg.norm(np.diff(position, axis=axis), axis=-1)
        np.testing.assert_allclose(steps, spacing, atol=0.02)
    assert np.abs(np.diff(position, axis=0)[..., 1:]).max() > 0.1


def test_scaled_patch_reads_steps_within_the_settings() -> None:
    how = NO_AUGMENTATION.model_copy(update={"scaling": 0.3})
    steps = [np.diff(read_positions(how, (20, 19.5, 20))[..., a], axis=a) for a in range(3)]
    for step in steps:
        np.testing.assert_allclose(step, step.mean(), atol=0.02)
        assert 0.7 <= step.mean() <= 1.3
    assert len({round(float(step.mean()), 2) for step in steps}) == 3


def test_rotation_acts_in_millimetres() -> None:
    """A ball in mm stays a ball in mm under any rotation about its centre."""
    shape, spacing = (21, 41, 41), (2.0, 1.0, 1.0)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    ball = torch.from_numpy((np.sqrt(z**2 + y**2 + x**2) <= 10).astype(np.float32))
    how = NO_AUGMENTATION.model_copy(update={"rotation_degrees": 90.0})
    cut, _ = warp_patch(
        ball, None, centre=(10, 20, 20), patch=shape, spacing=spacing, settings=how, random=rng()
    )
    radius = np.sqrt(z**2 + y**2 + x**2)
    assert (cut[torch.from_numpy(radius < 7)] > 0.99).all()
    assert (cut[torch.from_numpy((radius > 13) & (radius < 19))] < 0.01).all()


@pytest.mark.parametrize("settings", [STRONG, NO_AUGMENTATION], ids=["bent", "as it is"])
def test_a_patch_is_made_on_the_device_asked_for_whatever_the_volume_lies_on(
    settings: AugmentationSettings,
) -> None:
    there = torch.device("meta")  # refuses whatever is computed with tensors of another device
    image, labels = torch.randn(8, 9, 10), torch.ones(8, 9, 10, dtype=torch.uint8)
    cut, cut_labels = warp_patch(
        image,
        labels,
        centre=(4, 4, 4),
        patch=(4, 6, 6),
        spacing=SPACING,
        settings=settings,
        random=rng(),
        device=there,
    )
    assert cut_labels is not None
    assert cut.device == cut_labels.device == there
    assert cut.shape == cut_labels.shape == (4, 6, 6)


def test_batches_made_ahead_are_the_same_and_one_is_made_while_another_is_used() -> None:
    made = []

    def batches() -> Iterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    used = []
    for number in ahead(batches()):
        deadline = time.monotonic() + 10
        while len(made) < min(number + 2, 3) and time.monotonic() < deadline:
            time.sleep(0.001)
        used.append((number, list(made)))
    assert used == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]


def test_what_goes_wrong_ahead_is_raised_where_the_batch_is_wanted() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise StoreError("scan is damaged")

    found = ahead(batches())
    assert next(found) == 1
    with pytest.raises(StoreError, match="damaged"):
        next(found)


def test_intensities_change_by_one_gain_and_one_shift() -> None:
    how = NO_AUGMENTATION.model_copy(update={"gain": 0.2, "shift": 0.3})
    plain, _ = warped(NO_AUGMENTATION, centre=(4, 5, 5), patch=(5, 6, 7))
    changed, _ = warped(how, centre=(4, 5, 5), patch=(5, 6, 7))
    gain = (changed.std() / plain.std()).item()
    shift = (changed - plain * gain).mean().item()
    assert 0.8 <= gain <= 1.2
    assert abs(shift) <= 0.3
    torch.testing.assert_close(changed, plain * gain + shift, atol=1e-4, rtol=0)
    assert abs(gain - 1) > 1e-3


def training_case(labels: NDArray[np.uint8]) -> TrainingCase:
    places = class_places(labels, at_most=50, random=rng())
    known = np.ones(14, dtype=bool)
    image = torch.from_numpy(labels.astype(np.float32))
    return TrainingCase("case", image, torch.from_numpy(labels), known, SPACING, places)


def cut(
    source: TrainingCase,
    *,
    foreground: float,
    random: np.random.Generator,
    favoured: dict[int, float] | None = None,
) -> Patch:
    return cut_patch(
        source,
        patch=(4, 4, 4),
        foreground=foreground,
        favoured=favoured or {},
        augmentation=NO_AUGMENTATION,
        random=random,
    )


def labels_of(patch: Patch) -> set[int]:
    assert patch.labels is not None
    return {int(v) for v in np.unique(patch.labels)}


def test_foreground_patches_hold_a_class_present_and_every_class_is_drawn_alike() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:10] = 1
    labels[18, 18, 18] = 7
    source, random = training_case(labels), rng()
    seen = [labels_of(cut(source, foreground=1, random=random)) for _ in range(200)]
    assert all(found & {1, 7} for found in seen)
    assert 60 <= sum(7 in found for found in seen) <= 140, "one voxel is drawn as often as half the volume"


def test_favoured_class_gets_its_share_where_it_is_present() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    for label, z in enumerate((2, 6, 10, 14), start=1):
        labels[z] = label
    labels[18, 18, 18] = 14
    source, random = training_case(labels), rng()
    favoured = {14: 0.5, 13: 1.0}  # class 13 is not in this case
    seen = [labels_of(cut(source, foreground=1, favoured=favoured, random=random)) for _ in range(200)]
    assert 100 <= sum(14 in found for found in seen) <= 150, "half, and its fifth of the other half"


def test_without_foreground_a_rare_class_is_rare() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[10, 10, 10] = 7
    source, random = training_case(labels), rng()
    assert sum(7 in labels_of(cut(source, foreground=0, random=random)) for _ in range(200)) < 20


def test_a_case_without_any_class_still_gives_patches() -> None:
    source = training_case(np.zeros((6, 6, 6), np.uint8))
    assert labels_of(cut(source, foreground=1, random=rng())) == {0}


@given(SHAPES, st.integers(0, 100))
@settings(max_examples=20)
def test_patch_stays_inside_the_volume_where_it_fits_and_is_unknown_beyond(shape: Shape, seed: int) -> None:
    labels = rng(seed).integers(0, 3, shape).astype(np.uint8)
    patch = cut(training_case(labels), foreground=0.5, random=rng(seed))
    assert patch.labels is not None
    assert patch.image.shape == (4, 4, 4)
    assert int((patch.labels != 255).sum()) == np.prod([min(4, n) for n in shape])


def test_places_are_voxels_of_their_class_and_no_more_than_asked() -> None:
    labels = rng().integers(0, 4, (5, 6, 7)).astype(np.uint8)
    labels[0, 0, 0] = 255
    labels[1, 1, 1] = 254
    places = class_places(labels, at_most=10, random=rng())
    assert sorted(places) == [1, 2, 3, 254]
    for label, found in places.items():
        assert len(found) == min(10, (labels == label).sum())
        assert len(np.unique(found, axis=0)) == len(found)
        assert (labels[tuple(found.T)] == label).all()


def test_every_case_comes_once_a_turn_and_gives_its_patches_in_a_row() -> None:
    loaded: list[str] = []

    def load(case: str) -> TrainingCase:
        loaded.append(case)
        return training_case(np.zeros((1, 1, 1), np.uint8))._replace(case=case)

    given_ = [c.case for c in islice(endless("abc", load, each=2, random=rng()), 12)]
    assert given_[::2] == given_[1::2] == loaded
    assert sorted(loaded[:3]) == sorted(loaded[3:]) == ["a", "b", "c"]


def test_a_stream_of_no_cases_is_refused_rather_than_endless() -> None:
    with pytest.raises(ValueError, match="no cases"):
        next(endless([], lambda _case: training_case(np.zeros((1, 1, 1), np.uint8)), each=1, random=rng()))


@given(SHAPES, SHAPES, st.integers(-1024, 3000))
def test_a_constant_scan_stays_constant(old: Shape, new: Shape, hu: int) -> None:
    resampled = resample_scan(np.full(old, hu, np.int16), new)
    assert resampled.shape == new
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, hu, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("old", "new"), [(101, 41), (100, 30), (101, 20), (9, 2), (13, 3), (40, 30), (20, 37)]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ramp_stays_in_place(old: int, new: int, axis: int) -> None:
    """The value at a new voxel is the position of its centre, to a tenth of it: no drift along the axis."""
    ramp = np.moveaxis(np.broadcast_to((np.arange(old) * 100)[:, None, None], (old, 2, 2)), 0, axis)
    shape = [2, 2, 2]
    shape[axis] = new
    resampled = resample_scan(ramp.astype(np.int16), (shape[0], shape[1], shape[2]))
    position = np.moveaxis(resampled, axis, 0)[:, 0, 0] / 100
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    assert np.abs(position - centres).max() * new / old < 0.15


def test_a_thin_organ_survives_shrinking() -> None:
    scan = np.zeros((1, 1, 25), np.int16)
    scan[..., 12] = 1000
    assert resample_scan(scan, (1, 1, 5)).max() == pytest.approx(200)


def test_the_same_grid_gives_the_same_scan() -> None:
    scan = rng().integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    assert (resample_scan(scan, (4, 5, 6)) == scan).all()


def test_new_voxels_take_the_label_that_their_centre_lies_in() -> None:
    assert nearest_index(4, 4).tolist() == [0, 1, 2, 3]
    assert nearest_index(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest_index(2, 6).tolist() == [1, 4]
    assert nearest_index(3, 5).tolist() == [0, 2, 4]
    labels = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    assert resample_labels(labels, (1, 1, 6)).tolist() == [[[3, 3, 4, 4, 5, 5]]]


@given(SHAPES, st.tuples(*[st.integers(1, 4)] * 3))
def test_labels_enlarged_by_whole_factors_come_back_exactly(shape: Shape, factors: Shape) -> None:
    labels = rng().integers(0, 15, shape).astype(np.uint8)
    z, y, x = (n * f for n, f in zip(shape, factors, strict=True))
    assert (resample_labels(resample_labels(labels, (z, y, x)), shape) == labels).all()


def test_normalised_scan_is_clipped_and_has_mean_0_and_deviation_1() -> None:
    scan = rng().uniform(-2000, 2000, (5, 6, 7)).astype(np.float32)
    scaled = normalise(scan, clip_hu=(-325, 325))
    assert scaled.dtype == np.float32
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std() == pytest.approx(1, abs=1e-4)
    assert (scaled[scan <= -325] == scaled.min()).all()


def test_normalising_a_constant_scan_gives_zeros() -> None:
    assert (normalise(np.full((2, 2, 2), 9, np.float32), clip_hu=(-325, 325)) == 0).all()


def oblique(shape: Shape, spacing: tuple[float, float, float]) -> Geometry:
    a, b = np.deg2rad(25), np.deg2rad(-40)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    values = tuple(float(v) for v in turn.ravel())
    return Geometry(shape=shape, spacing=spacing, origin=(10, -20, 300), direction=values)


def box_corners(geometry: Geometry) -> NDArray[np.float64]:
    """World positions of the eight corners of the voxels' box, half a voxel beyond the outer centres."""
    ends = [(-0.5, n - 0.5) for n in geometry.shape]
    index = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    steps = (index * np.asarray(geometry.spacing)) @ geometry.direction_matrix.T
    corners: NDArray[np.float64] = np.asarray(geometry.origin) + steps
    return corners


@given(SHAPES, st.tuples(*[st.floats(0.3, 6)] * 3), st.tuples(*[st.floats(0.3, 6)] * 3))
def test_resampled_grid_fills_the_same_oblique_box(
    shape: Shape, old: tuple[float, float, float], new: tuple[float, float, float]
) -> None:
    before = oblique(shape, old)
    after = before.resampled(new)
    np.testing.assert_allclose(box_corners(after), box_corners(before), atol=1e-6)
    assert after.direction == before.direction
    for extent, count, wanted in zip(before.extent_mm, after.shape, new, strict=True):
        assert count == max(1, round(extent / wanted))


def test_resampling_to_the_own_spacing_changes_nothing() -> None:
    geometry = oblique((4, 5, 6), (2.5, 0.8, 0.8))
    assert geometry.resampled((2.5, 0.8, 0.8)).same_grid(geometry, tolerance_mm=1e-9)


def kept(
    labels: NDArray[np.uint8], floor_ml: dict[int, float] | None = None, voxel_ml: float = 1
) -> list[int]:
    keep_largest(labels, organs=range(1, 14), voxel_ml=voxel_ml, floor_ml=floor_ml or {})
    return [int(v) for v in labels.ravel()]


def row(*labels: int) -> NDArray[np.uint8]:
    return np.array([[labels]], dtype=np.uint8)


def test_each_organ_keeps_its_largest_component() -> None:
    assert kept(row(1, 0, 1, 1, 0, 2, 0, 2, 2)) == [0, 0, 1, 1, 0, 0, 0, 2, 2]


def test_touching_organs_are_components_of_their_own() -> None:
    assert kept(row(1, 1, 2, 1, 1, 1)) == [0, 0, 2, 1, 1, 1]


def test_tumor_keeps_every_component() -> None:
    assert kept(row(14, 0, 14, 14, 0, 1)) == [14, 0, 14, 14, 0, 1]


def test_components_join_over_corners() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    assert sum(kept(labels)) == 2


def test_an_organ_below_its_floor_goes_and_one_at_its_floor_stays() -> None:
    labels = row(1, 1, 0, 2, 2, 2, 0, 3)
    assert kept(labels, {1: 1.5, 2: 1.5}, voxel_ml=0.5) == [0, 0, 0, 2, 2, 2, 0, 3]


def test_a_tumor_speck_below_its_floor_takes_the_label_about_it_and_others_stay() -> None:
    labels = np.zeros((2 * SLICES + 2, 6, 6), np.uint8)
    labels[:, :3] = 1
    labels[SLICES - 1 : SLICES + 1, 1, 1] = 14  # in the liver, in two runs of slices
    labels[2, 4, 4] = 14  # in nothing
    labels[5:8, 4:6, 0:2] = 14
    keep_largest(labels, organs=range(1, 14), voxel_ml=0.1, floor_ml={14: 0.25})
    assert (labels[SLICES - 1 : SLICES + 1, 1, 1] == 1).all()
    assert labels[2, 4, 4] == 0
    assert (labels == 14).sum() == (labels[5:8, 4:6, 0:2] == 14).sum() == 12
    assert kept(row(14, 14), {14: 1.0}, voxel_ml=0.1) == [0, 0]  # a volume that is nothing else


def test_a_volume_without_background_or_without_organs_is_kept() -> None:
    assert kept(row(1, 1)) == [1, 1]
    assert kept(row(0, 0)) == [0, 0]


@pytest.mark.parametrize("depth", [3, SLICES, SLICES + 1, 2 * SLICES + 3])
@given(seed=st.integers(0, 1000))
def test_what_is_kept_of_an_organ_is_one_component_as_large_as_any(seed: int, depth: int) -> None:
    from scipy import ndimage

    labels = rng(seed).choice(np.array([0, 0, 0, 1, 2, 14], np.uint8), (depth, 5, 5))
    result = labels.copy()
    keep_largest(result, organs=[1, 2], voxel_ml=1, floor_ml={})
    assert ((result == labels) | (result == 0)).all()
    assert ((result == 14) == (labels == 14)).all()
    for organ in (1, 2):
        components, count = ndimage.label(labels == organ, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
        assert (result == organ).sum() == sizes.max(initial=0)
        assert ndimage.label(result == organ, np.ones((3, 3, 3)))[1] == min(1, count)

"""Streamed sliding windows against the plain method that holds the scores of the whole volume."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pwsseg.arrays.sliding import gaussian, labels_on_grid, place_windows, stream

Shape = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 11)] * 3)
PATCHES = st.tuples(*[st.integers(1, 7)] * 3)
OVERLAPS = st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.7, 0.75])
CLASSES = 3


def network(patches: torch.Tensor) -> torch.Tensor:
    """Scores that depend on where a voxel lies in its patch, so that blending matters."""
    assert patches.ndim == 5
    assert patches.shape[1] == 1
    place = torch.linspace(0, 1, patches[0].numel()).reshape(patches.shape[1:])
    return torch.cat([patches * (k + 1) + place * k for k in range(CLASSES)], dim=1)


def volume(shape: Shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole_volume_scores(scan: torch.Tensor, patch: Shape, overlap: float) -> torch.Tensor:
    """All windows added up in one array (class, z, y, x), then divided."""
    padded = torch.full([max(n, p) for n, p in zip(scan.shape, patch, strict=True)], float(scan.min()))
    box = tuple(slice(n) for n in scan.shape)
    padded[box] = scan
    z, y, x = padded.shape
    scores, sums = torch.zeros(CLASSES, z, y, x), torch.zeros(z, y, x)
    for window in place_windows((z, y, x), patch, overlap=overlap):
        scores[:, *window.slices] += network(padded[window.slices][None, None])[0] * gaussian(patch)
        sums[window.slices] += gaussian(patch)
    return (scores / sums)[:, *box]


@settings(max_examples=50)
@given(SHAPES, PATCHES, OVERLAPS)
def test_windows_cover_everything_and_stay_inside(shape: Shape, patch: Shape, overlap: float) -> None:
    assume(all(p <= n for n, p in zip(shape, patch, strict=True)))
    seen = np.zeros(shape, dtype=int)
    for window in place_windows(shape, patch, overlap=overlap):
        assert window.shape == patch
        assert all(a >= 0 and b <= n for a, b, n in zip(window.start, window.stop, shape, strict=True))
        seen[window.slices] += 1
    assert seen.min() >= 1


@given(st.integers(1, 200), st.integers(1, 60), OVERLAPS)
def test_neighbours_share_at_least_the_overlap(size: int, patch: int, overlap: float) -> None:
    starts = [w.start[0] for w in place_windows((size, 1, 1), (patch, 1, 1), overlap=overlap)]
    assert starts == sorted(set(starts))
    for a, b in pairwise(starts):
        assert a + patch - b >= min(patch - 1, patch * overlap - 1e-6)


@given(st.integers(1, 200), st.integers(1, 60), OVERLAPS)
def test_no_fewer_windows_would_do(size: int, patch: int, overlap: float) -> None:
    windows = place_windows((size, 1, 1), (patch, 1, 1), overlap=overlap)
    furthest = max(1, int(patch * (1 - overlap) + 1e-6))
    assert (len(windows) - 2) * furthest < max(0, size - patch) or len(windows) == 1


def test_windows_come_in_z_order() -> None:
    starts = [w.start[0] for w in place_windows((9, 8, 7), (3, 4, 4), overlap=0.5)]
    assert starts == sorted(starts)
    assert len(set(starts)) > 1


def test_a_patch_larger_than_the_volume_is_one_window() -> None:
    assert [w.start for w in place_windows((3, 3, 3), (4, 5, 6), overlap=0.5)] == [(0, 0, 0)]


def test_weights_are_one_at_the_centre_symmetric_and_never_zero() -> None:
    weights = gaussian((5, 33, 4))
    assert weights.shape == (5, 33, 4)
    assert weights.max() == 1
    assert weights[2, 16, 1] == 1
    assert weights.min() >= 1e-4
    assert torch.allclose(weights, weights.flip(0, 1, 2))
    assert weights[2, 20, 1] == pytest.approx(np.exp(-0.5 * (4 / (33 / 8)) ** 2))


@settings(max_examples=40)
@given(SHAPES, PATCHES, OVERLAPS, st.integers(1, 4))
def test_streamed_scores_equal_the_whole_volume_method(
    shape: Shape, patch: Shape, overlap: float, batch: int
) -> None:
    scan = volume(shape)
    slices = list(stream(scan, network, patch=patch, overlap=overlap, batch=batch))
    assert [z for z, _ in slices] == list(range(shape[0]))
    streamed = torch.stack([scores for _, scores in slices], dim=1)
    expected = whole_volume_scores(scan, patch, overlap)
    assert streamed.shape == (CLASSES, *shape)
    assert streamed.dtype == torch.float32
    torch.testing.assert_close(streamed, expected, atol=1e-4, rtol=1e-4)


def test_a_constant_network_gives_its_constant_everywhere() -> None:
    slices = stream(
        volume((7, 6, 5)), lambda p: torch.full_like(p, 0.3).bfloat16(), patch=(4, 4, 4), overlap=0.5
    )
    for _, scores in slices:
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, torch.full_like(scores, float(torch.tensor(0.3).bfloat16())))


def test_a_slice_leaves_before_the_windows_above_are_computed() -> None:
    calls = 0

    def counted(patches: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return network(patches)

    slices = stream(volume((40, 4, 4)), counted, patch=(4, 4, 4), overlap=0.5)
    windows = len(place_windows((40, 4, 4), (4, 4, 4), overlap=0.5))
    for z, _ in slices:
        assert calls <= z / 2 + 1, "a window two strides above a slice can't touch it"
    assert calls == windows


def scores_of_slices(depth: int, size: tuple[int, int], seed: int = 1) -> torch.Tensor:
    """(class, z, y, x), the background first."""
    return torch.randn(CLASSES, depth, *size, generator=torch.Generator().manual_seed(seed))


def given_in_order(scores: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    return ((z, scores[:, z]) for z in range(scores.shape[1]))


@settings(max_examples=60)
@given(SHAPES, SHAPES)
def test_labels_on_grid_equal_trilinear_interpolation_and_argmax(old: Shape, new: Shape) -> None:
    scores = scores_of_slices(old[0], old[1:])
    labels = labels_on_grid(given_in_order(scores), depth=old[0], shape=new, classes=[5, 14])
    whole = F.interpolate(scores[None], size=new, mode="trilinear", align_corners=False)[0]
    expected = torch.tensor([0, 5, 14], dtype=torch.uint8)[whole.argmax(0)].numpy()
    top = whole.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-4).numpy()
    assert labels.shape == new
    assert labels.dtype == np.uint8
    assert (labels == expected)[clear].all()
    assert clear.mean() > 0.5


def test_labels_on_the_same_grid_are_the_argmax() -> None:
    scores = scores_of_slices(5, (4, 3))
    labels = labels_on_grid(given_in_order(scores), depth=5, shape=(5, 4, 3), classes=[1, 2])
    assert (labels == scores.argmax(0).numpy()).all()


@pytest.mark.parametrize("new_depth", [4, 20, 61])
def test_two_slices_are_held_however_deep_the_volume(new_depth: int) -> None:
    depth, interpolate = 20, F.interpolate
    made: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def watched(scores: torch.Tensor, **how: object) -> list[torch.Tensor]:
        slice_ = interpolate(scores, **how)[0].clone()  # type: ignore[arg-type]
        made.append(weakref.ref(slice_))
        return [slice_]

    def slices() -> Iterator[tuple[int, torch.Tensor]]:
        nonlocal most
        for z in range(depth):
            most = max(most, sum(ref() is not None for ref in made))
            yield z, torch.randn(CLASSES, 4, 4)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(F, "interpolate", watched)
        labels_on_grid(slices(), depth=depth, shape=(new_depth, 8, 8), classes=[1, 2])
    assert len(made) == depth
    assert most == 2


def test_no_more_than_a_windows_depth_of_slices_is_held_while_streaming() -> None:
    patch, depth = (4, 4, 4), 60
    held: list[weakref.ref[torch.Tensor]] = []
    most = 0
    zeros = torch.Tensor.new_zeros

    def counted(self: torch.Tensor, *size: object, **kwargs: object) -> torch.Tensor:
        made = zeros(self, *size, **kwargs)  # type: ignore[call-overload]
        if made.ndim == 3:
            held.append(weakref.ref(made))
        return made  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.Tensor, "new_zeros", counted)
        for _ in stream(volume((depth, 6, 6)), network, patch=patch, overlap=0.5):
            most = max(most, sum(r() is not None for r in held))
    assert len(held) == depth
    assert most == patch[0]

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

from pwsseg.arrays import labelling
from pwsseg.arrays.body import find_body
from pwsseg.arrays.labelling import write_labels_on_grid
from pwsseg.arrays.sliding import covered, enclosing, gaussian, place_windows, stream, stream_bytes
from pwsseg.values import Window

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


def whole_volume_scores(scan: torch.Tensor, windows: list[Window]) -> torch.Tensor:
    """All windows added up in one array (class, z, y, x), then divided; background where there is none."""
    z, y, x = (max(n, end) for n, end in zip(scan.shape, enclosing(windows).stop, strict=True))
    padded = torch.full((z, y, x), float(scan.min()))
    box = tuple(slice(n) for n in scan.shape)
    padded[box] = scan
    scores, sums = torch.zeros(CLASSES, z, y, x), torch.zeros(z, y, x)
    weights = gaussian(windows[0].shape)
    for window in windows:
        scores[:, *window.slices].addcmul_(network(padded[window.slices][None, None])[0], weights)
        sums[window.slices] += weights
    blended = scores / sums
    blended[:, sums == 0] = torch.tensor([1.0, 0, 0])[:, None]
    return blended[:, *box]


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


@st.composite
def boxes(draw: st.DrawFn, shape: Shape) -> Window:
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    stops = [draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)]
    return Window((starts[0], starts[1], starts[2]), (stops[0], stops[1], stops[2]))


@settings(max_examples=60)
@given(st.data(), SHAPES, PATCHES, OVERLAPS, st.integers(1, 4))
def test_streamed_scores_equal_the_whole_volume_method_bit_for_bit(
    data: st.DataObject, shape: Shape, patch: Shape, overlap: float, batch: int
) -> None:
    scan = volume(shape)
    windows = place_windows(shape, patch, overlap=overlap, within=data.draw(boxes(shape)))
    kept = data.draw(st.lists(st.sampled_from(windows), min_size=1, unique=True))
    windows = sorted(kept)
    box = covered(windows, shape)
    slices = list(stream(scan, network, windows, batch=batch))
    assert [z for z, _ in slices] == list(range(box.start[0], box.stop[0]))
    streamed = torch.stack([scores for _, scores in slices], dim=1)
    assert streamed.dtype == torch.float32
    assert torch.equal(streamed, whole_volume_scores(scan, windows)[:, *box.slices])


@given(st.data(), SHAPES, PATCHES, OVERLAPS)
def test_windows_cover_the_box_and_leave_the_volume_only_when_they_must(
    data: st.DataObject, shape: Shape, patch: Shape, overlap: float
) -> None:
    box = data.draw(boxes(shape))
    seen = np.zeros([max(n, p) for n, p in zip(shape, patch, strict=True)], dtype=bool)
    for window in place_windows(shape, patch, overlap=overlap, within=box):
        assert seen[window.slices].shape == patch
        seen[window.slices] = True
    assert seen[box.slices].all()


def test_a_float16_volume_gives_the_network_float32() -> None:
    def checked(patches: torch.Tensor) -> torch.Tensor:
        assert patches.dtype == torch.float32
        return network(patches)

    list(stream(volume((5, 5, 5)).half(), checked, place_windows((5, 5, 5), (4, 4, 4), overlap=0.5)))


def test_a_constant_network_gives_its_constant_everywhere() -> None:
    windows = place_windows((7, 6, 5), (4, 4, 4), overlap=0.5)
    slices = stream(volume((7, 6, 5)), lambda p: torch.full_like(p, 0.3).bfloat16(), windows)
    for _, scores in slices:
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, torch.full_like(scores, float(torch.tensor(0.3).bfloat16())))


def test_a_slice_leaves_before_the_windows_above_are_computed() -> None:
    calls = 0

    def counted(patches: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return network(patches)

    windows = place_windows((40, 4, 4), (4, 4, 4), overlap=0.5)
    for z, _ in stream(volume((40, 4, 4)), counted, windows):
        assert calls <= z / 2 + 1, "a window two strides above a slice can't touch it"
    assert calls == len(windows)


def scores_of_slices(depth: int, size: tuple[int, int], seed: int = 1) -> torch.Tensor:
    """(class, z, y, x), the background first."""
    return torch.randn(CLASSES, depth, *size, generator=torch.Generator().manual_seed(seed))


def labelled(scores: torch.Tensor, new: Shape, box: Window, grid: Shape) -> np.ndarray:
    out = np.full(new, 77, dtype=np.uint8)
    write_labels_on_grid(
        ((box.start[0] + z, scores[:, z]) for z in range(scores.shape[1])),
        box,
        grid,
        classes=[5, 14],
        out=out,
    )
    return out


@settings(max_examples=60)
@given(SHAPES, SHAPES)
def test_labels_on_grid_equal_trilinear_interpolation_and_argmax(old: Shape, new: Shape) -> None:
    scores = scores_of_slices(old[0], old[1:])
    labels = labelled(scores, new, Window((0, 0, 0), old), old)
    whole = F.interpolate(scores[None], size=new, mode="trilinear", align_corners=False)[0]
    expected = torch.tensor([0, 5, 14], dtype=torch.uint8)[whole.argmax(0)].numpy()
    top = whole.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-4).numpy()
    assert (labels == expected)[clear].all()
    assert clear.mean() > 0.5


def test_labels_on_the_same_grid_are_the_argmax() -> None:
    scores, box = scores_of_slices(5, (4, 3)), Window((0, 0, 0), (5, 4, 3))
    expected = np.array([0, 5, 14])[scores.argmax(0).numpy()]
    assert (labelled(scores, (5, 4, 3), box, (5, 4, 3)) == expected).all()


@given(st.data(), SHAPES, SHAPES)
def test_labels_of_a_box_lie_where_its_voxels_are_and_nothing_lies_outside(
    data: st.DataObject, grid: Shape, new: Shape
) -> None:
    box = data.draw(boxes(grid))
    scores = torch.zeros(CLASSES, *box.shape)
    scores[1] = 1
    labels = labelled(scores, new, box, grid)
    inside = np.zeros(grid, dtype=bool)
    inside[box.slices] = True
    centre = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(new, grid, strict=True)]
    assert np.array_equal(labels, np.where(inside[np.ix_(*centre)], 5, 0))


def test_stated_memory_is_that_of_the_slab_whatever_the_depth() -> None:
    def stated(shape: Shape, channels: int) -> int:
        return stream_bytes(place_windows(shape, (4, 8, 8), overlap=0.5), channels=channels)

    slab, weights, slices = 16 * 4 * 20 * 24, 4 * 8 * 8, 4 * 15 * 20 * 24
    assert stated((10, 20, 24), 15) == stated((90, 20, 24), 15) == 4 * (slab + weights + slices)
    assert stated((10, 20, 24), 60) < 4.01 * stated((10, 20, 24), 15)


@pytest.mark.parametrize("new_depth", [4, 20, 61])
def test_two_slices_are_held_however_deep_the_volume(monkeypatch: pytest.MonkeyPatch, new_depth: int) -> None:
    grid: Shape = (20, 4, 4)
    held: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Watched(labelling._Slice):
        def __init__(self, scores: torch.Tensor, *axes: labelling._Axis) -> None:
            super().__init__(scores, *axes)
            held.append(weakref.ref(self._scores))

    def slices() -> Iterator[tuple[int, torch.Tensor]]:
        nonlocal most
        for z in range(grid[0]):
            most = max(most, sum(ref() is not None for ref in held))
            yield z, torch.randn(CLASSES, 4, 4)

    monkeypatch.setattr(labelling, "_Slice", Watched)
    out = np.empty((new_depth, 8, 8), np.uint8)
    write_labels_on_grid(slices(), Window((0, 0, 0), grid), grid, classes=[1, 2], out=out)
    assert len(held) == grid[0]
    assert most <= 2


def test_no_window_is_spent_on_air() -> None:
    scan = np.zeros((20, 40, 40), np.float16)
    scan[:, 4:12, 4:36] = 1  # the body, with bone
    scan[0, 4, 4] = 3
    scan[:, 36:38, 2:38] = 1  # the table
    body = find_body(scan)
    assert body.box == Window((0, 2, 2), (20, 14, 38))
    windows = place_windows((20, 40, 40), (8, 12, 12), overlap=0, within=body.box)
    assert body.touched(windows) == windows
    everywhere = place_windows((20, 40, 40), (8, 8, 8), overlap=0)
    assert body.touched(everywhere) == [w for w in everywhere if w.start[1] < 12]


@given(SHAPES)
def test_every_voxel_of_the_body_lies_in_its_box(shape: Shape) -> None:
    scan = (volume(shape) > 0).half().numpy()
    body = find_body(scan)
    part = np.zeros(shape, dtype=bool)
    part[::2, ::2, ::2] = body.mask
    assert part[body.box.slices].sum() == part.sum() > 0


def test_a_volume_of_one_value_is_looked_at_everywhere() -> None:
    assert find_body(np.zeros((5, 4, 3), np.float16)).box == Window((0, 0, 0), (5, 4, 3))

"""The abdomen's box, and the way from coarse to fine and back, with networks that read intensities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pwsseg.arrays.abdomen import (
    Box,
    abdomen_box,
    bounding_window,
    find_abdomen,
    grown,
    on_grid,
    without_crumbs,
)
from pwsseg.arrays.labelling import write_labels_on_grid
from pwsseg.arrays.resampling import normalise, resample_scan
from pwsseg.arrays.sliding import Network, place_windows, stream
from pwsseg.values import Geometry, Window

Shape = tuple[int, int, int]
SHAPES = st.tuples(*[st.integers(1, 60)] * 3)
GRID = Geometry(
    shape=(40, 50, 60), spacing=(4.0, 2.0, 3.0), origin=(5, 6, 7), direction=(0, 0, 1, 0, 1, 0, 1, 0, 0)
)


def windows(shape: Shape) -> st.SearchStrategy[Window]:
    """Any window of a grid that is not empty."""
    ends = [st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).map(sorted) for n in shape]
    return st.tuples(*ends).map(
        lambda e: Window((e[0][0], e[1][0], e[2][0]), (e[0][1] + 1, e[1][1] + 1, e[2][1] + 1))
    )


def test_bounding_window_holds_the_mask_and_no_more() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 3] = mask[3, 2, 5] = True
    assert bounding_window(mask) == Window((1, 2, 3), (4, 3, 6))
    assert bounding_window(np.zeros((2, 2, 2), bool)) is None


@given(st.data(), SHAPES, SHAPES)
def test_window_on_another_grid_holds_the_same_place(data: st.DataObject, shape: Shape, other: Shape) -> None:
    window = data.draw(windows(shape))
    found = on_grid(window, shape, other)
    for a, b, n, c, d, m in zip(*window, shape, *found, other, strict=True):
        assert 0 <= c < d <= m
        assert c / m <= a / n + 1e-6
        assert d / m >= b / n - 1e-6
        assert a / n - c / m < 1 / m
        assert d / m - b / n < 1 / m


@given(st.data(), SHAPES, st.tuples(*[st.integers(1, 4)] * 3))
def test_window_comes_back_exactly_from_a_finer_grid(
    data: st.DataObject, shape: Shape, factors: Shape
) -> None:
    z, y, x = (n * f for n, f in zip(shape, factors, strict=True))
    window = data.draw(windows(shape))
    assert on_grid(on_grid(window, shape, (z, y, x)), (z, y, x), shape) == window


def test_margin_is_in_millimetres_rounded_up_and_ends_at_the_grid() -> None:
    window = Window((2, 20, 20), (38, 30, 40))
    assert grown(window, margin_mm=20, grid=GRID) == Window((0, 10, 13), (40, 40, 47))
    assert grown(window, margin_mm=0, grid=GRID) == window


def test_crumbs_are_components_below_the_floor() -> None:
    mask = np.zeros((3, 3, 9), bool)
    mask[0, 0, :3] = mask[2, 2, 5:7] = True
    mask[1, 1, 3] = True  # touches the first at a corner
    kept = without_crumbs(mask, least_ml=1.5, voxel_ml=0.5)
    assert np.argwhere(kept).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 1, 3]]


def cube_of(part: Window | None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Coarse labels and what was seen, a cube of 20 with one thing in it."""
    labels, values = np.zeros((20, 20, 20), np.uint8), np.full((20, 20, 20), -2, np.float32)
    if part:
        labels[part.slices] = 3
    return labels, values


def test_box_is_what_the_coarse_network_found_and_the_margin() -> None:
    labels, seen = cube_of(Window((5, 4, 10), (10, 8, 15)))
    labels[0, 0, 0] = 1  # 1 voxel of the cube is 0.36 ml: a crumb
    box = abdomen_box(labels, seen, grid=GRID, margin_mm=8)
    assert box == Box(Window((10 - 2, 10 - 4, 30 - 3), (20 + 2, 20 + 4, 45 + 3)), ())


def test_box_of_an_empty_result_is_that_of_the_body_and_says_so() -> None:
    labels, seen = cube_of(None)
    seen[2:18, 4:12, 6:14] = 0
    box = abdomen_box(labels, seen, grid=GRID, margin_mm=0)
    # the body's box has a margin of two voxels of the cube, or one, where it looks at every other one
    assert all(a <= b for a, b in zip(box.window.start, (4, 10, 18), strict=True))
    assert all(a >= b for a, b in zip(box.window.stop, (36, 30, 42), strict=True))
    assert all(a <= b for a, b in zip(box.window.shape, (40, 30, 36), strict=True))
    assert box.notes == ("the coarse network found nothing: the box is the body's",)


def test_box_of_nothing_but_air_is_the_whole_scan() -> None:
    box = abdomen_box(*cube_of(None), grid=GRID, margin_mm=20)
    assert box.window == Window((0, 0, 0), GRID.shape)
    assert box.notes


@given(windows(GRID.shape))
def test_cropped_grid_has_its_voxels_where_they_were(window: Window) -> None:
    part = GRID.cropped(window)
    assert part.shape == window.shape
    steps = GRID.direction_matrix @ (np.asarray(GRID.spacing) * window.start)
    np.testing.assert_allclose(part.origin, np.asarray(GRID.origin) + steps)
    assert (part.spacing, part.direction) == (GRID.spacing, GRID.direction)


@given(windows(GRID.shape), SHAPES)
def test_window_is_known_again_from_the_resized_grid_that_fills_it(window: Window, shape: Shape) -> None:
    assert GRID.window_of(GRID.cropped(window).reshaped(shape)) == window


@pytest.mark.parametrize(
    "window", [Window((0, 0, 0), (41, 1, 1)), Window((3, 0, 0), (3, 1, 1)), Window((-1, 0, 0), (2, 2, 2))]
)
def test_window_beyond_the_grid_is_refused(window: Window) -> None:
    with pytest.raises(ValueError, match="is no part of a grid of"):
        GRID.cropped(window)


def ellipsoid(centre: Shape, radii: tuple[float, float, float]) -> NDArray[np.bool_]:
    axes = np.ogrid[tuple(slice(n) for n in GRID.shape)]
    terms = [((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)]
    return np.asarray(sum(terms) <= 1)


LIVER, KIDNEY = ellipsoid((18, 24, 22), (6, 8, 7)), ellipsoid((22, 26, 40), (4, 5, 5))
CLIP, COARSE, FINE = (-325.0, 325.0), (16, 16, 16), (32, 32, 32)


def scan() -> NDArray[np.int16]:
    """A body of 0 HU with two organs."""
    hu = np.full(GRID.shape, -1000, np.int16)
    hu[2:38, 5:45, 5:55] = 0
    hu[LIVER], hu[KIDNEY] = 150, 300
    return hu


class Reader:
    """A network that reads organs off intensities; it keeps what it was given."""

    def __init__(self, *, blind: bool = False) -> None:
        self.blind = blind
        self.seen: list[torch.Tensor] = []

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        self.seen.append(cube)
        if self.blind:
            return torch.cat([torch.ones_like(cube), torch.zeros_like(cube), torch.zeros_like(cube)], 1)
        tissue = cube.median() if (cube == cube.min()).float().mean() < 0.5 else cube.quantile(0.8)
        top = cube.max() - tissue
        levels = ((cube - tissue) / top).clamp(0, 1)
        return torch.cat([1 - (levels - c).abs() for c in (0.0, 0.5, 1.0)], 1)


def run(coarse: Network, fine: Network) -> tuple[NDArray[np.uint8], Box]:
    """From coarse to fine and back, as a prediction goes."""
    box = find_abdomen(scan(), grid=GRID, coarse=coarse, cube=COARSE, clip_hu=CLIP, margin_mm=10)
    cube = torch.from_numpy(normalise(resample_scan(scan()[box.window.slices], FINE), clip_hu=CLIP))
    windows = place_windows(FINE, FINE, overlap=0.5)
    labels = np.zeros(GRID.shape, np.uint8)
    out = labels[box.window.slices]
    write_labels_on_grid(stream(cube, fine, windows), windows[0], FINE, classes=(1, 2), out=out)
    return labels, box


def dsc(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_cascade_finds_organs_where_they_are_on_the_scans_own_grid() -> None:
    coarse, fine = Reader(), Reader()
    labels, box = run(coarse, fine)
    assert [tuple(s.shape) for s in (*coarse.seen, *fine.seen)] == [
        (1, 1, 16, 16, 16), (1, 1, 32, 32, 32)
    ]  # fmt: skip
    assert labels.shape == GRID.shape
    assert labels.dtype == np.uint8
    assert dsc(labels == 1, LIVER) > 0.85
    assert dsc(labels == 2, KIDNEY) > 0.85
    # the rim of the brighter organ reads as the other, so places are those of the brighter one and of both
    for found, truth in ((labels == 2, KIDNEY), (labels > 0, LIVER | KIDNEY)):
        apart = np.argwhere(truth).mean(0) - np.argwhere(found).mean(0)
        assert np.abs(apart).max() < 0.3, "voxels"
    assert box.notes == ()


def test_box_of_the_cascade_holds_the_organs_and_leaves_air_out() -> None:
    _, box = run(Reader(), Reader())
    truth = bounding_window(LIVER | KIDNEY)
    assert truth is not None
    assert all(a <= b for a, b in zip(box.window.start, truth.start, strict=True))
    assert all(a >= b for a, b in zip(box.window.stop, truth.stop, strict=True))
    assert np.prod(box.window.shape) < 0.5 * GRID.voxels


def test_blind_coarse_network_leaves_the_fine_one_the_body() -> None:
    labels, box = run(Reader(blind=True), Reader())
    assert box.notes
    assert all(a <= b for a, b in zip(box.window.start, (2, 5, 5), strict=True))
    assert dsc(labels == 1, LIVER) > 0.7

"""Solid shapes as signed distances, the clay of the phantom.

A shape tells how far a point lies from its surface (mm, negative inside, roughly Euclidean near the
surface) and the box outside which nobody needs to ask. Points are float32 (3, n): x, y, z in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

Points: TypeAlias = NDArray[np.float32]
Distances: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = tuple[float, float, float]


class Shape(NamedTuple):
    """A solid: `distance` maps points (3, n) to mm (n), `low` and `high` are the corners of its box."""

    distance: Callable[[Points], Distances]
    low: Vector
    high: Vector


def ellipsoid(centre: Vector, radii: Vector, *, turn: Vector = (0, 0, 0)) -> Shape:
    """An ellipsoid turned by `turn` degrees around x, then y, then z.

    The distance is the first-order one of Quilez, "Ellipsoid - distance" (iquilezles.org).
    """
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().astype(np.float32)
    middle = np.asarray(centre, np.float32)[:, None]
    scale = 1 / np.asarray(radii, np.float32)[:, None]
    tiny = np.float32(1e-12)  # keeps the quotient at the centre: minus the shortest radius

    def distance(points: Points) -> Distances:
        local = _turned(rotation, points - middle) * scale
        norm = np.sqrt(np.square(local).sum(0) + tiny)
        slope = np.sqrt(np.square(local * scale).sum(0) + tiny * scale.max() ** 2)
        return np.asarray(norm * (norm - 1) / slope, np.float32)

    reach = np.sqrt(np.square(rotation.T * np.asarray(radii)).sum(1))
    return Shape(distance, *_box(np.asarray(centre) - reach, np.asarray(centre) + reach))


def slab(centre: Vector, halves: Vector, *, turn: Vector = (0, 0, 0), edge: float = 1.5) -> Shape:
    """A box with half lengths `halves`, mm, and edges rounded by `edge` mm, turned as an ellipsoid is."""
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().astype(np.float32)
    middle = np.asarray(centre, np.float32)[:, None]
    inner = np.asarray(halves, np.float32)[:, None] - np.float32(edge)

    def distance(points: Points) -> Distances:
        over = np.abs(_turned(rotation, points - middle)) - inner
        outside = np.sqrt(np.square(np.maximum(over, 0)).sum(0))
        return np.asarray(outside + np.minimum(over.max(0), 0) - edge, np.float32)

    reach = np.abs(rotation.T) @ np.asarray(halves)
    return Shape(distance, *_box(np.asarray(centre) - reach, np.asarray(centre) + reach))


def tube(through: Sequence[Vector], radii: Sequence[float], *, flat: float = 1.0, pieces: int = 5) -> Shape:
    """A bent tube: a smooth curve through at least two points with a radius at each.

    `flat` squeezes the cross-section along y; `pieces` straight segments stand for the curve between
    two neighbouring points.
    """
    squeeze = np.asarray([1, 1 / flat, 1])
    along = np.arange(len(through))
    fine = np.linspace(0, len(through) - 1, (len(through) - 1) * pieces + 1)
    line = PchipInterpolator(along, np.asarray(through))(fine)
    width = PchipInterpolator(along, np.asarray(radii))(fine)
    knots = (line * squeeze).astype(np.float32)
    stretch = squeeze.astype(np.float32)[:, None]

    def distance(points: Points) -> Distances:
        local = points * stretch
        best = np.full(points.shape[1], np.inf, np.float32)
        for a, b, start, stop in zip(knots, knots[1:], width, width[1:], strict=False):
            np.minimum(best, _cone(local, (a, b), (float(start), float(stop))), out=best)
        return best

    reach = width[:, None] * [1, flat, 1]
    return Shape(distance, *_box((line - reach).min(0), (line + reach).max(0)))


def blended(*shapes: Shape, over_mm: float = 8.0) -> Shape:
    """The union of shapes with the grooves between them filled over about `over_mm`."""

    def distance(points: Points) -> Distances:
        result = shapes[0].distance(points)
        for shape in shapes[1:]:
            other = shape.distance(points)
            near = np.maximum(over_mm - np.abs(result - other), 0)
            result = np.minimum(result, other) - np.square(near) / (4 * over_mm)
        return result

    low = np.min([s.low for s in shapes], axis=0)
    high = np.max([s.high for s in shapes], axis=0)
    return Shape(distance, *_box(low, high))


def within(shape: Shape, room: Shape, *, gap_mm: float = 0.0) -> Shape:
    """What of `shape` lies inside `room`, at least `gap_mm` from its wall."""
    return Shape(
        lambda points: np.maximum(shape.distance(points), room.distance(points) + np.float32(gap_mm)),
        shape.low,
        shape.high,
    )


def without(shape: Shape, *others: Shape, gap_mm: float = 0.0) -> Shape:
    """What of `shape` stays at least `gap_mm` away from every one of `others`."""

    def distance(points: Points) -> Distances:
        result = shape.distance(points)
        for other in others:
            np.maximum(result, np.float32(gap_mm) - other.distance(points), out=result)
        return result

    return Shape(distance, shape.low, shape.high)


def grown(shape: Shape, by_mm: float) -> Shape:
    """The shape with its surface moved outwards by `by_mm`, inwards where that is negative."""
    low, high = np.asarray(shape.low) - by_mm, np.asarray(shape.high) + by_mm
    return Shape(lambda points: shape.distance(points) - np.float32(by_mm), *_box(low, high))


def _turned(rotation: NDArray[np.float32], points: Points) -> Points:
    # einsum, not @: BLAS may sum in another order on another number of threads.
    return np.asarray(np.einsum("ij,jn->in", rotation, points), np.float32)


def _cone(points: Points, ends: tuple[Points, Points], radii: tuple[float, float]) -> Distances:
    a, b = ends
    x, y, z = (points[i] - a[i] for i in range(3))
    way = b - a
    share = (x * way[0] + y * way[1] + z * way[2]) / np.float32(np.square(way).sum())
    np.clip(share, 0, 1, out=share)
    square = (x - share * way[0]) ** 2 + (y - share * way[1]) ** 2 + (z - share * way[2]) ** 2
    return np.asarray(np.sqrt(square) - (radii[0] + share * np.float32(radii[1] - radii[0])), np.float32)


def _box(low: NDArray[np.floating], high: NDArray[np.floating]) -> tuple[Vector, Vector]:
    (a, b, c), (d, e, f) = (map(float, low), map(float, high))
    return (a, b, c), (d, e, f)

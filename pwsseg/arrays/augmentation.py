"""Random crop, rotation, translation, scaling and elastic deformation of patches, in one resampling.

The fields are composed first, on a coarse grid of control points, and each patch is read once from its
volume, so nothing is blurred twice; where nothing is bent, a patch is the window itself, voxel for voxel.
Deterministic by the generator that is passed in. How it is fast: docs/decisions/0034-one-resampling.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pwsseg.values import UNKNOWN

Shape = tuple[int, int, int]


class AugmentationSettings(BaseModel):
    """How far patches are bent (Section 3.2 names the kinds and gives no amounts)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_degrees: float = Field(ge=0)
    """About each axis, uniform in +-."""
    scaling: float = Field(ge=0, lt=1)
    """Uniform in 1 +- scaling, one factor an axis."""
    elastic_mm: float = Field(ge=0)
    """Standard deviation of the displacement at the control points."""
    elastic_spacing_mm: float = Field(gt=0)
    """Distance of control points."""
    gain: float = Field(ge=0, lt=1)
    """Intensities are multiplied by 1 +- gain, uniform."""
    shift: float = Field(ge=0)
    """Then shifted by +- shift standard deviations of the scan, uniform."""

    @property
    def bends(self) -> bool:
        """Whether voxels move at all."""
        return any((self.rotation_degrees, self.scaling, self.elastic_mm))


NO_AUGMENTATION = AugmentationSettings(
    rotation_degrees=0, scaling=0, elastic_mm=0, elastic_spacing_mm=1, gain=0, shift=0
)


def warp_patch(
    image: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    centre: tuple[float, float, float],
    patch: Shape,
    spacing: tuple[float, float, float],
    settings: AugmentationSettings,
    random: np.random.Generator,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Read one warped patch around `centre`.

    Parameters
    ----------
    image, labels:
        (z, y, x), float32 and uint8, on one device; beyond the volume the image repeats its border and the
        label is unknown (255).
    centre:
        Voxel position (z, y, x) of the patch's centre, inside the volume.
    spacing:
        (z, y, x) mm: rotations and displacements act in millimetres.
    device:
        Where the patch is computed and lies; of the volume only the voxels that are read go there. None for
        the volume's own.

    Returns
    -------
    image (z, y, x) float32 of shape `patch`, labels uint8 likewise or None.
    """
    if settings.bends:
        control = _control_points(centre, patch, spacing, settings, random)
        low, high = _touched(control, image.shape)
        read = _Positions(control - low, patch, device or image.device)
        warped = read.linear(_window(image, low, high).to(device))
        nearest = None if labels is None else read.nearest(_window(labels, low, high).to(device))
    else:
        low = np.rint(np.asarray(centre) - (np.asarray(patch) - 1) / 2).astype(int)
        warped = _window(image, low, low + patch).to(device)
        nearest = None if labels is None else _window(labels, low, low + patch).to(device)
    gain = random.uniform(1 - settings.gain, 1 + settings.gain)
    return warped * gain + random.uniform(-settings.shift, settings.shift), nearest


def _control_points(
    centre: tuple[float, float, float],
    patch: Shape,
    spacing: tuple[float, float, float],
    settings: AugmentationSettings,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Where the control points are read from: voxel positions (z, y, x, axis).

    The outer ones lie on the patch's outer voxels. Between them positions are linear, so that rotation and
    scaling are exact.
    """
    mm = np.asarray(spacing)
    edges = (np.asarray(patch) - 1) * mm
    counts = [max(2, round(float(e) / settings.elastic_spacing_mm) + 1) for e in edges]
    axes = [np.linspace(-e / 2, e / 2, n) for e, n in zip(edges, counts, strict=True)]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ _linear_map(settings, random).T
    displacement = random.normal(0, settings.elastic_mm, offsets.shape)
    moved: NDArray[np.float64] = (offsets + displacement) / mm + np.asarray(centre)
    return moved


def _linear_map(settings: AugmentationSettings, random: np.random.Generator) -> NDArray[np.float64]:
    """Scaling and rotation about z, y and x, as one matrix on (z, y, x) millimetres."""
    matrix = np.diag(random.uniform(1 - settings.scaling, 1 + settings.scaling, 3))
    for i, j in ((1, 2), (0, 2), (0, 1)):
        angle = np.deg2rad(random.uniform(-settings.rotation_degrees, settings.rotation_degrees))
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def _touched(control: NDArray[np.float64], shape: Sequence[int]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """The first voxel (z, y, x) that is read and the one after the last, one beyond the volume at most."""
    last = np.asarray(shape) - 1
    low = np.clip(np.floor(control.min((0, 1, 2))), 0, last) - 1
    high = np.clip(np.ceil(control.max((0, 1, 2))), 0, last) + 2
    return low.astype(int), high.astype(int)


def _window(volume: torch.Tensor, low: NDArray[np.int_], high: NDArray[np.int_]) -> torch.Tensor:
    """The voxels from `low` to before `high`; beyond the volume labels are unknown, images repeat."""
    inside = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, volume.shape, strict=True))
    beyond = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, volume.shape, strict=True)]
    padding = [int(n) for pair in reversed(beyond) for n in pair]
    if not any(padding):
        return volume[inside].contiguous()
    if volume.dtype == torch.uint8:
        return F.pad(volume[inside], padding, value=UNKNOWN)
    return F.pad(volume[inside][None, None], padding, mode="replicate")[0, 0]


class _Positions:
    """Where each voxel of a patch is read from a window."""

    def __init__(self, control: NDArray[np.float64], patch: Shape, device: torch.device) -> None:
        points = torch.from_numpy(np.moveaxis(control, -1, 0).astype(np.float32)).to(device)
        along_z, along_y, along_x = (
            _interpolation(n, p).to(device) for n, p in zip(patch, points.shape[1:], strict=True)
        )
        points = torch.einsum("zi,yj,aijk->azyk", along_z, along_y, points)
        self._patch = patch
        self._voxels = (points.flatten(1, 2) @ along_x.T).reshape(3, -1)  # (axis, voxel)

    def nearest(self, window: torch.Tensor) -> torch.Tensor:
        """The labels of the nearest voxels; beyond the window that of its border."""
        _, y, x = window.shape
        row = self._clamped(window)
        row, columns = row[0].round_().mul_(y).add_(row[1].round_()), row[2].round_()
        index = row.to(torch.int32).mul_(x).add_(columns.to(torch.int32))
        return window.flatten().index_select(0, index).reshape(self._patch)

    def linear(self, window: torch.Tensor) -> torch.Tensor:
        """Intensities, linear between voxels.

        The window's slices are read as one tall picture, and the slice above as its second channel: torch
        samples pictures many voxels at once and volumes one by one. The picture's height costs up to 0.002
        of a voxel of a position's precision.
        """
        depth, y, x = window.shape
        position = self._clamped(window)
        below = position[0].floor().clamp_max_(depth - 2)
        height = (depth - 1) * y
        grid = position.new_empty(position.shape[1], 2)
        torch.add(position[2].mul_(2 / x), 1 / x - 1, out=grid[:, 0])
        torch.add((below * y).add_(position[1]).mul_(2 / height), 1 / height - 1, out=grid[:, 1])
        picture = window.as_strided((1, 2, height, x), (0, y * x, x, 1))
        pair = F.grid_sample(picture, grid[None, None], padding_mode="border", align_corners=False)[0, :, 0]
        return torch.lerp(pair[0], pair[1], position[0].sub_(below)).reshape(self._patch)

    def _clamped(self, window: torch.Tensor) -> torch.Tensor:
        """The positions (axis, voxel), none beyond the window's outer voxels."""
        clamped = torch.empty_like(self._voxels)
        for axis, n in enumerate(window.shape):
            torch.clamp(self._voxels[axis], 0, n - 1, out=clamped[axis])
        return clamped


def _interpolation(count: int, points: int) -> torch.Tensor:
    """Weights (count, points) of linear interpolation, the ends on the outer points."""
    position = torch.linspace(0, points - 1, count)
    return (1 - (position[:, None] - torch.arange(points)).abs()).clamp_min(0)

"""Random crop, rotation, translation, scaling and elastic deformation of patches, in one resampling.

The fields are composed first and each patch is read once from its volume, so nothing is blurred twice.
Deterministic by the generator that is passed in.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
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
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Read one warped patch around `centre`.

    Parameters
    ----------
    image, labels:
        (z, y, x), float32 and uint8; beyond the volume the image repeats its border and the label is
        unknown (255).
    centre:
        Voxel position (z, y, x) of the patch's centre.
    spacing:
        (z, y, x) mm: rotations and displacements act in millimetres.

    Returns
    -------
    image (z, y, x) float32 of shape `patch`, labels uint8 likewise or None.
    """
    positions = _positions(centre, patch, spacing, settings, random)
    size = torch.tensor(image.shape, dtype=torch.float32)
    grid = ((positions + 0.5) * 2 / size - 1).flip(-1)[None]  # (1, z, y, x, xyz) in [-1, 1]
    warped = F.grid_sample(image[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    warped = warped * random.uniform(1 - settings.gain, 1 + settings.gain)
    warped = warped + random.uniform(-settings.shift, settings.shift)
    if labels is None:
        return warped, None
    shifted = labels[None, None].float() + 1  # so that 0 is free for "beyond the volume"
    nearest = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)[0, 0]
    return warped, torch.where(nearest == 0, UNKNOWN, nearest - 1).to(torch.uint8)


def _positions(
    centre: tuple[float, float, float],
    patch: Shape,
    spacing: tuple[float, float, float],
    settings: AugmentationSettings,
    random: np.random.Generator,
) -> torch.Tensor:
    """Where each voxel of the patch is read from: voxel positions (z, y, x, axis)."""
    mm = torch.tensor(spacing, dtype=torch.float32)
    axes = [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) for n in patch]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) * mm
    matrix = torch.from_numpy(_linear_map(settings, random).astype(np.float32))
    moved = offsets @ matrix.T
    if settings.elastic_mm:
        moved = moved + _displacement(patch, spacing, settings, random)
    return moved / mm + torch.tensor(centre)


def _linear_map(settings: AugmentationSettings, random: np.random.Generator) -> np.ndarray:
    """Scaling and rotation about z, y and x, as one matrix on (z, y, x) millimetres."""
    matrix = np.diag(random.uniform(1 - settings.scaling, 1 + settings.scaling, 3))
    for i, j in ((1, 2), (0, 2), (0, 1)):
        angle = np.deg2rad(random.uniform(-settings.rotation_degrees, settings.rotation_degrees))
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def _displacement(
    patch: Shape,
    spacing: tuple[float, float, float],
    settings: AugmentationSettings,
    random: np.random.Generator,
) -> torch.Tensor:
    """A smooth random displacement (z, y, x, axis) in mm from a coarse grid of control points."""
    points = [
        max(2, round(n * s / settings.elastic_spacing_mm) + 1) for n, s in zip(patch, spacing, strict=True)
    ]
    control = random.normal(0, settings.elastic_mm, (3, *points)).astype(np.float32)
    field = F.interpolate(torch.from_numpy(control)[None], size=patch, mode="trilinear", align_corners=True)
    return field[0].permute(1, 2, 3, 0)

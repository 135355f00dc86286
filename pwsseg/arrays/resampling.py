"""Between a scan's own grid and the grid of the networks.

Both grids fill the same box (`Geometry.resampled`), so the map between them is a scaling of each axis with
half-voxel centres; no direction or origin enters.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Shape = tuple[int, int, int]


def network_input(
    scan: NDArray[np.int16],
    shape: Shape,
    *,
    clip_hu: tuple[float, float],
    device: torch.device | None = None,
) -> torch.Tensor:
    """`resample_scan`, then `normalise`, computed on `device` and left there: float32 of `shape`."""
    return _normalised(_resampled(_on(device, scan), shape), clip_hu)


def resample_scan(scan: NDArray[np.int16], shape: Shape) -> NDArray[np.float32]:
    """Bring intensities (z, y, x) to `shape`, linearly; when shrinking, each axis is averaged first.

    Averaging over the footprint of the new voxel (area) keeps thin organs from being jumped over, which
    plain linear interpolation does once a voxel grows more than twofold.
    """
    resampled: NDArray[np.float32] = _resampled(_on(None, scan), shape).numpy()
    return resampled


def _on(device: torch.device | None, scan: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(scan, dtype=np.float32)).to(device)


def _resampled(scan: torch.Tensor, shape: Shape) -> torch.Tensor:
    volume = scan[None, None]
    z, y, x = (new if old >= 1.5 * new else old for old, new in zip(scan.shape, shape, strict=True))
    averaged = (z, y, x)
    if averaged != scan.shape:
        volume = F.adaptive_avg_pool3d(volume, averaged)  # unlike blocks of whole voxels, fills the same box
    if averaged != shape:
        volume = F.interpolate(volume, size=shape, mode="trilinear", align_corners=False)
    return volume[0, 0]


def resample_labels(labels: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Bring labels (z, y, x) to `shape`: each new voxel takes the label at its centre."""
    index = [nearest_index(new, old) for new, old in zip(shape, labels.shape, strict=True)]
    return labels[np.ix_(*index)]


def nearest_index(new: int, old: int) -> NDArray[np.intp]:
    """For each of `new` voxels along an axis, the one of `old` voxels that its centre lies in."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)


def normalise(scan: NDArray[np.float32], *, clip_hu: tuple[float, float]) -> NDArray[np.float32]:
    """Clip to `clip_hu`, then z-score over the volume (eps 1e-5; METHOD.md, Preprocessing)."""
    scaled: NDArray[np.float32] = _normalised(torch.from_numpy(scan), clip_hu).numpy()
    return scaled


def _normalised(scan: torch.Tensor, clip_hu: tuple[float, float]) -> torch.Tensor:
    clipped = scan.clamp(*clip_hu)
    total = sum(float(plane.sum(dtype=torch.float64)) for plane in clipped)
    squares = sum(float(torch.dot(plane.flatten(), plane.flatten())) for plane in clipped)
    mean = total / clipped.numel()
    deviation = max(0.0, squares / clipped.numel() - mean**2) ** 0.5
    return clipped.sub_(mean).mul_(1 / (deviation + 1e-5))

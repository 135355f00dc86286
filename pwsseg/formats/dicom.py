"""A folder with one DICOM series of a CT.

Each slice is read on its own, so that every one can be checked: GDCM's series reader stacks whatever it is
given and spreads the slices evenly, gaps, tilt and all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from pwsseg.formats.elements import NO_IMAGE, check_lengths
from pwsseg.formats.hounsfield import to_hu
from pwsseg.formats.volume import Volume, geometry_from_itk
from pwsseg.values import InputError, shown, word

NOT_SLICES = (".nii", ".gz", ".txt", ".md", ".csv", ".json", ".xml", ".pdf", ".png", ".jpg", ".html")
SIDEWAYS_MM = 0.2
"""Positions are often rounded to 0.1 mm; a tilt moves slices sideways by far more."""
MOST_PIXELS_A_BYTE = 500
"""No codec packs a CT slice so small: a file that promises more is damaged, and would take memory for it."""
UNEVEN = 0.1
"""How far a slice may lie from its even place, in steps: rounding moves it a few hundredths."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class _Slice:
    path: Path
    series: str
    size: tuple[int, ...]
    spacing: tuple[float, float]
    thickness: float
    axes: tuple[float, ...]
    """Direction cosines of the rows (x, y, z), then of the columns."""
    place: tuple[float, ...]

    @property
    def normal(self) -> Vector:
        return np.cross(self.axes[:3], self.axes[3:])


def read_series(folder: Path, *, any_range: bool = False) -> Volume:
    """The CT series in `folder` as int16 HU (z, y, x), slices ascending along their normal.

    InputError when the folder is missing or empty, a file in it is no whole DICOM slice of a CT, it holds
    several series, slices are missing, doubled, unevenly spaced or shifted against each other (gantry tilt),
    or the values are not in HU (`any_range` takes a scan without air).
    """
    files = slice_files(folder)
    if not files:
        raise InputError(f"{folder} is empty, expected the DICOM files of one CT series; check the path")
    slices = [_read_header(f) for f in files]
    _check_one_series(folder, slices)
    slices.sort(key=lambda s: float(s.normal @ s.place))
    step = _even_step(folder, slices)
    first = slices[0]
    normal = first.normal
    geometry = geometry_from_itk(
        folder,
        size=(*first.size[:2], len(slices)),
        spacing=(*first.spacing, step),
        origin=first.place,
        direction=np.stack([first.axes[:3], first.axes[3:], normal / np.linalg.norm(normal)], axis=1).ravel(),
    )
    stack = np.empty(geometry.shape, np.int16)
    for target, one in zip(stack, slices, strict=True):
        target[...] = to_hu(_read_pixels(one), one.path, any_range=True)
    return Volume(to_hu(stack, folder, any_range=any_range), geometry)


def slice_files(folder: Path) -> list[Path]:
    """The files of `folder` that should be slices, by name: no hidden file, index, text, picture or NIfTI."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} is no readable folder ({error.strerror}); check the path") from error
    return [
        f
        for f in entries
        if f.is_file()
        and not f.name.startswith(".")
        and f.name.upper() != "DICOMDIR"
        and f.suffix.lower() not in NOT_SLICES
    ]


def _reader(path: Path) -> Any:
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _read_header(path: Path) -> _Slice:
    check_lengths(path)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(NO_IMAGE.format(path=path)) from error
    tags = {k: reader.GetMetaData(k).strip(" \0") for k in reader.GetMetaDataKeys()}
    modality = tags.get("0008|0060", "") or "unknown"
    if modality != "CT":
        raise InputError(f"{path} is of modality {word(modality)}, expected CT; leave it out")
    if reader.GetNumberOfComponents() != 1:
        raise InputError(f"{path} is a colour picture, expected HU; take it out of the series")
    size = reader.GetSize()
    if len(size) > 2 and size[2] > 1:
        raise InputError(f"{path} holds {size[2]} frames, expected one slice a file; convert it to NIfTI")
    if size[0] * size[1] > MOST_PIXELS_A_BYTE * path.stat().st_size:
        raise InputError(
            f"{path} promises {size[0]} x {size[1]} pixels and is too short for them; copy the series again"
        )
    down, across = _numbers(path, tags, "0028|0030", "pixel spacing", 2)
    return _Slice(
        path=path,
        series=tags.get("0020|000e", ""),
        size=size,
        spacing=(across, down),
        thickness=_thickness(tags),
        axes=_numbers(path, tags, "0020|0037", "orientation", 6),
        place=_numbers(path, tags, "0020|0032", "position", 3),
    )


def _numbers(path: Path, tags: dict[str, str], tag: str, name: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in tags.get(tag, "").split("\\"))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        raise InputError(
            f"{path} has the {name} {shown(tags.get(tag, ''))} (tag {tag.replace('|', ',')}), expected "
            f"{count} numbers; export the series again"
        )
    return numbers


def _thickness(tags: dict[str, str]) -> float:
    """Distance of slices as a single one states it: spacing between slices, else thickness, else NaN."""
    for tag in ("0018|0088", "0018|0050"):
        try:
            return float(tags[tag])
        except (KeyError, ValueError):
            continue
    return math.nan


def _check_one_series(folder: Path, slices: list[_Slice]) -> None:
    series = {s.series for s in slices}
    if len(series) > 1:
        raise InputError(
            f"{folder} holds {len(series)} DICOM series, expected one; put each into a folder of its own"
        )
    first = slices[0]
    for other in slices[1:]:
        same = (
            other.size == first.size
            and np.allclose(other.spacing, first.spacing, rtol=1e-4)
            and np.allclose(other.axes, first.axes, atol=1e-4)
        )
        if not same:
            raise InputError(
                f"{other.path} differs in size, pixel spacing or orientation from {first.path.name}, "
                "expected slices of one volume; take it (a localizer?) out of the series"
            )


def _even_step(folder: Path, slices: list[_Slice]) -> float:
    """The distance of neighbouring slices, mm; InputError when they don't form a rectangular grid."""
    first = slices[0]
    if len(slices) == 1:
        if math.isfinite(first.thickness):
            return first.thickness
        raise InputError(f"{folder} holds one slice that states no thickness; expected a series of slices")
    normal = first.normal / np.linalg.norm(first.normal)
    offsets = np.array([s.place for s in slices]) - first.place
    along = offsets @ normal
    _check_gaps(folder, slices, along)
    sideways = np.linalg.norm(offsets - np.outer(along, normal), axis=1)
    if sideways.max() > SIDEWAYS_MM:
        angle = math.degrees(math.atan2(sideways[-1], along[-1]))
        raise InputError(
            f"{folder} has slices that shift sideways by {sideways.max():.1f} mm (gantry tilt of {angle:.1f} "
            "degrees), expected a rectangular grid; correct the tilt (dcm2niix does) and give the NIfTI file"
        )
    return float(along[-1]) / (len(slices) - 1)


def _check_gaps(folder: Path, slices: list[_Slice], along: Vector) -> None:
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    step = along[-1] / len(gaps)
    even = step * np.arange(len(along))
    if gaps.min() > 0 and np.abs(along - even).max() <= UNEVEN * step:
        return
    odd = int(np.abs(gaps - usual).argmax()) if gaps.min() > 0 else int(gaps.argmin())
    raise InputError(
        f"{folder} has its slices {slices[odd].path.name} and {slices[odd + 1].path.name} {gaps[odd]:.3g} mm "
        f"apart where {usual:.3g} mm is usual (from {gaps.min():.3g} to {gaps.max():.3g}), expected even "
        "gaps: a slice is missing or doubled; export the series again"
    )


def _read_pixels(one: _Slice) -> NDArray[Any]:
    """The pixels (y, x) of a slice."""
    try:
        pixels: NDArray[Any] = SimpleITK.GetArrayFromImage(_reader(one.path).Execute())
    except RuntimeError as error:
        raise InputError(f"{one.path} has pixels that can't be decoded; copy the series again") from error
    if pixels.shape[-2:] != one.size[1::-1]:
        raise InputError(f"{one.path} holds other pixels than its header says; copy the series again")
    return pixels.reshape(pixels.shape[-2:])

"""Immutable values that every room may know: places, label sets, windows, errors."""

from pwsseg.values.errors import (
    DivergedError,
    InputError,
    PwssegError,
    SettingsError,
    StoreError,
    first_line,
    shown,
    word,
)
from pwsseg.values.geometry import Geometry
from pwsseg.values.labels import FLARE23, UNKNOWN, LabelClass, LabelSet
from pwsseg.values.orientation import Orientation, orientation_of, oriented
from pwsseg.values.window import Window

__all__ = [
    "FLARE23",
    "UNKNOWN",
    "DivergedError",
    "Geometry",
    "InputError",
    "LabelClass",
    "LabelSet",
    "Orientation",
    "PwssegError",
    "SettingsError",
    "StoreError",
    "Window",
    "first_line",
    "orientation_of",
    "oriented",
    "shown",
    "word",
]

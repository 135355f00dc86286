"""Folders of cases: FLARE's layout, the table of annotated classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["training", "validation"]


@dataclass(frozen=True)
class SourceCase:
    """Where one case comes from: `scan` is a NIfTI file or a folder with one DICOM series."""

    case: str
    scan: Path
    labels: Path | None
    split: Split

"""Numbers that people write."""

from __future__ import annotations

import math


def finite(text: str) -> float:
    """The number that `text` says; ValueError when it is none, infinite or NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number

"""Learning-rate schedules, as factors of the initial rate."""

from __future__ import annotations

from typing import Literal


def learning_rate(schedule: Literal["steps", "poly"], progress: float) -> float:
    """The factor at `progress` in [0, 1).

    `steps`: 1 until 66 % of the training, 0.1 until 86 %, then 0.05 (OS stage). `poly`: (1 - t)^0.9 (OTS
    stage). Both from METHOD.md.
    """
    if schedule == "poly":
        return float((1 - progress) ** 0.9)
    if progress < 0.66:
        return 1.0
    return 0.1 if progress < 0.86 else 0.05

"""What a pipeline tells Ray's metrics endpoint, for Prometheus and Grafana.

    ray_pwsseg_scans_total{stage="write_layer", outcome="done"}     scans that a stage has done, or failed
    ray_pwsseg_stage_seconds{stage="Predictor"}                     a histogram of seconds a scan
    ray_pwsseg_device_idle_seconds_total{stage="Predictor"}         how long devices waited for the next scan

What waits before a stage Ray Data tells by itself (`ray_data_operator_queued_blocks`). How to scrape:
docs/performance.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any

SECONDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
"""Upper bounds of the histogram's buckets."""


def stage_name(work: Any) -> str:
    """The name of a stage's function or class, as its tag says it."""
    name = getattr(work, "__name__", type(work).__name__)
    return str(name).lstrip("_")


def count_scan(stage: str, seconds: float, *, failed: bool) -> None:
    """A stage is through with a scan."""
    if _in_ray():
        scans, lasted, _ = _meters()
        scans.inc(1, tags={"stage": stage, "outcome": "failed" if failed else "done"})
        lasted.observe(seconds, tags={"stage": stage})


def count_idle(stage: str, seconds: float) -> None:
    """A device has waited for its next scan."""
    if _in_ray() and seconds > 0:
        _meters()[2].inc(seconds, tags={"stage": stage})


def _in_ray() -> bool:
    import ray

    return bool(ray.is_initialized())


@cache
def _meters() -> tuple[Any, Any, Any]:
    """Once a process: Ray adds up what all processes say."""
    from ray.util.metrics import Counter, Histogram

    return (
        Counter("pwsseg_scans_total", description="Scans by stage", tag_keys=("stage", "outcome")),
        Histogram(
            "pwsseg_stage_seconds",
            description="Seconds a scan by stage",
            boundaries=SECONDS,
            tag_keys=("stage",),
        ),
        Counter("pwsseg_device_idle_seconds_total", description="Waiting for scans", tag_keys=("stage",)),
    )

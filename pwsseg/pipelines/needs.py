"""Whether the cluster is large enough for a scale, asked before anything runs."""

from __future__ import annotations

from pwsseg.pipelines.cluster import Resources
from pwsseg.rounds import RoundSettings
from pwsseg.values import SettingsError


def check_needs(settings: RoundSettings, resources: Resources) -> None:
    """Refuse a scale that the cluster can't carry.

    Raises
    ------
    SettingsError
        Naming what is missing.
    """
    needs, workers = settings.scale.needs, settings.scale.training_workers
    missing = []
    if resources.gpus < needs.gpus:
        missing.append(f"{needs.gpus} GPUs (found {resources.gpus})")
    if resources.memory_gb < needs.memory_gb:
        missing.append(f"{needs.memory_gb:g} GB of memory (found {resources.memory_gb:.1f})")
    if not resources.gpus and resources.cpus < workers:
        missing.append(f"{workers} CPUs for its training workers (found {resources.cpus})")
    if resources.gpus and resources.gpus < workers:
        missing.append(f"{workers} GPUs for its training workers (found {resources.gpus})")
    if missing:
        raise SettingsError(
            f"scale {settings.scale_name} needs {' and '.join(missing)}; submit to a larger cluster, or use "
            f"--scale laptop"
        )

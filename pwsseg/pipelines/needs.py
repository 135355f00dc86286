"""Whether the cluster is large enough for a scale, and a machine for a scan, asked before anything runs."""

from __future__ import annotations

from pathlib import Path

import torch

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
    needs = settings.scale.needs
    workers = settings.scale.least_training_workers or settings.scale.training_workers
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


def check_memory(needed: int, device: torch.device) -> None:
    """Refuse a scan whose scores would not fit into what is free, before its first window.

    Raises
    ------
    SettingsError
        Naming both figures in GB.
    """
    free = free_bytes(device)
    if needed > free:
        raise SettingsError(
            f"the scores of this scan need {needed / 1e9:.2f} GB beside the network, {free / 1e9:.2f} GB are "
            f"free on the {device.type}; take a machine with more, or a model with a flatter patch"
        )


def free_bytes(device: torch.device) -> int:
    """What can still be taken on a device: on a CPU what Linux says is available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024

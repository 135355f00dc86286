"""Peak memory of our sliding window above the network's own, beside nnU-Net's predictor.

python benchmarks/memory.py

Every figure is a process of its own: the scan and, for ours, its labels lie in memory already, the network is
one 1x1x1 convolution on the paper's patch, with a softmax for ours; what it takes on one patch alone is
subtracted. Windows cover all of 512 x 512, the worst case: about a body they cover less. `stated` is what
stream_bytes promises from the windows and classes before the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from inference import nnunet_predictor, peak_bytes, reset_peak  # noqa: E402

from pwsseg.arrays.labelling import write_labels_on_grid  # noqa: E402
from pwsseg.arrays.sliding import covered, place_windows, stream, stream_bytes  # noqa: E402

PATCH = (48, 192, 192)
OVERLAP = 0.25
CASES = ((100, 15), (300, 15), (600, 15), (100, 5), (100, 60), (554, 15))
"""Slices of 512 x 512, on the network's grid and on the scan's; channels with the background."""
PEER = ((100, 15), (300, 15), (554, 15))


class Small(torch.nn.Module):
    """Channels that differ, at no cost."""

    def __init__(self, channels: int, *, softmax: bool) -> None:
        super().__init__()
        self.head, self.softmax = torch.nn.Conv3d(1, channels, 1), softmax

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Scores or logits (batch, class, z, y, x)."""
        logits: torch.Tensor = self.head(patches)
        return logits.softmax(1) if self.softmax else logits


def above_network(method: str, slices: int, channels: int) -> tuple[float, float]:
    """GB above the network's own at the peak, and GB stated; in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Small(channels, softmax=method == "ours").eval()
    volume = torch.rand(slices, 512, 512).half() if method == "ours" else torch.rand(1, slices, 512, 512)
    labels = np.ones((slices, 512, 512), dtype=np.uint8)
    windows = place_windows((slices, 512, 512), PATCH, overlap=OVERLAP)
    with torch.inference_mode():
        reset_peak()
        network(torch.rand(1, 1, *PATCH))
        own = peak_bytes()
        reset_peak()
        if method == "ours":
            write_labels_on_grid(
                stream(volume, network, windows),
                covered(windows, (slices, 512, 512)),
                (slices, 512, 512),
                classes=range(1, channels),
                out=labels,
            )
        else:
            nnunet_predictor(network, PATCH, channels).predict_sliding_window_return_logits(volume)
        peak = peak_bytes()
    return (peak - own) / 1e9, stream_bytes(windows, channels=channels) / 1e9


def measured(method: str, slices: int, channels: int) -> tuple[float, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, method, str(slices), str(channels)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    over, stated = done.stdout.splitlines()[-1].split()  # nnU-Net says things before
    return float(over), float(stated)


def main() -> None:
    """Print the table and the line of figures."""
    print(f"{'slices':>7}{'classes':>9}{'stated GB':>11}{'ours GB':>9}{'nnU-Net GB':>12}")
    over = {}
    for slices, channels in CASES:
        over[slices, channels], stated = measured("ours", slices, channels)
        peer = f"{measured('nnunet', slices, channels)[0]:12.2f}" if (slices, channels) in PEER else ""
        print(f"{slices:7}{channels:9}{stated:11.2f}{over[slices, channels]:9.2f}{peer}", flush=True)
    figures = {
        "peak_gb_over_network": over[554, 15],
        "growth_slices": over[600, 15] / over[100, 15],
        "growth_classes": over[100, 60] / over[100, 5],
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*above_network(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    else:
        main()

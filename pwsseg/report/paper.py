"""The paper's own figures, for a column beside ours: its Tables 4, 5 and 6, as printed.

Jia and Wang, FLARE 2023. DSC and NSD in percent, (mean, standard deviation); None where none is given. The
averages of its Table 6 are those that its text gives.
"""

from __future__ import annotations

from typing import NamedTuple

Cell = tuple[float, float | None]


class Figures(NamedTuple):
    """One method on one set: (DSC, NSD) of each class, of the organs, of all classes."""

    name: str
    classes: dict[int, tuple[Cell, Cell]]
    organs: tuple[Cell, Cell] | None
    mean: tuple[Cell, Cell]


class Efficiency(NamedTuple):
    """One case: size (x, y, z), seconds, peak GPU memory in MB, area under the memory-time curve in MB s."""

    case: str
    size: tuple[int, int, int]
    seconds: float
    peak_mb: float
    area_mb_s: float


def _figures(name: str, dsc: str, nsd: str, *, organs: bool = False) -> Figures:
    """From lines of `mean/sd`: classes 1 to 14, the organs' average where there is one, the average."""
    cells = list(zip(_cells(dsc), _cells(nsd), strict=True))
    return Figures(name, dict(enumerate(cells[:14], start=1)), cells[14] if organs else None, cells[-1])


def _cells(line: str) -> list[Cell]:
    parts = [word.partition("/") for word in line.split()]
    return [(float(mean), float(sd) if sd else None) for mean, _, sd in parts]


PUBLIC = _figures(
    "public",
    "97.21/1.36 94.47/6.31 96.28/3.03 81.74/5.26 95.69/3.68 92.44/4.10 80.35/6.17 75.79/10.49 77.61/25.28 "
    "79.41/15.57 90.48/6.98 77.32/9.20 93.01/10.26 34.42/33.26 87.06/8.02 83.30/15.61",
    "96.36/4.55 94.30/8.02 97.14/5.46 93.38/3.60 97.86/4.70 94.23/4.93 91.07/5.29 84.46/10.58 74.85/25.43 "
    "90.19/15.06 92.52/9.59 91.67/6.10 91.85/13.09 27.40/27.47 91.53/5.85 86.95/17.45",
    organs=True,
)
ONLINE = _figures(
    "online",
    "97.24 94.07 96.47 79.65 95.97 92.21 79.73 75.29 78.05 80.21 90.02 77.97 92.55 28.05 86.88 82.68",
    "96.66 94.12 97.35 91.54 98.09 93.75 91.10 83.67 74.59 91.24 91.75 91.88 91.83 16.40 91.35 86.00",
    organs=True,
)
NO_FUSION = _figures(
    "no fusion",
    "96.52/2.21 92.02/9.34 94.79/7.42 78.28/6.73 96.14/3.06 92.69/4.03 81.72/6.04 74.97/13.58 77.33/25.78 "
    "76.85/15.38 87.97/9.18 77.89/7.79 87.41/17.53 31.10/33.89 81.83/15.97",
    "95.50/6.04 90.55/10.99 94.32/8.00 89.72/5.67 98.43/4.40 94.97/5.13 91.61/4.87 84.93/15.20 76.26/25.64 "
    "89.65/13.74 89.38/11.12 92.11/5.98 83.35/18.39 25.40/27.84 60.45/35.05",
)
FUSION = _figures(
    "P",
    "96.86/3.29 91.04/15.59 95.77/4.54 82.08/6.11 94.84/4.32 92.74/4.38 74.41/10.12 74.91/10.47 78.19/24.62 "
    "77.32/16.26 89.83/7.10 78.95/8.63 91.57/12.15 37.72/33.76 82.59/14.72",
    "96.49/4.20 90.15/16.42 96.30/6.63 93.71/4.87 97.49/5.28 94.54/5.19 86.38/7.71 83.57/9.88 77.54/26.19 "
    "87.40/15.92 92.76/8.95 92.87/6.13 91.44/13.83 35.18/29.26 86.84/15.29",
)
LARGER = _figures(
    "larger",
    "97.71/0.62 94.94/7.18 96.36/3.45 83.20/4.91 95.73/3.96 92.75/3.90 83.42/5.60 78.49/9.76 83.27/20.08 "
    "80.04/15.07 91.25/6.25 79.58/8.71 93.33/12.19 44.19/34.26 85.30/13.21",
    "97.81/1.94 94.93/7.75 97.11/5.44 94.68/3.22 97.97/4.71 94.42/4.87 92.84/4.40 87.31/9.17 81.23/21.11 "
    "90.75/14.23 94.30/7.40 93.18/6.02 93.08/14.20 40.06/30.85 89.26/14.29",
)

EFFICIENCY = (
    Efficiency("0001", (512, 512, 55), 65.13, 3442, 156868),
    Efficiency("0051", (512, 512, 100), 101.57, 4402, 358826),
    Efficiency("0017", (512, 512, 150), 117.42, 4618, 432704),
    Efficiency("0019", (512, 512, 215), 87.14, 3874, 262002),
    Efficiency("0099", (512, 512, 334), 122.24, 4388, 396838),
    Efficiency("0063", (512, 512, 448), 146.61, 4602, 489157),
    Efficiency("0048", (512, 512, 499), 150.43, 4524, 509211),
    Efficiency("0029", (512, 512, 554), 180.96, 5196, 692933),
)
MEAN_EFFICIENCY = (100.17, 4128.0, 339753.0)
"""Seconds, MB, MB s a case, over the cases that the paper measured."""

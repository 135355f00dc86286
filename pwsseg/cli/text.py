"""Text for people: aligned tables, class ids and sizes in few characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBER = re.compile(r"-|[0-9.]+( [kMGT]?B)?")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> str:
    """Aligned text, numbers to the right; `empty` when there is no row."""
    if not rows:
        return f"{empty}\n" if empty else ""
    numeric = [all(NUMBER.fullmatch(cell) for cell in cells) for cells in zip(*rows, strict=True)]
    lines = [columns, *rows] if columns else rows
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def ranges(ids: Sequence[int]) -> str:
    """Class ids in few characters: 1-4 13."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return " ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs) or "-"


def size(count: int) -> str:
    """Bytes as people say them: 12 B, 3.4 MB."""
    amount, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def moment(created: str | None) -> str:
    """A record's time as people read it, UTC: 2026-11-24 03:12:07."""
    return created.replace("T", " ").rstrip("Z") if created else "-"


def day(created: str | None) -> str:
    """The day of a record's time."""
    return moment(created)[:10]

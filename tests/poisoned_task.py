"""Twenty cases, several a task: one is refused, one kills the process that works on it; a JSON line each."""

from __future__ import annotations

import json
import os
import signal
import sys

from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.over_cases import Item, Stage, over_cases
from pwsseg.pipelines.progress import Progress


def main() -> None:
    """Send them through two stages."""
    with cluster() as resources:
        items = over_cases(
            [Item(str(i), {"number": i}, voxels=0) for i in range(20)],
            [Stage(halved), Stage(deadly, {"case": "13"})],
            resources=resources._replace(cpus=1),
            progress=Progress("halve", 20),
        )
    for item in items:
        said = {"case": item.case, "error": item.error, "number": item.fields["number"]}
        sys.stdout.write(f"{json.dumps(said)}\n")


def halved(item: Item) -> Item:
    """Half its number."""
    if item.case == "7":
        raise ValueError("seven is refused")
    item.fields["number"] /= 2
    return item


def deadly(item: Item, *, case: str) -> Item:
    """The end of the process, for one case."""
    if item.case == case:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


if __name__ == "__main__":
    main()

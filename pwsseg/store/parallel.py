"""Many reads side by side: one that waits for a disk or a server, or decodes, doesn't hold up the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

GROUP_SIZE = 16
"""Items that a thread takes at once: a hand-over for each would cost as much as a small read."""

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`work` of each item, in order; at most `workers` at once."""
    groups = [items[i : i + GROUP_SIZE] for i in range(0, len(items), GROUP_SIZE)]
    with ThreadPoolExecutor(workers) as pool:
        yield from chain.from_iterable(pool.map(lambda group: [work(item) for item in group], groups))

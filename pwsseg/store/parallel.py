"""Many reads side by side: one that waits for a disk or a server, or decodes, doesn't hold up the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

GROUP_SIZE = 16
"""Items that a thread takes at once: a hand-over for each would cost as much as a small read."""

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """`work` of each item, in order; `workers` at once, and not far ahead of who takes the results."""
    groups = [items[i : i + GROUP_SIZE] for i in range(0, len(items), GROUP_SIZE)]
    begun: deque[Future[list[R]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for group in groups:
            begun.append(pool.submit(lambda group: [work(item) for item in group], group))
            if len(begun) > 2 * workers:
                yield from begun.popleft().result()
        while begun:
            yield from begun.popleft().result()

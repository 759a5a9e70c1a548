"""Work done in threads, a little ahead of their use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# Threads that open images. Our choice.
READERS = min(4, os.cpu_count() or 1)

Source = TypeVar("Source")
Result = TypeVar("Result")


def read_ahead(
    sources: Iterable[Source],
    work: Callable[[Source], Result],
    threads: int = READERS,
    *,
    ahead: int | None = None,
) -> Generator[tuple[Source, Result], None, None]:
    """Each source with what `work` makes of it, in order.

    At most `ahead` sources, by default as many as there are threads, are taken from `sources` before their turn.
    """
    ahead = threads if ahead is None else ahead
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Source, Future[Result]]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(work, source)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

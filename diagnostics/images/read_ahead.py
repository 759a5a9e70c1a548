"""Work done in threads, a little ahead of whoever asks for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Source = TypeVar("Source")
Found = TypeVar("Found")


def read_ahead(
    sources: Iterable[Source], work: Callable[[Source], Found], threads: int
) -> Iterator[tuple[Source, Found]]:
    """Each source with what `work` makes of it, in order; as many are in work ahead as there are threads."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Source, Future[Found]]] = deque()
        try:
            for source in sources:
                waiting.append((source, pool.submit(work, source)))
                if len(waiting) > threads:
                    first, found = waiting.popleft()
                    yield first, found.result()
            while waiting:
                first, found = waiting.popleft()
                yield first, found.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

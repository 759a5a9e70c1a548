"""What an engine is: it has the missing shards of a job done, somewhere, and reports each when its file exists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from segment.evaluation.job import Job
from segment.evaluation.shards import Shard

# How often a shard is tried whose worker dies. Our choice: once more than a passing trouble needs.
TRIES = 3

# Told while a shard is in work: the shard, and how many of its images are done.
Progress = Callable[[Shard, int], None]


class ShardFailed(ChildProcessError):
    """A shard whose workers died again and again; all others are kept."""

    def __init__(self, shard: Shard, job: Job, reason: str) -> None:
        super().__init__(
            f"shard {shard.number} (images {shard.start} to {shard.stop - 1}, from "
            f"`{job.dataset.sample_name(shard.start)}` on) failed {TRIES} times: {reason}. What is finished is kept. A "
            "worker that is killed from outside has mostly run out of memory: try fewer workers or a smaller batch, "
            "and run the same command again."
        )


class Engine(ABC):
    """Has shards done. A part derives from it as a frozen dataclass; settings are fields.

    Errors of the work itself (a full disk, a wrong setting) are raised as they are and stop the run; a worker that
    dies is replaced and its shard tried again.
    """

    def check(self, device: str, shards: int) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuses at the start of a run of so many shards what its workers would stumble over."""

    @abstractmethod
    def run(self, job: Job, shards: Sequence[Shard], progress: Progress) -> Iterator[Shard]:
        """Yields each shard once its file is written, in any order."""

"""The engine of many machines: the same shards as tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from diagnostics.registry import Carried, adopt, carried_parts
from segment.evaluation.engines.base import TRIES, Engine, Progress, ShardFailed
from segment.evaluation.job import Job, Worker
from segment.evaluation.shards import Shard


@dataclass(frozen=True, kw_only=True)
class RayCluster(Engine):
    """Shards as tasks on a Ray cluster; a task takes a GPU where the cluster has some, and else a core.

    `address`: that of a running cluster (`auto`, HOST:6379, ray://HOST:10001); None starts one on this machine for as
    long as the run lasts, with `workers` cores. On a cluster, `workers` limits how many tasks run at once. The run's
    folder must be one that all machines see: a shared disk, or a URL such as s3://bucket/run. So must the data set and
    weights that lie in files. Each machine needs this package installed.
    """

    address: str | None = None
    workers: int | None = None
    tries: int = TRIES

    def run(self, job: Job, shards: Sequence[Shard], progress: Progress) -> Iterator[Shard]:
        if not shards:
            return
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            resources_of_machine = {"num_cpus": self.workers} if self.address is None and self.workers else {}
            self._start(ray, resources_of_machine)
        try:
            yield from self._tasks(ray, job, shards, progress)
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any, resources: dict[str, int]) -> None:
        """Joins the cluster, or starts one here; again where a busy machine did not manage it within Ray's 30 s.

        `local` is a cluster of this run's own, whatever else runs on this machine: one that came up too late, too.
        """
        address = self.address or "local"
        for attempt in range(1, self.tries + 1):
            try:
                ray.init(address=address, log_to_driver=False, logging_level="error", **resources)
                return
            except Exception as error:  # Ray raises a plain Exception here
                if type(error) is not Exception or "timed out" not in str(error):
                    raise
                ray.shutdown()
                if attempt == self.tries:
                    raise ValueError(
                        f"Ray did not start within 30 s, {attempt} times: this machine is too busy or has too little "
                        "memory. Use `--workers N`, which needs no cluster, or try again when it has less to do."
                    ) from error

    def _tasks(self, ray: Any, job: Job, shards: Sequence[Shard], progress: Progress) -> Iterator[Shard]:
        gpus = ray.cluster_resources().get("GPU", 0) if job.options.device in ("auto", "cuda") else 0
        resources = {"num_gpus": 1} if gpus else {"num_cpus": job.options.threads}
        # Ray itself tries again where a process or a machine is lost; errors of the work come back as they are.
        task = ray.remote(max_retries=self.tries - 1, retry_exceptions=False, **resources)(run_shard)
        shared = ray.put(job.on("cuda" if gpus else "cpu") if job.options.device == "auto" else job)
        parts = ray.put(carried_parts(by_value=True))
        waiting = list(reversed(shards))
        running: dict[Any, Shard] = {}
        while waiting or running:
            while waiting and (not self.workers or len(running) < self.workers):
                shard = waiting.pop()
                running[task.remote(shared, parts, shard)] = shard
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                shard = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise (cause if isinstance(cause, (ValueError, OSError, MemoryError)) else error) from error
                except ray.exceptions.RayError as error:  # a process or a machine that is gone
                    raise ShardFailed(shard, job, str(error).partition("\n")[0]) from error
                progress(shard, shard.stop - shard.start)
                yield shard


class _ByRun:
    """A job that is equal to every other of its run and place, so that a process keeps its worker."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __hash__(self) -> int:
        return hash((self.job.run, self.job.out))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByRun) and (self.job.run, self.job.out) == (other.job.run, other.job.out)


@lru_cache(maxsize=1)
def _worker(key: _ByRun) -> Worker:
    return Worker(key.job)


def run_shard(job: Job, parts: tuple[Carried, ...], shard: Shard) -> None:
    """The task: a process that has done one shard keeps the model for the next.

    `parts` were registered at run time where the run was started.
    """
    adopt(parts)
    _worker(_ByRun(job))(shard)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "the engine `ray` needs the package ray: pip install 'attention-outliers[cluster]'. Without it, "
            "--engine local uses all cores or GPUs of this machine."
        ) from error
    return ray

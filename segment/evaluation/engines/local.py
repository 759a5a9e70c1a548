"""The engine of one machine: a process for each worker, one worker for each GPU, nothing shared between them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import Any

import torch

from diagnostics.backbones import Backbone
from diagnostics.registry import Carried, adopt, carried_parts
from diagnostics.studies.store import DiskFull
from segment.evaluation.engines.base import TRIES, Engine, Progress, ShardFailed
from segment.evaluation.engines.main_guard import RAN_THE_SCRIPT, check_main_guard, without_guard
from segment.evaluation.job import Job, Worker
from segment.evaluation.shards import Shard

# Workers on a machine without GPUs: one for each core, but each holds the whole model. Our choice.
MOST_ON_CPU = 8
# Seconds that workers have to end by themselves. Our choice.
PATIENCE = 10.0


@dataclass(frozen=True, kw_only=True)
class Local(Engine):
    """Processes on this machine; one worker works right here, without another process.

    `workers` None: one for each GPU or, without any, one for each core (8 at most).
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"`workers` should be at least 1; got {self.workers}.")

    def count(self, device: str, shards: int) -> int:
        """How many workers there will be."""
        gpus = torch.cuda.device_count() if device == "auto" or device == "cuda" else 0
        usual = gpus or min(cores(), MOST_ON_CPU)
        if device.startswith("cuda:"):
            usual = 1
        return max(1, min(self.workers or usual, shards))

    def check(self, device: str, shards: int) -> None:
        """Refuses a script that starts workers from its top level, where each of them would run it anew."""
        if self.count(device, shards) > 1:
            check_main_guard()

    def run(
        self, job: Job, shards: Sequence[Shard], progress: Progress, *, backbone: Backbone | None = None
    ) -> Iterator[Shard]:
        if not shards:
            return
        count = self.count(job.options.device, len(shards))
        if count == 1:
            yield from _in_this_process(job, shards, progress, backbone)
            return
        del backbone
        with _Crew(job, count) as crew:
            yield from crew.run(shards, progress)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_of(device: str, worker: int) -> str:
    """`auto` and `cuda` with worker 3 of 2 GPUs -> `cuda:1`; `cpu` where there are none."""
    gpus = torch.cuda.device_count()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    return f"cuda:{worker % gpus}" if device == "cuda" and gpus else device


def _in_this_process(
    job: Job, shards: Sequence[Shard], progress: Progress, backbone: Backbone | None
) -> Iterator[Shard]:
    threads = torch.get_num_threads()
    try:
        worker = Worker(job.on(device_of(job.options.device, 0)), backbone=backbone)
        for shard in shards:
            torch.set_num_threads(job.options.threads)  # the caller may have set another
            worker(shard, lambda done, shard=shard: progress(shard, done))  # type: ignore[misc]
            yield shard
    finally:
        torch.set_num_threads(threads)


class _Hand:
    """One worker's process, the way to it, and what it has in work."""

    def __init__(self, job: Job, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.way, other = context.Pipe()
        self.shard: Shard | None = None
        self.process = context.Process(
            target=_serve,
            args=(_sent(job.on(device_of(job.options.device, number))), carried_parts(), other),
            daemon=True,
        )
        self.process.start()
        other.close()

    def give(self, shard: Shard) -> None:
        self.shard = shard
        with suppress(BrokenPipeError):  # a process that is dead is noticed by its end
            self.way.send(shard)

    def end(self, *, at_once: bool) -> None:
        with suppress(OSError):
            self.way.close()
        if at_once:
            self.process.kill()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Crew:
    """All workers of a run; leaving it ends them."""

    def __init__(self, job: Job, count: int) -> None:
        self.job, self.count = job, count
        self.hands: list[_Hand] = []

    def __enter__(self) -> _Crew:
        self.hands = [_Hand(self.job, number) for number in range(self.count)]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for hand in self.hands:
            hand.end(at_once=True)

    def run(self, shards: Sequence[Shard], progress: Progress) -> Iterator[Shard]:
        waiting = deque(shards)
        tries = dict.fromkeys(shards, 0)
        left = len(shards)
        while left:
            for hand in self.hands:
                if hand.shard is None and waiting:
                    tries[waiting[0]] += 1
                    hand.give(waiting.popleft())
            sources: dict[Any, _Hand] = {}
            for hand in self.hands:
                sources |= {hand.way: hand, hand.process.sentinel: hand}
            for hand in {id(sources[ready]): sources[ready] for ready in wait(list(sources))}.values():
                shard = hand.shard
                for kind, value in _messages(hand.way):
                    if kind == "done" and shard is not None:
                        hand.shard, left = None, left - 1
                        yield shard
                    elif kind == "progress" and shard is not None:
                        progress(shard, value)
                    elif kind == "error":
                        raise value
                if not hand.process.is_alive() and left:
                    self._replace(hand, waiting, tries, progress)

    def _replace(self, hand: _Hand, waiting: deque[Shard], tries: dict[Shard, int], progress: Progress) -> None:
        """A new process for one that died; its shard goes back to the front."""
        reason = f"worker {hand.number} ended with code {hand.process.exitcode}"
        shard = hand.shard
        if hand.process.exitcode == RAN_THE_SCRIPT:
            raise without_guard("this script")
        hand.end(at_once=True)
        if shard is not None:
            progress(shard, 0)
            if tries[shard] >= TRIES:
                raise ShardFailed(shard, self.job, reason)
            waiting.appendleft(shard)
        self.hands[self.hands.index(hand)] = _Hand(self.job, hand.number)


def _messages(way: Connection) -> Iterator[tuple[str, Any]]:
    """All that has come so far."""
    with suppress(EOFError, OSError):
        while way.poll():
            yield way.recv()


# What to do where the parts of a run can't get to another process.
INSTEAD = (
    "Parts that are defined in a notebook, a script or a function don't get to other processes: put them into a module "
    "and import them from there, or work in this process: --workers 1, in Python engine=Local(workers=1)."
)


def _sent(job: Job) -> bytes:
    """The job on its way to a process, by the means of multiprocessing; ValueError where a part of it can't go."""
    try:
        return bytes(ForkingPickler.dumps(job))
    except (AttributeError, TypeError, ValueError, PicklingError) as error:
        raise ValueError(f"this run can't be sent to worker processes: {error}. {INSTEAD}") from error


def _received(sent: bytes) -> Job:
    try:
        job: Job = ForkingPickler.loads(sent)
    except (AttributeError, ImportError) as error:
        raise ValueError(f"a worker process can't load what this run consists of: {error}. {INSTEAD}") from error
    return job


def _serve(sent: bytes, parts: tuple[Carried, ...], way: Connection) -> None:
    """The life of a worker's process: shards come in, their files are written. It ends with its parent.

    `parts` were registered at run time in the parent.
    """
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        adopt(parts)
        worker = Worker(_received(sent))
        while True:
            shard = way.recv()
            worker(shard, lambda done: way.send(("progress", done)))
            way.send(("done", None))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        with suppress(BrokenPipeError):
            way.send(("error", _sendable(error)))


def _die_with_parent() -> None:
    """Without it, workers of a run that is killed would continue, and keep the GPU from the next."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error as one that survives the way: its kind, if it is one that the command line reports in a line."""
    if isinstance(error, DiskFull):
        return DiskFull(error.errno, str(error))
    if isinstance(error, torch.OutOfMemoryError):
        return MemoryError(f"a worker ran out of memory: {error}")
    for kind in (MemoryError, OSError, ValueError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(f"a worker failed:\n{''.join(traceback.format_exception(error))}")

"""Shards: a run's images cut into pieces, and the file of exact counts that each finished piece leaves."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segment.evaluation.metrics import Counts
from segment.evaluation.storage import Storage

FOLDER = "shards"
# A shard is what a killed worker loses, and the unit that workers share out. Our choice: at most 32 images, and
# about 64 shards for smaller runs.
MOST_IMAGES, USUAL_SHARDS = 32, 64


class Shard(NamedTuple):
    """Images `start` to `stop` - 1 of the run."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Its file."""
        return f"{FOLDER}/{self.number:06d}.npz"


def shard_size(images: int) -> int:
    """Images in a shard where none is asked for; it depends on nothing but their number."""
    return max(1, min(MOST_IMAGES, math.ceil(images / USUAL_SHARDS)))


def cut(images: int, size: int) -> list[Shard]:
    """All images, each in one shard: the same for any number of workers."""
    if size < 1:
        raise ValueError(f"a shard should have at least 1 image; got {size}.")
    starts = range(0, images, size)
    return [Shard(number, start, min(start + size, images)) for number, start in enumerate(starts)]


class Sparse(NamedTuple):
    """The confusion matrix of one image, where it is not 0: true class, predicted class, pixels, (k) each."""

    truth: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> Sparse:
        """From (C, C) int64."""
        truth, predicted = matrix.nonzero()
        return cls(truth.astype(np.int32), predicted.astype(np.int32), matrix[truth, predicted])

    def counts(self, matching: np.ndarray | None = None) -> tuple[np.ndarray, Counts]:
        """The classes that occur (k), and their counts (k) each; `matching` gives predicted clusters to classes."""
        predicted = self.predicted if matching is None else matching[self.predicted]
        classes, places = np.unique(np.concatenate([self.truth, predicted]), return_inverse=True)
        truth, answers = places[: len(self.truth)], places[len(self.truth) :]
        sums = np.zeros((3, len(classes)), np.int64)
        np.add.at(sums[1], truth, self.pixels)
        np.add.at(sums[2], answers, self.pixels)
        same = truth == answers
        np.add.at(sums[0], truth[same], self.pixels[same])
        return classes, Counts(*sums)


@dataclass
class Tally:
    """What one method did on the images of a shard.

    `matrix` (C, C) int64; `boundary` (3, C) int64, right, true and predicted pixels near outlines; `images`, the
    matrix of each image apart, in the order of the shard's names.
    """

    matrix: np.ndarray
    boundary: np.ndarray
    images: list[Sparse] = field(default_factory=list)

    @classmethod
    def empty(cls, classes: int) -> Tally:
        return cls(np.zeros((classes, classes), np.int64), np.zeros((3, classes), np.int64))

    def add(self, matrix: np.ndarray, boundary: Counts | None) -> None:
        """One image."""
        self.matrix += matrix
        if boundary is not None:
            self.boundary += np.stack(boundary)
        self.images.append(Sparse.of(matrix))


@dataclass
class ShardResult:
    """A finished shard: names of the images that were scored, those that are broken with the reason, the tallies.

    `skipped` are the names of images that the protocol leaves out.
    """

    shard: Shard
    run: str
    names: list[str]
    broken: dict[str, str]
    tallies: dict[str, Tally]
    seconds: float = 0.0
    exported: str = ""
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        every = self.images
        if len(set(every)) != len(every) or len(every) != self.shard.stop - self.shard.start:
            raise DamagedShard(
                f"shard {self.shard.number} should have each of its {self.shard.stop - self.shard.start} images "
                f"once; it has {len(self.names)}, {len(self.broken)} broken and {len(self.skipped)} skipped ones."
            )

    @property
    def images(self) -> list[str]:
        """Names of all its images."""
        return [*self.names, *self.broken, *self.skipped]


class DamagedShard(ValueError):
    """A shard's file that can't be read, or contradicts itself."""


def encode_shard(result: ShardResult) -> bytes:
    """A shard's file: npz without pickled objects."""
    about = {
        "shard": result.shard._asdict(),
        "run": result.run,
        "names": result.names,
        "broken": result.broken,
        "skipped": result.skipped,
        "methods": list(result.tallies),
        "seconds": result.seconds,
        "exported": result.exported,
    }
    arrays: dict[str, np.ndarray] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for number, tally in enumerate(result.tallies.values()):
        arrays[f"{number}/matrix"] = tally.matrix
        arrays[f"{number}/boundary"] = tally.boundary
        ends = np.cumsum([len(image.pixels) for image in tally.images], dtype=np.int64)
        arrays[f"{number}/ends"] = ends if len(ends) else np.zeros(0, np.int64)
        for name, kind in (("truth", np.int32), ("predicted", np.int32), ("pixels", np.int64)):
            parts = [getattr(image, name) for image in tally.images]
            arrays[f"{number}/{name}"] = np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def decode_shard(content: bytes) -> ShardResult:
    """The shard of a file. DamagedShard for one that is cut short, of another form, or whose parts don't add up."""
    try:
        return _decoded(content)
    except DamagedShard:
        raise
    except Exception as error:  # a damaged archive fails in as many ways as zip, npy and JSON have parts
        raise DamagedShard(f"a shard's file can't be read ({type(error).__name__}: {error}).") from error


def _decoded(content: bytes) -> ShardResult:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        tallies = {method: _tally(arrays, number) for number, method in enumerate(about["methods"])}
    result = ShardResult(
        shard=Shard(**about["shard"]),
        run=about["run"],
        names=list(about["names"]),
        broken=dict(about["broken"]),
        tallies=tallies,
        seconds=float(about["seconds"]),
        exported=about["exported"],
        skipped=list(about["skipped"]),
    )
    if not all(isinstance(name, str) for name in (*result.images, *result.broken.values(), result.exported)):
        raise DamagedShard(f"shard {result.shard.number}: names and reasons should be texts.")
    for method, tally in tallies.items():
        classes = len(tally.matrix)
        if tally.matrix.shape != (classes, classes) or tally.boundary.shape != (3, classes):
            raise DamagedShard(f"shard {result.shard.number}: the matrix of `{method}` is {tally.matrix.shape}.")
        total = np.zeros_like(tally.matrix)
        for image in tally.images:
            if min(image.truth.min(initial=0), image.predicted.min(initial=0)) < 0:
                raise DamagedShard(f"shard {result.shard.number}: `{method}` has classes below 0.")
            total[image.truth, image.predicted] += image.pixels
        if len(tally.images) != len(result.names) or not np.array_equal(total, tally.matrix):
            raise DamagedShard(f"shard {result.shard.number}: the images of `{method}` don't add up to its matrix.")
    return result


def _tally(arrays: Mapping[str, np.ndarray], number: int) -> Tally:
    ends = arrays[f"{number}/ends"]
    parts = [np.split(arrays[f"{number}/{name}"], ends[:-1]) for name in ("truth", "predicted", "pixels")]
    images = [Sparse(*each) for each in zip(*parts, strict=True)] if len(ends) else []
    return Tally(arrays[f"{number}/matrix"], arrays[f"{number}/boundary"], images)


def read_shard(storage: Storage, shard: Shard, run: str) -> ShardResult:
    """The finished shard. DamagedShard also for one of another run, or of other images."""
    result = decode_shard(storage.read(shard.name))
    if result.run != run or result.shard != shard:
        raise DamagedShard(f"`{shard.name}` is of another run ({result.run}, not {run}).")
    return result


def finished(storage: Storage, shards: Sequence[Shard], run: str, *, exported: str = "") -> Iterator[ShardResult]:
    """The shards that are there and whole, with their label maps written where those are asked for.

    A damaged file counts as missing; it is written again.
    """
    names = set(storage.list(FOLDER))
    for shard in shards:
        if shard.name.rpartition("/")[2] not in names:
            continue
        try:
            result = read_shard(storage, shard, run)
        except DamagedShard:
            continue
        if not exported or result.exported == exported:
            yield result

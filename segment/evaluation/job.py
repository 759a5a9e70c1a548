"""What a worker of an evaluation needs to know, and what it does with a shard: read, segment, count, write."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images.feed import ImageSource, readable
from diagnostics.registry import parse_spec
from segment.datasets.base import Dataset, Sample
from segment.evaluation.export_labels import encoded_labels, label_png
from segment.evaluation.metrics import Counts, boundary_counts, confusion_matrix
from segment.evaluation.options import EvaluationOptions
from segment.evaluation.protocols.base import Protocol
from segment.evaluation.shards import Shard, ShardResult, Tally, encode_shard
from segment.evaluation.storage import storage_at
from segment.method import Method, TextFeatures
from segment.methods import METHODS
from segment.run import file_name, short_stem
from segment.segmenter import IMAGES_TO_FIT, Segmentation, Segmenter

# Threads that count pixels. Our choice.
COUNTERS = 2

Report = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker must know, as values that can be sent to another process or machine.

    `methods` are specs that hold what the protocol sets for them. `words` are the text features as arrays. `weights`
    is the fingerprint that the backbone must have; `run` the hash of everything that shapes the counts; `images` how
    many of the data set are scored; `out` and `export` places as storage_at takes them.
    """

    backbone: str
    options: EvaluationOptions
    methods: tuple[str, ...]
    dataset: Dataset
    dataset_name: str
    protocol: Protocol
    words: dict[str, Any] = field(repr=False)
    weights: str
    run: str
    images: int
    out: str
    export: str = ""

    def on(self, device: str) -> Job:
        """The same job for a worker on this device."""
        return replace(self, options=self.options.changed(device=device))

    @property
    def text(self) -> TextFeatures:
        """The words, on the CPU."""
        arrays = {name: torch.from_numpy(self.words[name]) for name in ("features", "owners")}
        return TextFeatures(**{**self.words, **arrays})


def packed(text: TextFeatures) -> dict[str, Any]:
    """Text features as plain arrays, which cross to other processes without shared memory."""
    return {
        "features": text.features.float().cpu().numpy(),
        "owners": text.owners.cpu().numpy(),
        "names": text.names,
        "background": text.background,
        "logit_scale": text.logit_scale,
        "logit_bias": text.logit_bias,
    }


class MethodSpec(NamedTuple):
    """A method's spec, parsed: the method's name, and the texts of its fields."""

    name: str
    fields: dict[str, str]
    text: str

    @classmethod
    def under(cls, text: str, protocol: Protocol) -> MethodSpec:
        """The spec with the settings that the protocol has for this method; those that it sets itself win."""
        name, fields = parse_spec(text)
        theirs = dict(protocol.method_fields)
        added = parse_spec(f"{name}:{theirs[name]}")[1] if name in theirs else {}
        extra = {key: value for key, value in added.items() if key not in fields}
        if extra:
            text += ("," if fields else ":") + ",".join(f"{key}={value}" for key, value in extra.items())
        return cls(name, fields | extra, text)

    def method(self, protocol: Protocol) -> Method:
        """The method with the protocol's scale, thresholds and positions, but for what the spec itself sets."""
        method = METHODS[self.name].changed(self.fields).named(self.text.strip())
        decode = {
            name: getattr(protocol, name) for name in ("scale", "threshold", "smallest_area") if name not in self.fields
        }
        if protocol.positions is not None and "positions" not in self.fields:
            method = replace(method, positions=protocol.positions)
        return replace(method, decode=replace(method.decode, **decode))


def with_protocol(specs: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """Specs with the settings that the protocol has for its own method; those that a spec sets itself win."""
    return tuple(MethodSpec.under(spec, protocol).text for spec in specs)


def under_protocol(spec: str, protocol: Protocol) -> Method:
    """The method of a spec as `MethodSpec.method` has it; what the protocol's paper sets for it is not added."""
    return MethodSpec(*parse_spec(spec), spec).method(protocol)


def segmenter_of(
    backbone: Backbone, methods: Sequence[str | Method], text: TextFeatures, protocol: Protocol, *, batch: int
) -> Segmenter:
    """The segmenter that the protocol describes; specs are brought under it, methods are taken as they are."""
    return Segmenter(
        backbone,
        [under_protocol(method, protocol) if isinstance(method, str) else method for method in methods],
        text,
        windows=protocol.windows,
        size="native" if protocol.scored == "crop" else protocol.size,
        resampling=protocol.resampling,
        refine=protocol.refine,
        batch=batch,
        strict=True,
    )


def prepared(sample: Sample, protocol: Protocol) -> tuple[Image.Image, np.ndarray]:
    """The image as the segmenter gets it, and the labels (h, w) in its size.

    With `scored=crop`: the short side is brought to that of the protocol, labels by the nearest pixel, and the middle
    square is cut out, both by torchvision's rules, as CLIPtrase has it.
    """
    image = Image.fromarray(np.ascontiguousarray(sample.image))
    if protocol.scored == "original":
        return image, sample.labels
    import torchvision.transforms.functional as vision  # here, since it takes seconds that no other protocol needs

    side = int(str(protocol.size).removeprefix("short:"))
    filters = vision.InterpolationMode
    labels = Image.fromarray(sample.labels.astype(np.int32))
    image = vision.resize(image, [side], filters(protocol.resampling))
    labels = vision.resize(labels, [side], filters.NEAREST)
    return vision.center_crop(image, [side, side]), np.asarray(vision.center_crop(labels, [side, side]))


def is_empty(labels: np.ndarray, dataset: Dataset) -> bool:
    """Whether labels (h, w) are the background's alone or, in a data set without one, those of unscored pixels alone.

    Source: leaves162/CLIPtrase 2b7de61, where both are the value 255.
    """
    only = dataset.ignore if dataset.background is None else dataset.background
    return only is not None and bool((labels == only).all())


class Worker:
    """A loaded backbone and all else that shards are done with; made once, used for many.

    It sets torch's number of threads for this process: on another number, the last bit of a score may differ.
    """

    def __init__(self, job: Job, *, backbone: Backbone | None = None) -> None:
        options = job.options
        torch.set_num_threads(options.threads)
        self.job = job
        self.storage = storage_at(job.out)
        self.backbone = backbone or load_backbone(job.backbone, device=options.device, precision=options.precision)
        weights = fingerprint(self.backbone.model)
        if weights != job.weights:
            raise ValueError(
                f"`{job.backbone}` has other weights on this machine ({weights}) than where the run was started "
                f"({job.weights}). Give all machines the same files."
            )
        segmenter = segmenter_of(self.backbone, job.methods, job.text, job.protocol, batch=options.batch)
        # Detectors that learn see the run's first images, whichever shard is in work: results don't depend on who
        # does what.
        self.segmenter = segmenter.fitted(islice(self._first_images(), IMAGES_TO_FIT))

    def __call__(self, shard: Shard, report: Report | None = None) -> None:
        """Does a shard and writes its file. `report` is called after each image with the number done in this shard."""
        self.storage.write(shard.name, encode_shard(self.run(shard, report)))

    def run(self, shard: Shard, report: Report | None = None) -> ShardResult:
        """The counts of a shard. An image that can't be read or scored is named among the broken ones."""
        job = self.job
        started = time.monotonic()
        names: list[str] = []
        broken: dict[str, str] = {}
        truths: dict[str, np.ndarray] = {}
        classes = len(job.dataset.names)
        tallies = {method: Tally.empty(classes) for method in job.methods}
        skipped: list[str] = []
        images = self._readable(range(shard.start, shard.stop), truths, broken, skipped)
        first = next(images, None)

        def take(name: str, segmentations: Sequence[Segmentation], coming: Future[Any]) -> None:
            try:
                counted = coming.result()
            except ValueError as error:
                broken[name] = str(error)
            else:
                for method, segmentation, counts in zip(job.methods, segmentations, counted, strict=True):
                    tallies[method].add(*counts)
                    self._export(method, name, segmentation.labels)
                names.append(name)
            if report is not None:
                report(len(names) + len(broken) + len(skipped))

        # Counted in other threads, while the network has the next images.
        with ThreadPoolExecutor(COUNTERS) as pool:
            waiting: deque[tuple[str, Sequence[Segmentation], Future[Any]]] = deque()
            work = () if first is None else self.segmenter.many(chain([first], images), labels=truths.__getitem__)
            for segmentations in work:
                name = segmentations[0].name
                waiting.append((name, segmentations, pool.submit(self._counted, segmentations, truths.pop(name))))
                if len(waiting) > COUNTERS:
                    take(*waiting.popleft())
            while waiting:
                take(*waiting.popleft())
        if report is not None:
            report(shard.stop - shard.start)
        seconds = time.monotonic() - started
        return ShardResult(shard, job.run, names, broken, tallies, seconds, job.export, skipped)

    def _counted(
        self, segmentations: Sequence[Segmentation], truth: np.ndarray
    ) -> list[tuple[np.ndarray, Counts | None]]:
        job = self.job
        ignore = () if job.dataset.ignore is None else (job.dataset.ignore,)
        classes = len(job.dataset.names)
        return [
            (
                confusion_matrix(segmentation.labels, truth, classes, ignore=ignore),
                boundary_counts(segmentation.labels, truth, classes, ignore=ignore) if job.options.boundary else None,
            )
            for segmentation in segmentations
        ]

    def _export(self, method: str, name: str, labels: np.ndarray) -> None:
        job = self.job
        if job.export:
            content = label_png(encoded_labels(labels, job.dataset_name, job.dataset))
            storage_at(job.export).write(f"{file_name(method)}/{short_stem(name)}.png", content)

    def _readable(
        self, numbers: range, truths: dict[str, np.ndarray], broken: dict[str, str], skipped: list[str]
    ) -> Iterator[tuple[str, Image.Image]]:
        """Names and images, read ahead; labels go into `truths`, what can't be read into `broken`, and what the
        protocol leaves out into `skipped`.
        """
        dataset, protocol = self.job.dataset, self.job.protocol
        sources = (ImageSource(number, dataset.sample_name(number), dataset) for number in numbers)

        def open_sample(source: ImageSource) -> tuple[Image.Image, np.ndarray]:
            return prepared(dataset[source.number], protocol)

        for source, (image, labels) in readable(sources, open_sample, broken, errors=(ValueError, OSError)):
            if protocol.empty == "skipped" and is_empty(labels, dataset):
                skipped.append(source.name)
                continue
            truths[source.name] = labels
            yield source.name, image

    def _first_images(self) -> Iterator[tuple[str, Image.Image]]:
        return self._readable(range(self.job.images), {}, {}, [])

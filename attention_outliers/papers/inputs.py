"""What a figure of a paper is drawn from: images, backbones, and labels and words where there are any."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

import diagnostics
from diagnostics import Backbone, Layout, Recorder, Recording
from diagnostics.images import ImageError, denormalize, open_image
from diagnostics.images.label_maps import find_label, read_labels, shared_labels
from diagnostics.images.sizes import as_size
from figures.lettering import backbone_name, backbone_names
from segment.datasets.base import Dataset, Sample
from segment.encoders.encode_many import encode_many
from segment.evaluation.metrics import Resampled, paired_difference
from segment.evaluation.score_methods import score_methods
from segment.method import Encoding, TextFeatures
from segment.one_image import segment_one

# Depth of the model in all the papers' figures; layers of other depths are the nearest in proportion (our choice).
PAPER_DEPTH = 12


class Labeled(Dataset):
    """Images with their label maps, held in memory."""

    def __init__(self, samples: Sequence[Sample], names: tuple[str, ...], ignore: int | None) -> None:
        self.samples, self.names, self.ignore, self.background = list(samples), names, ignore, None

    def __len__(self) -> int:
        return len(self.samples)

    def sample_name(self, index: int) -> str:
        return self.samples[index].name

    def read(self, index: int) -> Sample:
        return self.samples[index]


@dataclass(frozen=True, kw_only=True)
class FigureInputs:
    """Images, uint8 (h, w, 3), with their names; the backbone; and what only some figures need.

    `labels` are label maps (h, w) of the images, `ignore` the label that is no class; `text` are words, whose order
    is that of the labels' numbers; `second` is another backbone to stand beside the first.
    """

    backbone: Backbone
    images: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    labels: tuple[np.ndarray, ...] | None = None
    ignore: int = 255
    text: TextFeatures | None = None
    second: Backbone | None = None
    # mIoU by backbone and method, kept since several figures ask for the same.
    known: dict[tuple[str, str], float] = field(default_factory=dict, init=False, repr=False, compare=False)
    # The resamples behind them.
    resamples: dict[tuple[str, str], Resampled] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def model(self) -> str:
        """The backbone's name for titles, without its file."""
        return backbone_name(self.backbone.spec)

    @property
    def models(self) -> dict[str, str]:
        """Spec -> name of the backbones, which tells them apart."""
        return backbone_names(model.spec for model in self.backbones)

    @property
    def backbones(self) -> list[Backbone]:
        return [self.backbone] if self.second is None else [self.backbone, self.second]

    def with_backbone(self, backbone: Backbone) -> FigureInputs:
        """The same images for another backbone, without words: those were read by the first one's text tower."""
        return replace(self, backbone=backbone, text=None, second=None)

    def only(self, number: int) -> FigureInputs:
        """The same with one of the images alone."""
        labels = None if self.labels is None else (self.labels[number],)
        return replace(self, images=(self.images[number],), names=(self.names[number],), labels=labels)

    def since(self, first: int) -> FigureInputs:
        """The same with the images from number `first` on."""
        labels = None if self.labels is None else self.labels[first:]
        return replace(self, images=self.images[first:], names=self.names[first:], labels=labels)

    def tensor(self, number: int = 0) -> Tensor:
        """One image as the backbone wants it, at its own size: (1, 3, h, w) on its device."""
        model = self.backbone
        size = as_size(model.native_size)
        image = diagnostics.load_image(self.images[number], size=size, mean=model.mean, std=model.std)
        return image[None].to(model.device)

    def pixels(self, number: int = 0) -> np.ndarray:
        """What the backbone sees of an image: (h, w, 3) in [0, 1]."""
        pixels = denormalize(self.tensor(number).float(), self.backbone.mean, self.backbone.std).clamp(0, 1)
        return np.asarray(pixels[0].permute(1, 2, 0).cpu())

    @cached_property
    def layout(self) -> Layout:
        """Where the tokens sit; the backbone's own size is the same for all images."""
        return self.backbone.layout(self.tensor())

    @property
    def grid(self) -> tuple[int, int]:
        return (self.layout.grid.rows, self.layout.grid.cols)

    def layer(self, of_twelve: int) -> int:
        """The layer of this model that stands where `of_twelve` stands among 12: at least 1."""
        return max(1, min(self.backbone.depth, round(of_twelve * self.backbone.depth / PAPER_DEPTH)))

    def layers(self, *of_twelve: int) -> list[int]:
        return sorted({self.layer(layer) for layer in of_twelve})

    def record(self, *taps: str, layers: Iterable[int] | None = None, number: int = 0) -> Recording:
        """Taps of one image's stock forward."""
        recorder = Recorder(*taps, layers=None if layers is None else list(layers))
        with torch.no_grad():
            self.backbone.trunk(self.tensor(number), tap=recorder)
        return recorder.recording

    def probe(self, *measures: Any, backbone: Backbone | None = None, labeled: bool = False, **more: Any) -> xr.Dataset:
        """Measurements of all images, at the backbone's own size."""
        if labeled and self.labels is not None:
            more |= {"labels": list(self.labels), "ignore": (self.ignore,)}
        return diagnostics.probe(backbone or self.backbone, list(self.images), measures=list(measures) or None, **more)

    def encoded(self, *methods: str, number: int = 0) -> list[Encoding]:
        """Dense features of one image by each method."""
        return encode_many(self.backbone, self.tensor(number), list(methods))

    def label_maps(self, *methods: str, number: int = 0) -> dict[str, np.ndarray]:
        """Label maps of one image in its own size by each method, the image seen whole."""
        return segment_one(self.backbone, self.images[number], self.words, list(methods), **self.whole)

    def scored(self, methods: Sequence[str], backbone: Backbone | None = None) -> dict[str, float]:
        """Mean IoU of each method over all images, in per cent."""
        if self.labels is None:
            raise ValueError("this figure scores label maps; give --labels DIR and --classes, or --scenes N.")
        model = backbone or self.backbone
        missing = [spec for spec in dict.fromkeys(methods) if (model.spec, spec) not in self.known]
        if missing:
            pairs = zip(self.images, self.labels, self.names, strict=True)
            samples = [Sample(image, labels, name) for image, labels, name in pairs]
            dataset = Labeled(samples, self.words.names, self.ignore)
            text = self.words if model is self.backbone else None
            result = score_methods(model, dataset, missing, text=text, **self.whole)
            scores = result.table()["mIoU"]
            self.resamples.update({(model.spec, spec): result.resampled[spec] for spec in missing})
            self.known.update({(model.spec, spec): 100 * float(scores[spec]) for spec in missing})
        return {spec: self.known[model.spec, spec] for spec in methods}

    def are_apart(self, first: str, second: str) -> bool:
        """Whether two methods' mIoU on the first backbone differ by more than what other images would make of it.

        The 95 % interval of their difference, both on the same resampled images, does not hold 0.
        """
        self.scored([first, second])
        spec = self.backbone.spec
        interval, _ = paired_difference(self.resamples[spec, first], self.resamples[spec, second])
        return not interval.low <= 0 <= interval.high

    @property
    def words(self) -> TextFeatures:
        if self.text is None:
            raise ValueError("this figure needs words; give --classes 'cat, dog, grass', or --scenes N.")
        return self.text

    @property
    def scored_as(self) -> str:
        """The settings under which `scored` sees images, as `--set` of `outliers reproduce` takes them."""
        return ", ".join(f"{name}={value}" for name, value in self.whole.items())

    @property
    def whole(self) -> dict[str, Any]:
        """Options of segmentation: the image whole, in its own shape, its short side as the backbone's."""
        return {"windows": "whole", "size": f"short:{min(self.backbone.native_size)}"}


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A figure of a paper: how it is drawn, what it shows, and what the paper says is seen there.

    `each`: it is about one image, and drawn for each of those given. `needs` names what it can't do without: `words`,
    `labels`. `pair`: it sets a second backbone beside the first. `continues` names a figure of the same paper whose
    next images it shows, `most` how many images a figure about several shows.
    """

    draw: Callable[[FigureInputs], Figure]
    shows: str
    claim: str = ""
    each: bool = False
    needs: tuple[str, ...] = ()
    pair: bool = False
    continues: str = ""
    most: int = 0

    def view(self, inputs: FigureInputs, number: int = 0) -> FigureInputs:
        """What it is drawn from: image `number` alone where it is about one, else all that it shows.

        A figure that continues another begins behind the images of that one. ValueError where there are none, and for
        a second backbone that it would not show.
        """
        if inputs.second is not None and not self.pair:
            raise ValueError(
                f"this figure is drawn from one backbone, and `{inputs.second.spec}` would not be seen in it; leave "
                "the second one out, or give it as the first."
            )
        first = number if self.each else self.most if self.continues else 0
        if first >= len(inputs.images):
            raise ValueError(
                f"this figure shows the images behind the first {first}, which are those of {self.continues}; got "
                f"{len(inputs.images)} images. Give more of them."
            )
        return inputs.only(number) if self.each else inputs.since(first)

    def views(self, inputs: FigureInputs, each: int = 1) -> list[FigureInputs]:
        """What it is drawn from, one by one: at most `each` images alone, or all that it shows at once."""
        if not self.each:
            return [self.view(inputs)]
        first = each if self.continues else 0
        last = max(min(first + each, len(inputs.images)), first + 1)
        return [self.view(inputs, number) for number in range(first, last)]


def takes_words(model: Backbone) -> bool:
    """Whether the model has a text tower."""
    return model.has_text


def scenes_of(count: int, model: Backbone) -> FigureInputs:
    """Drawn scenes with their labels."""
    from segment.datasets.shapes import Shapes

    samples = list(Shapes(scenes=count))
    return FigureInputs(
        backbone=model,
        images=tuple(sample.image for sample in samples),
        names=tuple(sample.name for sample in samples),
        labels=tuple(sample.labels for sample in samples),
    )


def images_of(
    images: list[str], model: Backbone, labels: Path | None, ignore: int
) -> tuple[FigureInputs, dict[str, str]]:
    """Images that can be opened, with their label maps; name -> reason of those that can't be."""
    paths = diagnostics.image_paths(images)
    opened: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    left_out: dict[str, str] = {}
    shared = {} if labels is None else shared_labels(list(paths.values()), labels)
    for number, (name, path) in enumerate(paths.items()):
        try:
            image = open_image(path)
            if labels is not None and number in shared:
                left_out[name] = f"{name}: would share the label map {shared[number][0]} with another image"
                continue
            if labels is not None:
                maps[name] = read_labels(find_label(path, labels), expected_size=image.size)
            opened[name] = np.asarray(image)
        except ImageError as error:
            left_out[name] = str(error)
    if not opened:
        raise ValueError(f"none of the {len(paths)} images can be read. The first: {next(iter(left_out.values()))}")
    inputs = FigureInputs(
        backbone=model,
        images=tuple(opened.values()),
        names=_short_names(list(opened)),
        labels=tuple(maps[name] for name in opened) if labels is not None else None,
        ignore=ignore,
    )
    return inputs, left_out


def _short_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names without their suffixes, but for those that only these tell apart."""
    stems = [re.sub(r"\.\w+$", "", name) for name in names]
    return tuple(stem if stems.count(stem) == 1 else name for name, stem in zip(names, stems, strict=True))


def with_words(
    inputs: FigureInputs,
    classes: str | Path | None,
    templates: str,
    embeddings: Path | None = None,
    *,
    drawn: bool = False,
) -> FigureInputs:
    """The same with words: `classes`, a text or a file; those of drawn scenes where none are given.

    Drawn scenes stay without words where the model has no text tower.
    """
    from segment.datasets.shapes import NAMES
    from segment.text.features import text_features
    from segment.text.vocabulary import Vocabulary

    if classes is None and not (drawn and takes_words(inputs.backbone)):
        return inputs
    vocabulary = Vocabulary.parse(", ".join(NAMES) if classes is None else classes)
    return replace(inputs, text=text_features(inputs.backbone, vocabulary, templates, rows=embeddings))

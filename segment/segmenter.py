"""Images and words in, label maps out: windows, one stock forward for all methods, merge, refine, decode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.images import (
    OPENCV,
    RESAMPLING,
    ImageError,
    as_image,
    normalize,
    resize,
)
from diagnostics.images.feed import (
    NO_IMAGES,
    ImageSource,
    ListedImage,
    Window,
    image_sources,
    in_batches,
    progress_bar,
    readable,
    stacked,
)
from diagnostics.images.label_maps import resize_labels
from diagnostics.layout import Padding
from diagnostics.memory import check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.printable import printable
from diagnostics.registry import unknown_name
from segment.decoding.decode import check_decode, decode
from segment.decoding.merge import ScoreAccumulator, ScoreMaps
from segment.decoding.refine import REFINERS, Canvas, Refiner
from segment.decoding.windows import WINDOWS, WindowGrid, Windows
from segment.encoders.encode_many import check_labels, encode_many
from segment.method import Decode, Method, Scores, TextFeatures
from segment.methods import METHODS
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary

# Detectors that learn look at the first images, and at no more windows of them. Our choice.
IMAGES_TO_FIT = 8
WINDOWS_TO_FIT = 32

# An image, or a group of small ones, of so many windows has a progress bar of its own. Our choice.
MANY_WINDOWS = 64

# The options of a run that a segmenter heeds.
USES = frozenset({"size", "batch", "positions", "strict", "progress"})

# What to do where one window alone is too much.
SMALLER = "choose smaller windows (slide:crop=224), a smaller --size, or fewer methods at once"

Result = TypeVar("Result")
# The true label map (h, w) of an image, in its own size, by the image's name.
Truth = Callable[[str], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """One image's labels by one method.

    `labels` (H, W) int64 in the image's own size, numbers of `names`, -1 where no window looked; `confidence` (H, W)
    float32 in [0, 1], the probability of the likeliest class. `number` counts the images of the run from 0, those
    left out included. `method` is its spec; `background` the class that stands for the rest, or None; `image` upright
    8-bit RGB; `path` of its file, or None.
    """

    labels: np.ndarray
    confidence: np.ndarray
    names: tuple[str, ...]
    name: str
    number: int
    method: str
    image: Image.Image
    background: int | None = None
    path: Path | None = None

    @property
    def areas(self) -> np.ndarray:
        """Share of the scored pixels that each class has: (C,), adding to 1."""
        counts = self._counts()
        return counts / max(1, counts.sum())

    @property
    def scores(self) -> np.ndarray:
        """Mean confidence over the pixels of each class: (C,), nan for a class without pixels."""
        sums = np.bincount(self.labels[self._scored()], self.confidence[self._scored()], minlength=len(self.names))
        counts = self._counts()
        return np.divide(sums, counts, out=np.full(len(self.names), np.nan), where=counts > 0)

    def _scored(self) -> np.ndarray:
        return self.labels >= 0

    def _counts(self) -> np.ndarray:
        return np.bincount(self.labels[self._scored()], minlength=len(self.names))


class Segmentations(Generic[Result]):
    """The run over some images: an iterator; `left_out` names those that could not be read so far, and why."""

    def __init__(self, results: Iterator[Result], left_out: dict[str, str]) -> None:
        self._results, self._left_out = results, left_out

    @property
    def left_out(self) -> Mapping[str, str]:
        """Name of each image left out up to here -> the reason."""
        return dict(self._left_out)

    def __iter__(self) -> Iterator[Result]:
        return self._results

    def __next__(self) -> Result:
        return next(self._results)


@dataclass(frozen=True)
class _Opened:
    """An image opened: `shown` (3, h, w) uint8 is what windows are cut from.

    `labels` (h, w) int64: its true label map in that size, where a method looks at it.
    """

    source: ImageSource
    image: Image.Image
    shown: Tensor
    places: WindowGrid
    labels: Tensor | None = None

    def windows(self, place: int) -> Iterator[Window]:
        """Its windows, row by row, of the image at that place in its group."""
        truths = () if self.labels is None else (part[0] for part in self.places.cut(self.labels[None]))
        for number, (pixels, truth) in enumerate(zip_longest(self.places.cut(self.shown), truths)):
            yield Window(place, number, pixels, truth)


class Segmenter:
    """Segments images by words with one method or several, which share one stock forward pass.

    `methods`: specs or Methods, one or many. `text`: features of words (segment.text.features.text_features), or the
    words, as Vocabulary.parse takes them: "cat, dog, grass". `windows`, a part or its spec, say which parts of an
    image the network sees. `resampling` as diagnostics.images.resize; `opencv` is what the released codes of the SCLIP
    line use. `decode` stands for the methods' own settings; `refine` is a refiner or its spec, such as `pamr`;

    Keywords, or `options`, are those of RunOptions: `size` images are brought to before they are cut into windows, the
    windows' own choice by default (short side 336 for windows of 224); `batch`, how many windows go through the network
    at once, those of one shape together, of several images if need be; `positions`, one position interpolation for all
    methods; `strict`; `progress`, a bar over the windows of images that have many.

    Memory beside the model: at most 45 bytes a pixel of the image in work and 12 for each further method, 4 bytes for
    each query, window and patch of it, and 6 bytes a pixel of images read ahead. Scores are decoded in tiles.

    The segmenter is never changed by its runs; detectors that learn are fitted at the start of each on its first
    images (8 at most, our choice), or once by `fitted`.
    """

    def __init__(
        self,
        backbone: Backbone,
        methods: str | Method | Sequence[str | Method],
        text: TextFeatures | Vocabulary | str | Path | Sequence[str | Sequence[str]],
        *,
        windows: Windows | str = "slide",
        resampling: str = OPENCV,
        decode: Decode | None = None,
        refine: Refiner | str = "none",
        options: RunOptions | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> None:
        self.backbone = backbone
        self.options = run_options("Segmenter", options, keywords, uses=USES)
        several = [methods] if isinstance(methods, (str, Method)) else list(methods)
        self.methods: tuple[Method, ...] = tuple(METHODS.build(method) for method in several)
        self.windows: Windows = WINDOWS.build(windows) if isinstance(windows, str) else windows
        self.refine: Refiner = REFINERS.build(refine) if isinstance(refine, str) else refine
        size = self.options.size
        self.size = (
            self.windows.shown(backbone.native_size) if size is None else self.options.size_for(backbone.native_size)
        )
        self.resampling = resampling
        self.decodes: tuple[Decode, ...] = tuple(decode or method.decode for method in self.methods)
        self._are_fitted = False
        if not self.methods:
            raise ValueError(f"`methods` should name at least one method; known: {', '.join(METHODS)}.")
        if resampling not in (*RESAMPLING, OPENCV):
            raise unknown_name("resampling", resampling, (*RESAMPLING, OPENCV))
        self.text = text if isinstance(text, TextFeatures) else text_features(backbone, text)
        check_text(self.text)
        for settings in self.decodes:
            check_decode(settings, self.text.background)

    def settings(self) -> dict[str, Any]:
        """Everything that shapes the result but the images and words, as values that JSON has."""
        return {
            "backbone": self.backbone.spec,
            **self.backbone.origin,
            "precision": str(self.backbone.dtype).removeprefix("torch."),
            "methods": {
                method.spec: {key: _plain(value) for key, value in method.settings().items()}
                | {key: _plain(value) for key, value in vars(settings).items()}
                for method, settings in zip(self.methods, self.decodes, strict=True)
            },
            "positions": self.options.positions,
            "windows": repr(self.windows),
            "size": str(self.size),
            "resampling": self.resampling,
            "refine": repr(self.refine),
        }

    def __call__(self, images: Any, *, labels: Truth | None = None) -> Segmentations[Segmentation]:
        """Labels of images, one after another, by the one method.

        `images`: a file, folder, glob, PIL image or array (h, w, 3), or any iterable of them, which is read no
        further ahead than needed: memory does not grow with their number. An image that can't be read is named in the
        run's `left_out`, or raises ImageError with `strict`; so does ValueError where none can. `labels` gives the true
        label map (h, w) of an image, in its own size, by its name, for methods that look at it; it is not asked for
        others.
        """
        if len(self.methods) != 1:
            raise ValueError(f"there are {len(self.methods)} methods; ask for all of them: segmenter.many(images).")
        left_out: dict[str, str] = {}
        return Segmentations((results[0] for results in self._run(images, left_out, labels)), left_out)

    def many(self, images: Any, *, labels: Truth | None = None) -> Segmentations[tuple[Segmentation, ...]]:
        """Labels of images by every method, in their order; images and true label maps as in a call."""
        left_out: dict[str, str] = {}
        return Segmentations(self._run(images, left_out, labels), left_out)

    def scores(self, image: Any) -> tuple[Tensor, ...]:
        """Merged and refined scores of one image by each method, all at once: (Q, H, W), before scale and softmax.

        For looking at: it takes memory for every query at every pixel. NaN where no window looked. With a scorer that
        scores classes it is (C, H, W).
        """
        opened = next(self._opened([image], {}, strict=True))
        scores = next(self._scored([opened], self._ready([opened])))
        return tuple(maps.whole().masked_fill_(~maps.scored.to(maps.owners.device), torch.nan) for maps in scores)

    def fitted(self, images: Any) -> Segmenter:
        """The segmenter with detectors that learn fitted once, on the first of these images."""
        if not any(method.learns for method in self.methods):
            return self
        ready = copy.copy(self)
        ready.methods = self._ready(list(islice(self._opened(images, {}), IMAGES_TO_FIT)))
        ready._are_fitted = True
        return ready

    def window_of(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) in pixels of the windows that an image of its own width and height is cut into."""
        return self.windows.places(self.size.of(width, height), self.backbone.native_size).window

    # Images

    def _opened(
        self, images: Any, left_out: dict[str, str], labels: Truth | None = None, *, strict: bool | None = None
    ) -> Iterator[_Opened]:
        """Images that could be read, opened some ahead of the work."""

        def open_source(source: ImageSource) -> _Opened:
            opened = self._open(source)
            return opened if labels is None else replace(opened, labels=true_labels(opened, labels(source.name)))

        strict = self.options.strict if strict is None else strict
        before, opened = len(left_out), 0
        for _, image in readable(image_sources(images), open_source, left_out, strict=strict):
            opened += 1
            yield image
        unreadable = len(left_out) - before
        if not opened and not unreadable:
            raise ValueError(NO_IMAGES)
        if not opened:
            raise ValueError(f"none of the {unreadable} images can be read. The first: {next(iter(left_out.values()))}")

    def _open(self, source: ImageSource) -> _Opened:
        image = as_image(source.image)
        size = self.size.of(*image.size)
        places = self.windows.places(size, self.backbone.native_size)
        self.check_memory(source.name, places.window)
        # Kept in 8 bits, and windows normalized as they are used: a quarter of the memory of a large image.
        shown = torch.from_numpy(np.array(resize(image, *size, resampling=self.resampling)))
        return _Opened(source, image, shown.permute(2, 0, 1).contiguous(), places)

    def _normalized(self, shown: Tensor) -> Tensor:
        """8-bit RGB (…, 3, h, w) as the network gets it, on its device."""
        scaled = shown.to(self.backbone.device).float().div_(255)
        return normalize(scaled, self.backbone.mean, self.backbone.std)

    def check_memory(self, name: str, window: tuple[int, int]) -> None:
        """Refuses an image whose windows of (height, width) are too large for the memory, one by one."""
        check_memory(
            self.backbone,
            [ListedImage(name, None, size=window)],
            [method.encoder for method in self.methods],
            device=str(self.backbone.device),
            advice=SMALLER,
        )

    def _blocks(self, images: Iterator[_Opened]) -> Iterator[list[_Opened]]:
        """Images in groups that fill a batch of windows, or one alone that does."""
        block: list[_Opened] = []
        for opened in images:
            block.append(opened)
            if sum(item.places.count for item in block) >= self.options.batch:
                yield block
                block = []
        if block:
            yield block

    def _ready(self, first: Sequence[_Opened]) -> tuple[Method, ...]:
        """The methods, with detectors that learn fitted on windows of the first images, those of one shape."""
        if self._are_fitted or not any(method.learns for method in self.methods) or not first:
            return self.methods
        cut = [window for opened in first for window in opened.places.cut(opened.shown)]
        alike = [window for window in cut if window.shape == cut[0].shape]
        # Evenly spread, so that not all come from the first image.
        chosen = alike[:: -(-len(alike) // WINDOWS_TO_FIT)]
        images = self._normalized(torch.stack(chosen))
        with torch.no_grad():
            return tuple(method.fitted(self.backbone, images) for method in self.methods)

    # Scores and labels

    def _run(self, images: Any, left_out: dict[str, str], labels: Truth | None) -> Iterator[tuple[Segmentation, ...]]:
        check_labels(self.methods, labels is not None)
        looks = any(method.encoder.uses_labels for method in self.methods)
        opened = self._opened(images, left_out, labels if looks else None)
        first: list[_Opened] = []
        if not self._are_fitted and any(method.learns for method in self.methods):
            first = list(islice(opened, IMAGES_TO_FIT))
        methods = self._ready(first)
        for block in self._blocks(chain(first, opened)):
            for item, scores in zip(block, self._scored(block, methods), strict=True):
                yield tuple(
                    self._segmentation(item, method, maps, settings)
                    for method, maps, settings in zip(methods, scores, self.decodes, strict=True)
                )

    def _scored(self, block: Sequence[_Opened], methods: Sequence[Method]) -> Iterator[list[ScoreMaps]]:
        """Refined scores of each image by each method; the windows of all images go through the network first."""
        gathered = [
            [ScoreAccumulator(item.places, (item.image.height, item.image.width)) for _ in methods] for item in block
        ]
        windows = [window for place, item in enumerate(block) for window in item.windows(place)]

        def work(batch: list[Window]) -> list[tuple[Scores, Padding]]:
            truths = [window.labels for window in batch if window.labels is not None]
            return self._window_scores(
                self._normalized(stacked(batch)), methods, torch.stack(truths) if truths else None
            )

        batches = in_batches(windows, self.options.batch, work, what="window", advice=SMALLER)
        for batch, by_method in self._counted(batches, block):
            for column, (scores, padding) in enumerate(by_method):
                for row, window in enumerate(batch):
                    maps = gathered[window.place][column]
                    maps.add(window.number, scores.maps[row], padding, by_class=scores.by_class)
        for item, columns in zip(block, gathered, strict=True):
            canvas = self._canvas(item)
            classes = torch.arange(len(self.text.names))
            yield [
                self.refine.scores(column.merged(classes if column.by_class else self.text.owners), canvas)
                for column in columns
            ]
            columns.clear()

    def _counted(self, batches: Iterator[tuple[list[Window], Any]], block: Sequence[_Opened]) -> Iterator[Any]:
        """The batches, with a bar over the windows of an image that takes a while."""
        total = sum(item.places.count for item in block)
        if not self.options.progress or total < MANY_WINDOWS:
            yield from batches  # without a bar, whose locks are left behind where a worker is ended
            return
        title = printable(block[0].source.name) if len(block) == 1 else f"{len(block)} images"
        with progress_bar(title, total, unit="window", leave=False) as bar:
            for batch, by_method in batches:
                yield batch, by_method
                bar.update(len(batch))

    @torch.no_grad()
    def _window_scores(
        self, images: Tensor, methods: Sequence[Method], labels: Tensor | None
    ) -> list[tuple[Scores, Padding]]:
        """Score maps of a batch of windows by each method, and how far they reach beyond the windows."""
        height, width = images.shape[-2:]
        by_method = []
        encodings = encode_many(
            self.backbone, images, methods, positions=self.options.positions, labels=labels, text=self.text
        )
        for method, encoding in zip(methods, encodings, strict=True):
            if encoding.patches.shape[-1] != self.text.features.shape[1]:
                raise ValueError(
                    f"the words have {self.text.features.shape[1]} features, and patches of `{self.backbone.spec}` by "
                    f"`{method.spec}` have {encoding.patches.shape[-1]}. Make the words' features with this backbone."
                )
            pad = encoding.padding
            size = (height + pad.top + pad.bottom, width + pad.left + pad.right)
            scores = method.scorer(encoding, self.text, size)
            wanted = len(self.text.names) if scores.by_class else len(self.text.owners)
            are_labels = scores.by_class and not scores.maps.is_floating_point()
            if scores.maps.shape[1] != (1 if are_labels else wanted):
                kind = "classes" if scores.by_class else "queries"
                raise ValueError(
                    f"the scorer of `{method.spec}` should give a map for each of {wanted} {kind}; got "
                    f"{tuple(scores.maps.shape)}."
                )
            if not torch.isfinite(scores.maps).all():
                raise ValueError(
                    f"`{method.spec}` gave NaN or infinite scores on `{self.backbone.spec}` in "
                    f"{str(self.backbone.dtype).removeprefix('torch.')}. Try fp32, or another method or detector."
                )
            by_method.append((scores, pad))
        return by_method

    def _canvas(self, item: _Opened) -> Canvas:
        source = item.source

        def shown() -> Tensor:
            return self._normalized(item.shown)

        return Canvas(image=item.image, shown_by=shown, name=source.name, path=source.path, text=self.text)

    def _segmentation(self, item: _Opened, method: Method, scores: ScoreMaps, settings: Decode) -> Segmentation:
        with torch.no_grad():
            decoded = decode(scores, settings, background=self.text.background)
            labels = self.refine.labels(decoded.labels, self._canvas(item))
        return Segmentation(
            labels=labels.cpu().numpy(),
            confidence=decoded.confidence.cpu().numpy(),
            names=self.text.names,
            name=item.source.name,
            number=item.source.number,
            method=method.spec,
            image=item.image,
            background=self.text.background,
            path=item.source.path,
        )


def true_labels(opened: _Opened, labels: np.ndarray) -> Tensor:
    """An image's own label map (H, W) in the size that it is shown in, each pixel the label under its center."""
    original = opened.image.height, opened.image.width
    if labels.shape != original or not np.issubdtype(labels.dtype, np.integer):
        raise ImageError(
            opened.source.name,
            f"its true labels should be whole numbers of (h, w) = {original}; got {labels.dtype} of {labels.shape}",
            "Give them in the image's own size",
        )
    return torch.from_numpy(resize_labels(labels.astype(np.int64), *opened.shown.shape[-2:]))


def check_specs(methods: Sequence[Method]) -> None:
    """Refuses methods of equal specs, where results are kept by spec."""
    specs = [method.spec for method in methods]
    for spec in specs:
        if not spec or specs.count(spec) > 1:
            raise ValueError(
                f"methods should have specs that tell them apart; got {', '.join(f'`{name}`' for name in specs)}. Name "
                "each once, or give a changed method a spec of its own: dataclasses.replace(method, spec='mine')."
            )


def check_text(text: TextFeatures) -> None:
    """Refuses words that can't be scored against, saying what is wrong with them."""
    features, owners, classes = text.features, text.owners, len(text.names)
    if features.ndim != 2 or not features.is_floating_point() or owners.shape != features.shape[:1]:
        raise ValueError(
            f"`text` should have features (Q, E) and owners (Q); got {features.dtype} {tuple(features.shape)} and "
            f"{tuple(owners.shape)}."
        )
    lengths = features.float().norm(dim=1)
    least = 0.0 if text.blended else 0.99
    fit = (lengths > least) & (lengths < 1.01)  # NaN does not
    if not bool(fit.all()):
        bad = int(fit.logical_not().nonzero()[0])
        raise ValueError(
            f"the features of `text` should be unit vectors; row {bad} has length {float(lengths[bad]):g}. Normalize "
            "them: torch.nn.functional.normalize(features, dim=1)."
        )
    if not torch.equal(owners.unique().cpu(), torch.arange(classes)):
        raise ValueError(
            f"each of the {classes} classes should own at least one query, by its number 0…{classes - 1}; the owners "
            f"are {owners.unique().tolist()}."
        )
    if text.background is not None and not 0 <= text.background < classes:
        raise ValueError(f"`background` should be one of the classes 0…{classes - 1}; got {text.background}.")


def _plain(value: Any) -> Any:
    """A setting as JSON has it; parts by their repr."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)

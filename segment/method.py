"""What a method is: an encoder of dense features, a scorer against words, a decoder to labels, and the paper."""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import QKV, Backbone, Block
from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import Detector
from diagnostics.layout import Layout, Padding, padding_to_patches
from diagnostics.purifiers.base import Purifier
from diagnostics.registry import Value, convert, unknown_name
from diagnostics.taps import Recording, resolve_layer

# A named place of the stock forward that an encoder reads: (tap, layer), the layer as 1…L, 0 or negative.
TapSite = tuple[str, int]


class Activations:
    """What the stock forward pass over one batch left behind; all methods read from the same one.

    `images` (B, 3, h, w) are normalized; `layout` says where the tokens sit; `recording` holds the places that the
    methods asked for. `labels` (B, N) int64, the most frequent value of the true label map in each patch, are there
    where a method looks at the truth; `text`, the words, where it reads them. `positions` is how the pass interpolated
    the position table, None for the backbone's own way.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Tensor,
        layout: Layout,
        recording: Recording,
        labels: Tensor | None = None,
        *,
        text: TextFeatures | None = None,
        positions: str | None = None,
    ) -> None:
        self.backbone, self.images, self.layout, self.recording = backbone, images, layout, recording
        self.labels, self.text, self.positions = labels, text, positions
        self._heads: dict[int, QKV] = {}
        self._blocks: list[Block] | None = None

    @property
    def blocks(self) -> list[Block]:
        """The blocks 1…L on this pass's grid: what an encoder recombines."""
        if self._blocks is None:
            self._blocks = self.backbone.blocks_on(self.layout)
        return self._blocks

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return self.backbone.depth

    def tokens(self, layer: int) -> Tensor:
        """What leaves a block: (B, T, D); needs ("block_out", layer)."""
        return self.recording["block_out", layer]

    def patches(self, layer: int) -> Tensor:
        """The patches among `tokens`: (B, N, D)."""
        return self.layout.patches(self.tokens(layer))

    def class_token(self, layer: int) -> Tensor | None:
        """The class token among `tokens`: (B, D); None for a model without one."""
        return self.layout.class_token_or_none(self.tokens(layer))

    def heads(self, layer: int) -> QKV:
        """Queries, keys and values of a block on the stock tokens, made once; needs ("block_out", layer - 1)."""
        layer = resolve_layer(layer, self.depth)
        if layer not in self._heads:
            self._heads[layer] = self.blocks[layer - 1].qkv(self.tokens(layer - 1))
        return self._heads[layer]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Dense features of a batch, in the space of the text.

    `patches` (B, N, E) come after the final norm and projection, before L2 normalization, row by row of `layout` (whose
    grid need not be the backbone's). `class_token` (B, E) or None. `padding` says how many pixels on each side of the
    image the grid covers beyond it. `extras` holds what else a method has to show, such as an affinity (B, N, N) or
    the mask of outliers (B, N).
    """

    patches: Tensor
    class_token: Tensor | None
    layout: Layout
    padding: Padding
    extras: dict[str, Tensor] = field(default_factory=dict)


def encoding(
    activations: Activations,
    tokens: Tensor,
    *,
    class_token: Tensor | None = None,
    extras: dict[str, Tensor] | None = None,
) -> Encoding:
    """The encoding from tokens of width D: final norm and projection on (B, T, D), prefix first, or (B, N, D) patches.

    `class_token` (B, D) stands for the one among the tokens, or where there are only patches.

    Parameters
    ----------
    activations : Activations
        The stock forward pass, as an encoder gets it.
    tokens : Tensor (B, T, D) or (B, N, D)
        All tokens, prefix first, or patches alone.
    class_token : Tensor (B, D), or None
        Stands for the one among the tokens.
    extras : dict of str to Tensor, or None
        What else the method has to show, such as the mask of outliers (B, N).

    Returns
    -------
    Encoding
        Dense features in the space of the text.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> class Middle(ao.Encoder):
    ...     def needs(self, depth):
    ...         return [("block_out", depth // 2)]
    ...     def __call__(self, activations):
    ...         return ao.encoding(activations, activations.tokens(activations.depth // 2))
    >>> issubclass(Middle, ao.Encoder)
    True
    """
    layout, backbone = activations.layout, activations.backbone
    if tokens.shape[1] == layout.tokens:
        if class_token is None and layout.has_class_token:
            class_token = layout.class_token(tokens)
        tokens = layout.patches(tokens)
    height, width = activations.images.shape[-2:]
    projected = backbone.project(tokens if class_token is None else torch.cat([class_token[:, None], tokens], dim=1))
    return Encoding(
        patches=projected if class_token is None else projected[:, 1:],
        class_token=None if class_token is None else projected[:, 0],
        layout=layout,
        padding=padding_to_patches((height, width), backbone.patch_size),
        extras=extras or {},
    )


# The layer whose output is purified where an encoder does not say: L - 1.
LAST_BUT_ONE = -2


class Purification(NamedTuple):
    """The detector by which an encoder purifies tokens, and the layer, 1…L or negative, whose output it looks at."""

    detector: Detector
    layer: int


class Encoder(ABC):
    """From the stock forward pass to dense features. A part derives from it as a frozen dataclass; settings are fields.

    It reads places of the stock pass and runs on from there; it never changes weights or what it reads.
    """

    @abstractmethod
    def needs(self, depth: int) -> Iterable[TapSite]:
        """Places of the stock forward that it reads; the trunk stops at the last layer that anybody needs."""

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        """Why it can't run on this backbone or size (no class token, too few blocks), or None if it can."""
        return None

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """Bytes that it holds at one moment for one window, at least: those of pairs of patches; 0 without such."""
        return 0

    @property
    def uses_labels(self) -> bool:
        """Whether it looks at the true labels, as an upper bound does; it can then only be run where there are any."""
        return False

    @property
    def reads_words(self) -> bool:
        """Whether it looks at the words while it makes features, so that they have to be there: `activations.text`."""
        return False

    # The setting under which an encoder that reads words does without, as a message names it.
    without_words: ClassVar[str] = "another method"

    @property
    def purification(self) -> Purification | None:
        """What marks the tokens that it purifies, and where; None if it purifies none.

        The detector stands in a field `detector`; an encoder with others has its own `fitted`, where they may learn.
        """
        return None

    def purifying(self, detector: Detector, purifier: Purifier, purify_from: int, purify_to: int) -> Encoder | None:
        """The encoder with outliers purified at these layers and onwards, if it runs the blocks itself; None if not."""
        return None

    @property
    def learns(self) -> bool:
        """Whether `fitted` makes something else of it, for which images or weights have to be at hand."""
        purification = self.purification
        by_detector = purification is not None and purification.detector.learns
        return by_detector or type(self).fitted is not Encoder.fitted

    def fitted(self, backbone: Backbone, images: Tensor) -> Encoder:
        """The encoder with its detector made ready, where that learns from weights or images (B, 3, h, w)."""
        if self.purification is None:
            return self
        detector, layer = self.purification
        ready: Any = detector.fitted(backbone, images, resolve_layer(layer, backbone.depth))
        return self if ready is detector else replace(typing.cast(Any, self), detector=ready)

    @abstractmethod
    def __call__(self, activations: Activations) -> Encoding:
        """Dense features of the batch."""


def check_words(part: Any) -> None:
    """Refuses a dataclass with a field that is none of the words of its Literal, where no spec was read."""
    for name, kind in typing.get_type_hints(type(part)).items():
        if typing.get_origin(kind) is typing.Literal and getattr(part, name) not in typing.get_args(kind):
            raise unknown_name(name, str(getattr(part, name)), typing.get_args(kind))


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """The words of a vocabulary as unit vectors.

    `features` (Q, E), a row for each query; `owners` (Q) int64, the class (0…C-1) that each query belongs to; `names`,
    the C classes; `background`, the class that stands for the rest, or None; `logit_scale`, the trained one;
    `logit_bias`, what a model of the sigmoid loss (SigLIP) adds to the products, None for others. `blended`: the share
    of other texts that was blended in, by which rows are shorter than 1; 0 for unit vectors.
    """

    features: Tensor
    owners: Tensor
    names: tuple[str, ...]
    background: int | None = None
    logit_scale: float = 100.0
    logit_bias: float | None = None
    blended: float = 0.0

    def logits(self, cosines: Tensor) -> Tensor:
        """What the model was trained on: scale · cosine, and its bias where it has one; any shape."""
        return self.logit_scale * cosines + (self.logit_bias or 0.0)


class Scores(NamedTuple):
    """Scores of one batch of windows.

    maps: (B, Q, rows, cols), a row of channels for each query, at any resolution that covers the padded window; with
    `by_class` the channels are the C classes already. Integer maps (B, 1, rows, cols) are labels by class: they stand
    for 1 at that class and 0 at all others, without holding a channel for each.
    """

    maps: Tensor
    by_class: bool = False


class Scorer(ABC):
    """From dense features and words to score maps of a window. A part derives from it as a frozen dataclass."""

    @abstractmethod
    def __call__(self, encoding: Encoding, text: TextFeatures, size: tuple[int, int]) -> Scores:
        """Score maps; `size` is the window's (height, width) in pixels, with its padding."""


@dataclass(frozen=True, kw_only=True)
class Cosine(Scorer):
    """Cosine of each patch with each query, in [-1, 1], at the grid's resolution."""

    def __call__(self, encoding: Encoding, text: TextFeatures, size: tuple[int, int]) -> Scores:
        unit = torch.nn.functional.normalize(encoding.patches.float(), dim=-1)
        cosines = unit @ text.features.to(unit).mT
        return Scores(encoding.layout.to_map(cosines).permute(0, 3, 1, 2))


# Our choice: CLIP learned 100 at most; from here on the softmax of any two cosines that fp32 tells apart is 0 or 1.
LARGEST_SCALE = 1e8


@dataclass(frozen=True, kw_only=True)
class Decode:
    """From averaged scores to labels.

    Probability of a class = largest softmax(`scale` · score) among its queries. Pixels whose best probability is below
    `threshold` become the background class; foreground classes with at most `smallest_area` of all foreground pixels
    are taken out, and their pixels go to the next best class. Where the defaults are from: wangf3014/SCLIP b56bd30,
    without a background class.
    """

    scale: float = 40.0
    threshold: float = 0.0
    smallest_area: float = 0.0

    def __post_init__(self) -> None:
        check_positive("scale", self.scale, LARGEST_SCALE, hint="such as 40")
        for name in ("threshold", "smallest_area"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` should lie in [0, 1); got {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a method comes from: title and venue, arXiv number, and the released code with its commit."""

    title: str
    venue: str
    arxiv: str = ""
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Method(Value):
    """A whole method as a value; ablations are field changes.

    `positions` names the interpolation of the position table that the released code uses (None: the backbone's own).
    `summary` is one line; `departures` list where we leave the paper or the release. `page` names the page that tells
    more, `docs/methods/PAGE.md`; without it one is made of these fields and the docstring of the method's module.
    `spec` is the name at the door, with the settings that were changed.
    """

    encoder: Encoder
    paper: Paper
    summary: str
    scorer: Scorer = Cosine()
    decode: Decode = Decode()
    positions: str | None = "bicubic-offset"
    departures: tuple[str, ...] = ()
    page: str = ""
    spec: str = ""

    def settings(self) -> dict[str, Any]:
        """All fields that a spec may set, with their values: the encoder's, the scorer's, the decoder's, positions."""
        values: dict[str, Any] = {"positions": self.positions}
        for part in (self.decode, self.scorer, self.encoder):
            values |= {entry.name: getattr(part, entry.name) for entry in dataclasses.fields(typing.cast(Any, part))}
        return values

    def named(self, spec: str) -> Self:
        """The method under the spec by which it was asked for."""
        return replace(self, spec=spec)

    def changed(self, fields: dict[str, str]) -> Self:
        """The method with fields set from texts, wherever they are: `{"residual": "true"}`."""
        method = self
        for key, text in fields.items():
            method = method._with(key, text)
        return method

    def _with(self, key: str, text: str) -> Self:
        for place in ("encoder", "scorer", "decode", ""):
            part: Any = getattr(self, place) if place else self
            names = {entry.name for entry in dataclasses.fields(part) if entry.init} if place else {"positions"}
            if key in names:
                kind = typing.get_type_hints(type(part))[key]
                value = convert(text, kind, f"`{key}` of method `{self.spec}`")
                changed = {place: replace(part, **{key: value})} if place else {key: value}
                return replace(self, **changed)
        raise unknown_name(f"setting of method `{self.spec}`", key, self.settings())

    @property
    def learns(self) -> bool:
        """Whether its detector has to be made ready on images or weights first."""
        return self.encoder.learns

    def fitted(self, backbone: Backbone, images: Tensor) -> Method:
        """The method with its detector made ready, where that learns; itself otherwise."""
        encoder = self.encoder.fitted(backbone, images)
        return self if encoder is self.encoder else replace(self, encoder=encoder)

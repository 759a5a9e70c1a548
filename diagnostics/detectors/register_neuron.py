"""Register neurons: hidden units of the feed-forward networks that are active where outliers are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import patch_features, score_whole
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recorder, Recording, chain, resolve_layer

Scope = Literal["layer", "model"]
Searched = Literal["patches", "tokens"]
Quiet = Literal["size", "signed"]
# nickjiang2378/test-time-registers 860df43: a neuron is sparse if at least half of the tokens are below 0.5.
SPARSE_SHARE, SPARSE_LEVEL = 0.5, 0.5


class _Activity(NamedTuple):
    """What a search saw: images with outliers, and of each hidden unit (layers, F) the mean |activation| at outliers
    and at ordinary patches, and the share of patches at which it is quiet. With quiet=signed an image in which a unit
    is not quiet counts as 0 at its outliers."""

    images: int
    active: Tensor
    ordinary: Tensor
    quiet: Tensor


@dataclass(frozen=True, kw_only=True)
class RegisterNeuron(ThresholdDetector):
    """Marks patches at which register neurons are active; `fitted` finds the neurons on a set of images.

    A patch is an outlier for the search if its norm at layer `detect_at` is above `norm`, or without it above `ratio`
    times the image's median. A neuron's score is its mean |activation| at the outliers of an image, with `contrast`
    less the mean at its other patches, averaged over the images that have some; the `top_k` best above 0 are kept.
    `scope="layer"`: the best of the layer in question, so that the detector runs at every layer. `scope="model"`: the
    best of all blocks in the first `highest` share of the depth, as released; a layer that holds none of them can't be
    scored. `searched="tokens"` looks for outliers among all tokens, prefix included, as released: a class token above
    the line counts as one, and ordinary are all other tokens. `sparse` keeps only neurons that are quiet, by `quiet`:
    `size`, |activation| below 0.5 for half of what is searched, over all images; `signed`, as released, counts a neuron
    for an image only where its activation, with its sign, is below 0.5 for half of what is searched in that image.

    Score: the mean vote of the neurons, in [0, 1], no unit. A neuron votes by its |activation| at the patch: 0 up to
    its mean at ordinary patches of the search, 1 from its mean at the outliers on, in between evenly; one that is no
    more active at the outliers has no vote. So the score does not hang on how loud the neurons of a layer are: after
    the layer that makes the outliers, a LayerNorm leaves these little but the outliers' own channels, and the neurons
    are quieter there than others are elsewhere.
    An image with a nan or infinite value has nan scores and no outliers. Without `fitted` scoring raises ValueError.
    Source: Jiang et al., Vision transformers don't need trained registers, 2025; nickjiang2378/test-time-registers
    860df43. Scoring tokens by the neurons, and the vote, are ours.

    Extreme values: a vote is at most 1, however active the neuron. In bf16 up to 4 % of the marks differ, as the best
    neurons come in another order: find and score them in one precision; the scores' rank correlation is 0.997 or more
    (docs/half-precision.md).
    """

    published: ClassVar[str] = (
        "Released: the 10 best neurons of the first 6 of 12 blocks for CLIP B/16 (outliers: norm above 30 at the last "
        "layer), 50 of the first 18 of 24 for DINOv2-L (norm above 150 at the last but one). They move activations and "
        "score no tokens: the vote and its threshold are our choice."
    )
    needs: ClassVar[tuple[str, ...]] = ("ffn_hidden",)
    threshold: float = 0.5  # our choice: nearer to the outliers of the search than to its other patches
    top_k: int = 10  # released for CLIP B/16
    scope: Scope = "layer"  # our choice; the release is `model`
    highest: float = 0.5  # released for CLIP B/16: the first 6 of 12 blocks
    detect_at: int = -2  # released for DINOv2-L; for CLIP it is -1
    norm: float | None = None  # released: 30 for CLIP B/16, 150 for DINOv2-L; bound to the model, so not the default
    ratio: float = 3.0  # our choice, as for `relative-norm`
    # Deviation: the release ranks by the mean at outliers alone, which also finds neurons that are active everywhere.
    contrast: bool = True
    # Deviation: the release searches all tokens, and so finds the class token where its norm is above the line.
    searched: Searched = "patches"
    sparse: bool = False  # optional in the release
    quiet: Quiet = "size"  # our choice; the release is `signed`
    # What `fitted` puts here: (layer, hidden unit), best first, and each one's mean |activation| at ordinary patches
    # and at outliers.
    neurons: tuple[tuple[int, int], ...] = ()
    levels: tuple[tuple[float, float], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"`top_k` should be at least 1, such as 10; got {self.top_k}.")
        words = {"scope": Scope, "searched": Searched, "quiet": Quiet}
        for name, options in words.items():
            if getattr(self, name) not in get_args(options):
                raise ValueError(
                    f"`{name}` should be one of {', '.join(get_args(options))}; got `{getattr(self, name)}`."
                )
        if not 0 < self.highest <= 1:
            raise ValueError(f"`highest` should be a share of the depth above 0, at most 1; got {self.highest}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"`threshold` should be a share of the votes from 0 to 1; got {self.threshold}.")
        for name, limit in {"ratio": self.ratio, "norm": 1.0 if self.norm is None else self.norm}.items():
            check_positive(name, limit)
        if len(self.levels) != len(self.neurons):
            raise ValueError(
                f"`levels` should be two numbers for each of the {len(self.neurons)} neurons; got {len(self.levels)} "
                "pairs. Let `fitted` find both: detector.fitted(backbone, images, layer)."
            )

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        """The detector with the neurons that `images` show: normalized images (B, 3, h, w), one forward for each.

        ValueError for layer 0, which has no neurons, and where no image has an outlier.
        """
        return self.fitted_to(backbone, images, [layer])[layer]

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        """`fitted` for several layers from one search: a forward for each image serves them all."""
        resolved = {layer: resolve_layer(layer, backbone.depth) for layer in layers}
        if 0 in resolved.values():
            raise ValueError("layer 0 is the embedding and has no neurons; fit register-neuron to a layer from 1 on.")
        first = list(range(1, max(1, int(backbone.depth * self.highest)) + 1))
        searched = sorted(set(resolved.values())) if self.scope == "layer" else first
        activity = self._search(backbone, images, searched)
        if not activity.images:
            limit = f"{self.ratio:g} x the image's median" if self.norm is None else f"{self.norm:g}"
            raise ValueError(
                f"register-neuron found no outlier to learn from: none of {len(images)} images has a patch whose "
                f"norm at layer {resolve_layer(self.detect_at, backbone.depth)} is above {limit}. Give more images, "
                "or another `detect_at`, `norm` or `ratio`."
            )
        scores = self._scores(activity)
        return {
            layer: self._with_best(scores, activity, searched, [at] if self.scope == "layer" else searched)
            for layer, at in resolved.items()
        }

    def _with_best(self, scores: Tensor, activity: _Activity, searched: list[int], among: list[int]) -> Self:
        """The detector with the best neurons of the layers `among` those searched."""
        rows = [searched.index(layer) for layer in among]
        order = scores[rows].flatten().argsort(descending=True, stable=True)[: self.top_k].tolist()
        places = [(rows[place // scores.shape[1]], place % scores.shape[1]) for place in order]
        best = [(row, unit) for row, unit in places if scores[row, unit] > 0]
        return replace(
            self,
            neurons=tuple((searched[row], unit) for row, unit in best),
            levels=tuple((float(activity.ordinary[place]), float(activity.active[place])) for place in best),
        )

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if not self.neurons:
            raise ValueError(
                "register-neuron has no neurons yet: find them on a few images first, "
                "detector.fitted(backbone, images, layer)."
            )
        layer = recording.layers("ffn_hidden")[0] if recording.layers("ffn_hidden") else None
        hidden = patch_features(recording, layout, "ffn_hidden")
        of_layer = [number for number, (place, _) in enumerate(self.neurons) if place == layer]
        if not of_layer:
            held = ", ".join(str(place) for place in sorted({place for place, _ in self.neurons}))
            raise ValueError(
                f"none of the {len(self.neurons)} register neurons sits in layer {layer}; they are in layer(s) {held}. "
                "Score one of those, or fit with scope=layer: detector.fitted(backbone, images, layer)."
            )
        units = [self.neurons[number][1] for number in of_layer]
        ordinary, active = torch.tensor([self.levels[number] for number in of_layer], device=hidden.device).T
        return score_whole(hidden[..., units], lambda whole: _votes(whole.abs(), ordinary, active))

    def _scores(self, activity: _Activity) -> Tensor:
        """How good each hidden unit is that was searched: (layers, F)."""
        scores = activity.active - activity.ordinary if self.contrast else activity.active
        if self.sparse and self.quiet == "size":
            scores = scores.where(activity.quiet >= SPARSE_SHARE, 0.0)
        return scores

    @torch.no_grad()
    def _search(self, backbone: Backbone, images: Tensor, layers: list[int]) -> _Activity:
        """What all hidden units do at outliers and elsewhere, image by image."""
        layout = backbone.layout(images)
        detect_at = resolve_layer(self.detect_at, backbone.depth)

        # Only patches and only what is searched is kept: the hidden units of all layers are large.
        def looked_at(tokens: Tensor) -> Tensor:
            return (layout.patches(tokens) if self.searched == "patches" else tokens).float()[0]

        hidden = Recorder("ffn_hidden", layers=layers, reduce=looked_at)
        out = Recorder("block_out", layers=[detect_at], reduce=looked_at)
        active, ordinary, quiet = [], [], []
        for image in images:
            backbone.trunk(image[None], stop=max(*layers, detect_at), tap=chain(hidden, out))
            norms = token_norms(out["block_out"])[None]
            outliers = (norms > (self.ratio * median_norm(norms)[:, None] if self.norm is None else self.norm))[0]
            if not outliers.any():
                continue
            values = torch.stack([hidden["ffn_hidden", layer] for layer in layers])  # (layers, N, F)
            sizes = values.abs()
            quiet.append((sizes < SPARSE_LEVEL).float().mean(dim=1))
            counted = torch.ones_like(quiet[-1])
            if self.sparse and self.quiet == "signed":
                counted = ((values < SPARSE_LEVEL).float().mean(dim=1) >= SPARSE_SHARE).float()
            active.append(sizes[:, outliers].mean(dim=1) * counted)
            if not outliers.all():
                ordinary.append(sizes[:, ~outliers].mean(dim=1))
        if not active:
            return _Activity(0, *(torch.zeros(0),) * 3)
        # Without any ordinary patch the level of these is 0.
        ordinary = ordinary or [torch.zeros_like(active[0])]
        return _Activity(len(active), *(torch.stack(values).mean(dim=0) for values in (active, ordinary, quiet)))


def _votes(sizes: Tensor, ordinary: Tensor, active: Tensor) -> Tensor:
    """Mean over neurons of where |activation| lies between the two levels: (B, N, n), (n), (n) -> (B, N) in [0, 1]."""
    gap = active - ordinary
    votes = ((sizes - ordinary) / gap.where(gap > 0, torch.inf)).clamp(0, 1)
    return votes.mean(dim=-1)

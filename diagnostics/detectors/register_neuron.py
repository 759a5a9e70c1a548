"""Register neurons: hidden units of the feed-forward networks that are active where outliers are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import patch_features, picture_median, score_whole
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recorder, Recording, chain, resolve_layer

Scope = Literal["layer", "model"]
# nickjiang2378/test-time-registers 860df43: a neuron is sparse if at least half of the tokens are below 0.5.
SPARSE_SHARE, SPARSE_LEVEL = 0.5, 0.5


@dataclass(frozen=True, kw_only=True)
class RegisterNeuron(ThresholdDetector):
    """Marks patches at which register neurons are active; `fitted` finds the neurons on a set of pictures.

    A patch is an outlier for the search if its norm at layer `detect_at` is above `norm`, or without it above `ratio`
    times the picture's median. A neuron's score is its mean |activation| at the outliers of a picture, with `contrast`
    less the mean at its other patches, averaged over the pictures that have some; the `top_k` best above 0 are kept.
    `scope="layer"`: the best of the layer in question, so that the detector runs at every layer. `scope="model"`: the
    best of all blocks in the first `highest` share of the depth, as released; a layer that holds none of them can't be
    scored. `sparse` keeps only neurons below 0.5 for half of the patches.

    Score: mean |activation| of the neurons at the patch, over the picture's median of it, or over `silence` where that
    is more; no unit, at most about 1 is ordinary.
    A picture with a nan or infinite value has nan scores and no outliers. Without `fitted` scoring raises ValueError.
    Source: Jiang et al., Vision transformers don't need trained registers, 2025; nickjiang2378/test-time-registers
    860df43. Scoring tokens by the neurons is ours.
    """

    published: ClassVar[str] = (
        "Released: the 10 best neurons of the first 6 of 12 blocks for CLIP B/16 (outliers: norm above 30 at the last "
        "layer), 50 of the first 18 of 24 for DINOv2-L (norm above 150 at the last but one). They move activations and "
        "score no tokens, so the threshold is our choice."
    )
    needs: ClassVar[tuple[str, ...]] = ("ffn_hidden",)
    threshold: float = 3.0  # our choice
    top_k: int = 10  # released for CLIP B/16
    scope: Scope = "layer"  # our choice; the release is `model`
    highest: float = 0.5  # released for CLIP B/16: the first 6 of 12 blocks
    detect_at: int = -2  # released for DINOv2-L; for CLIP it is -1
    norm: float | None = None  # released: 30 for CLIP B/16, 150 for DINOv2-L; bound to the model, so not the default
    ratio: float = 3.0  # our choice, as for `relative-norm`
    # Deviation: the release ranks by the mean at outliers alone, which also finds neurons that are active everywhere.
    contrast: bool = True
    silence: float = 0.17  # our choice: as deep as GELU goes below 0, so less than this is no activity
    sparse: bool = False  # optional in the release
    neurons: tuple[tuple[int, int], ...] = ()  # (layer, hidden unit), best first; what `fitted` puts here

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"`top_k` should be at least 1, such as 10; got {self.top_k}.")
        if self.scope not in ("layer", "model"):
            raise ValueError(f"`scope` should be layer or model; got `{self.scope}`.")
        if not 0 < self.highest <= 1:
            raise ValueError(f"`highest` should be a share of the depth above 0, at most 1; got {self.highest}.")
        limits = {
            "threshold": self.threshold,
            "ratio": self.ratio,
            "silence": self.silence,
            "norm": 1.0 if self.norm is None else self.norm,
        }
        for name, limit in limits.items():
            if not limit > 0:
                raise ValueError(f"`{name}` should be above 0; got {limit}.")

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        """The detector with the neurons that `images` show: normalised pictures (B, 3, h, w), one forward for each.

        ValueError for layer 0, which has no neurons, and where no picture has an outlier.
        """
        layer = resolve_layer(layer, backbone.depth)
        if not layer:
            raise ValueError("layer 0 is the embedding and has no neurons; fit register-neuron to a layer from 1 on.")
        last = max(1, int(backbone.depth * self.highest))
        searched = [layer] if self.scope == "layer" else list(range(1, last + 1))
        scores, pictures = self._search(backbone, images, searched)
        if not pictures:
            limit = f"{self.ratio:g} x the picture's median" if self.norm is None else f"{self.norm:g}"
            raise ValueError(
                f"register-neuron found no outlier to learn from: none of {len(images)} pictures has a patch whose "
                f"norm at layer {resolve_layer(self.detect_at, backbone.depth)} is above {limit}. Give more pictures, "
                "or another `detect_at`, `norm` or `ratio`."
            )
        order = scores.flatten().argsort(descending=True, stable=True)
        best = [int(place) for place in order[: self.top_k] if scores.flatten()[place] > 0]
        width = scores.shape[1]
        return replace(self, neurons=tuple((searched[place // width], place % width) for place in best))

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if not self.neurons:
            raise ValueError(
                "register-neuron has no neurons yet: find them on a few pictures first, "
                "detector.fitted(backbone, images, layer)."
            )
        layer = recording.layers("ffn_hidden")[0] if recording.layers("ffn_hidden") else None
        hidden = patch_features(recording, layout, "ffn_hidden")
        units = [unit for place, unit in self.neurons if place == layer]
        if not units:
            held = ", ".join(str(place) for place in sorted({place for place, _ in self.neurons}))
            raise ValueError(
                f"none of the {len(self.neurons)} register neurons sits in layer {layer}; they are in layer(s) {held}. "
                "Score one of those, or fit with scope=layer: detector.fitted(backbone, images, layer)."
            )
        return score_whole(hidden[..., units], self._activity)

    def _activity(self, hidden: Tensor) -> Tensor:
        """(B, N, units) -> (B, N)."""
        activity = hidden.abs().mean(dim=-1)
        return activity / picture_median(activity).clamp_min(self.silence)

    @torch.no_grad()
    def _search(self, backbone: Backbone, images: Tensor, layers: list[int]) -> tuple[Tensor, int]:
        """Summed scores of all hidden units (layers, F), and how many pictures have outliers."""
        layout = backbone.layout(images)
        detect_at = resolve_layer(self.detect_at, backbone.depth)

        # Only patches and only what is searched is kept: the hidden units of all layers are large.
        def patches(tokens: Tensor) -> Tensor:
            return layout.patches(tokens).float()[0]

        hidden = Recorder("ffn_hidden", layers=layers, reduce=patches)
        out = Recorder("block_out", layers=[detect_at], reduce=patches)
        total, sparse, pictures = torch.zeros(0), torch.zeros(0), 0
        for image in images:
            backbone.trunk(image[None], stop=max(*layers, detect_at), tap=chain(hidden, out))
            norms = token_norms(out["block_out"])[None]
            outliers = (norms > (self.ratio * median_norm(norms)[:, None] if self.norm is None else self.norm))[0]
            if not outliers.any():
                continue
            active = torch.stack([hidden["ffn_hidden", layer].abs() for layer in layers])  # (layers, N, F)
            pictures += 1
            here, quiet = active[:, outliers].mean(dim=1), (active < SPARSE_LEVEL).float().mean(dim=1)
            if self.contrast and not outliers.all():
                here = here - active[:, ~outliers].mean(dim=1)
            total, sparse = (here, quiet) if pictures == 1 else (total + here, sparse + quiet)
        if self.sparse and pictures:
            total = total.where(sparse / pictures >= SPARSE_SHARE, 0.0)
        return total, pictures

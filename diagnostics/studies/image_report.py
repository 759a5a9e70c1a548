"""Single images inside a network, layer by layer, as arrays for a page to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector, ThresholdDetector
from diagnostics.images import as_image
from diagnostics.images.feed import ListedImage
from diagnostics.layout import Layout, padding_to_patches
from diagnostics.measures.norms import token_norms
from diagnostics.measures.similarity import cosine_affinity
from diagnostics.memory import FLOAT, check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.studies.blocks import none_readable
from diagnostics.studies.scoring import check_finite, prepare_run, ready_detectors
from diagnostics.taps import EachLayer, Recording

HALF = 2  # bytes of a number in half precision
# Colors of the patches: red, green, blue.
COMPONENTS = 3


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One detector on one image: scores (K, N) float32 of K layers, and what it marks by its own rule, (K, N) bool.

    `threshold` is the detector's own; None where it has another rule than «above a threshold». `published` says where
    the rule is from.
    """

    scores: np.ndarray
    marked: np.ndarray
    threshold: float | None
    published: str


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """One image inside a network at K layers, as arrays.

    `image`: uint8 (H, W, 3), upright, in its own size; `inset`: where it lies in the frame of the patches, (top,
    left, height, width) as shares of the frame, which is larger than the image where that was padded; `aspect`: width
    over height of the frame, in the image's own proportions. `layers` are numbers 1…L, ascending.

    `norms` (L + 1, T) float32, L2, layers 0…L whatever `layers` are. `attention` (K, H, T, T) float16, or None where
    heads were not asked for; `mean_attention` (K, T, T) float16, the mean over heads. `similarity` (K, N, N) float16,
    cosines of patches in the block output. `components` (K, N, 3) float32, scores of patches on the first principal
    components of the purified ones; the purified ones' own are `purified_components`. `purified_norms` (K, N) and
    `purified_similarity` are those after `purifier` at that layer, of what `purified_by` marks there; each layer is
    purified on its own, and later blocks do not get the purified patches.
    """

    name: str
    image: np.ndarray
    inset: tuple[float, float, float, float]
    aspect: float
    layout: Layout
    layers: tuple[int, ...]
    norms: np.ndarray
    attention: np.ndarray | None
    mean_attention: np.ndarray
    similarity: np.ndarray
    components: np.ndarray
    scored: dict[str, Scored]
    purifier: str
    purified_by: str
    purified_norms: np.ndarray
    purified_similarity: np.ndarray
    purified_components: np.ndarray


@dataclass(frozen=True)
class WholeMaps:
    """What a report holds of an image: attention of every head at a layer, and of `layers` layers what is kept."""

    layers: int

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """Attention in fp32; its mean and two maps of similarity in half precision."""
        kept = self.layers * HALF * (layout.tokens**2 + 2 * layout.count**2)
        return FLOAT * heads * layout.tokens**2 + kept


@dataclass
class _Gatherer:
    """Turns what flows at each layer of one image's forward pass into small arrays on the CPU: `arrays`, by name."""

    layout: Layout
    layers: frozenset[int]
    detectors: dict[str, dict[int, Detector]]
    purified_by: str
    purifier: Purifier
    heads: bool
    name: str
    arrays: dict[str, list[Tensor]] = field(default_factory=dict)

    def tap(self, depth: int) -> EachLayer:
        """What is needed of layers 0…`depth`: norms of all, and of the chosen ones everything."""
        needs: dict[int, set[str]] = {layer: set() for layer in range(depth + 1)}
        for layer in self.layers:
            needs[layer] = {"attention"}.union(*(parts[layer].needs for parts in self.detectors.values()))
        return EachLayer(needs, self._look)

    def _look(self, layer: int, recording: Recording) -> None:
        tokens = recording["block_out"]
        check_finite(tokens, [self.name], "tokens", layer)
        self._keep("norms", token_norms(tokens.float()))
        if layer in self.layers:
            self._keep_attention(recording["attention"].float())
            self._keep_patches(tokens.float(), self._marked(layer, recording)[self.purified_by])

    def _keep(self, name: str, value: Tensor) -> None:
        self.arrays.setdefault(name, []).append(value[0].cpu())

    def _keep_attention(self, attention: Tensor) -> None:
        self._keep("mean_attention", attention.mean(dim=1).half())
        if self.heads:
            self._keep("attention", attention.half())

    def _marked(self, layer: int, recording: Recording) -> dict[str, Tensor]:
        """Masks (1, N) of every detector, kept with its scores."""
        masks = {}
        for spec, parts in self.detectors.items():
            outliers = parts[layer](recording, self.layout)
            check_finite(outliers.scores, [self.name], f"scores of `{spec}`", layer)
            masks[spec] = outliers.mask
            self._keep(f"scores {spec}", outliers.scores.float())
            self._keep(f"marked {spec}", outliers.mask)
        return masks

    def _keep_patches(self, tokens: Tensor, mask: Tensor) -> None:
        patches = self.layout.patches(tokens)
        class_token = self.layout.class_token_or_none(tokens)
        purified = self.purifier(patches, mask, self.layout, class_token=class_token)
        self._keep("similarity", cosine_affinity(patches).half())
        self._keep("purified_similarity", cosine_affinity(purified).half())
        self._keep("purified_norms", token_norms(purified))
        # Axes of the purified patches, for both: among raw ones a few outliers would take all three axes.
        center = purified.mean(dim=1, keepdim=True)
        axes = torch.linalg.svd(purified - center, full_matrices=False).Vh[:, :COMPONENTS].mT
        for name, values in (("components", patches), ("purified_components", purified)):
            scores = (values - center) @ axes
            self._keep(name, torch.nn.functional.pad(scores, (0, COMPONENTS - scores.shape[-1])))


class ImageReports:
    """The images one after another, each as an ImageReport; `left_out`: those that could not be read so far, and why.

    `images` as diagnostics.probe takes them; `detectors` are specs. `purifier` is a spec, and `purified_by` the
    detector whose marks it replaces, the first by default. `heads`: `all` keeps attention of each head, `mean` their
    mean alone. Options of the run: `layers` (all by default), `size`, `strict`. One forward pass an image, in the
    precision of the backbone; what is kept is computed in fp32. ValueError for parts that do not go together.
    """

    def __init__(
        self,
        backbone: Backbone,
        images: Any,
        detectors: Sequence[str],
        *,
        purifier: str = "neighbor-mean",
        purified_by: str | None = None,
        heads: Literal["all", "mean"] = "all",
        options: RunOptions | None = None,
        **keywords: Unpack[RunKeywords],
    ) -> None:
        options = run_options("ImageReports", options, keywords, uses=("layers", "size", "strict"))
        if heads not in ("all", "mean"):
            raise ValueError(f"`heads` should be `all` or `mean`; got `{heads}`.")
        self.backbone, self.heads, self.purifier_spec = backbone, heads == "all", purifier
        self.run = prepare_run(backbone, images, detectors, options)
        check_memory(backbone, self.run.listed, [WholeMaps(len(self.run.layers))], device=str(backbone.device))
        self.purified_by = next(iter(self.run.detectors)) if purified_by is None else purified_by
        if self.purified_by not in self.run.detectors:
            raise ValueError(
                f"`purified_by` (--purified-by) should be one of the detectors ({', '.join(self.run.detectors)}); got "
                f"`{self.purified_by}`."
            )
        self.purifier: Purifier = PURIFIERS.build(purifier)
        for reason in filter(None, (self.purifier.unsupported_reason(layout) for layout in self.run.layouts)):
            raise ValueError(f"`{purifier}` can't run on `{backbone.spec}`: {reason}.")
        self.left_out: dict[str, str] = {}

    def __iter__(self) -> Iterator[ImageReport]:
        ready = ready_detectors(self.backbone, self.run, {})
        detectors = {name: {layer: ready[name, layer] for layer in self.run.layers} for name in self.run.detectors}
        for number, image in enumerate(self.run.listed):
            loaded = self.run.loader(number)
            if loaded.image is None:
                self.left_out[image.name] = loaded.reason
                continue
            yield self._report(image, self._gathered(image, loaded.image[None], detectors))
        if len(self.left_out) == len(self.run.listed):
            raise none_readable(len(self.run.listed), self.left_out)

    def _gathered(
        self, image: ListedImage, pixels: Tensor, detectors: dict[str, dict[int, Detector]]
    ) -> dict[str, np.ndarray]:
        """One forward pass and what it leaves behind, by name."""
        layout, layers = self.backbone.layout(pixels), frozenset(self.run.layers)
        gatherer = _Gatherer(layout, layers, detectors, self.purified_by, self.purifier, self.heads, image.name)
        with torch.no_grad():
            self.backbone.trunk(pixels, tap=gatherer.tap(self.backbone.depth))
        return {name: torch.stack(values).numpy() for name, values in gatherer.arrays.items()}

    def _report(self, image: ListedImage, arrays: dict[str, np.ndarray]) -> ImageReport:
        pixels, size = np.asarray(as_image(image.source)), image.size
        padding = padding_to_patches(size, self.backbone.patch_size)
        height, width = size[0] + padding.top + padding.bottom, size[1] + padding.left + padding.right
        stretched = (pixels.shape[1] / size[1]) / (pixels.shape[0] / size[0])
        return ImageReport(
            name=image.name,
            image=pixels,
            inset=(padding.top / height, padding.left / width, size[0] / height, size[1] / width),
            aspect=width / height * stretched,
            layout=self.backbone.layout(size),
            layers=tuple(self.run.layers),
            norms=arrays["norms"],
            attention=arrays.get("attention"),
            mean_attention=arrays["mean_attention"],
            similarity=arrays["similarity"],
            components=arrays["components"],
            scored={
                name: Scored(
                    scores=arrays[f"scores {name}"],
                    marked=arrays[f"marked {name}"],
                    threshold=_threshold(part),
                    published=part.published,
                )
                for name, part in self.run.detectors.items()
            },
            purifier=self.purifier_spec,
            purified_by=self.purified_by,
            purified_norms=arrays["purified_norms"],
            purified_similarity=arrays["purified_similarity"],
            purified_components=arrays["purified_components"],
        )


def _threshold(part: Detector) -> float | None:
    """The threshold, where the rule is a threshold on the scores and nothing else."""
    plain = type(part).mark is ThresholdDetector.mark
    return float(part.threshold) if isinstance(part, ThresholdDetector) and plain else None

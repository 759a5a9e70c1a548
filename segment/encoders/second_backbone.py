"""A second backbone beside the first: what it makes of the same images, and how the two grids lie on each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import Backbone, join_heads
from diagnostics.detectors.base import Detector
from diagnostics.images import denormalize, normalize
from diagnostics.layout import Layout, padding_to_patches
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.registry import unknown_name
from diagnostics.taps import Recorder, resolve_layer
from segment.decoding.interpolation import linear_weights
from segment.encoders.purification import purification_needs, purification_unsupported_reason, purified_tokens
from segment.method import Activations, TapSite

FeatureTap = Literal["out", "block_out", "query", "key", "value", "query_unrotated", "key_unrotated"]

# The spec that stands for the first backbone itself, which every machine has.
SELF = "self"
# DINO's ViT-B/8, the default of ProxyCLIP's and LaVG's released code.
DINO = "timm:vit_base_patch8_224.dino"
# Models kept in memory at once; our choice: enough for a comparison of DINO, DINOv2 and one more.
KEPT = 3


@dataclass(frozen=True, kw_only=True)
class SecondBackbone:
    """Patch features of a second vision transformer for the images that a first one has seen.

    `spec` is a backbone's, or `self` for the first one. The model is loaded once, onto the first one's device and in
    its precision. Commas in a backbone's own settings need brackets inside a method's spec:
    `vfm=tiny(registers=4,size=32)`. `tap` says what is taken at `layer`: `out` is what leaves the block, after the
    final norm (and the projection, where the model has one); `block_out` the same without them; `query`, `key`, `value`
    those of the block, heads side by side, as attention compares them: where the model rotates them by their place,
    `query_unrotated` and `key_unrotated` are those before the rotation, which tell content alone. `size` is the longer
    side in pixels that images are resized to, bilinearly with antialiasing; None leaves them. `positions` names how its
    position table is stretched (None: its own way); `self` without a `size` reads the first one's own pass, with the
    positions of that. `detector` and `purifier` purify its patches: what leaves the layer, or what enters it for
    queries, keys and values.
    """

    spec: str = DINO
    layer: int = -1
    tap: FeatureTap = "out"
    size: int | None = None
    positions: str | None = None
    detector: Detector
    purifier: Purifier

    def __post_init__(self) -> None:
        if self.tap not in get_args(FeatureTap):
            raise unknown_name("tap of a second backbone", self.tap, get_args(FeatureTap))
        if self.size is not None and self.size < 1:
            raise ValueError(f"`vfm_size` should be a number of pixels, or none for the image's own; got {self.size}.")

    @property
    def shared(self) -> bool:
        """Whether the first backbone's own pass is read, without another forward."""
        return self.spec == SELF and self.size is None

    def needs(self, depth: int) -> list[TapSite]:
        """Places of the first backbone's stock forward that it reads."""
        return purification_needs(self.detector, self.purifier, self._read(depth)) if self.shared else []

    def unsupported_reason(self, layout: Layout, depth: int) -> str | None:
        """Why the purification can't run on tokens of the second backbone, of so many blocks, or None."""
        return purification_unsupported_reason(self.detector, self.purifier, layout, self._read(depth))

    def load(self, first: Backbone) -> Backbone:
        """The second backbone, on the first one's device and in its precision."""
        return first if self.spec == SELF else second_backbone(self.spec, like=first)

    def activations(self, first: Activations) -> Activations:
        """What the second backbone's forward left behind, up to the layer that is read; the first's own for `self`."""
        if self.shared:
            return first
        second = self.load(first.backbone)
        images = self.images(first.backbone, second, first.images)
        at, layout = self._read(second.depth), second.layout(images)
        reason = self.unsupported_reason(layout, second.depth)
        if reason:
            raise ValueError(f"the purification of the second backbone `{second.spec}` can't run: {reason}.")
        recorder = Recorder(*(name for name, _ in purification_needs(self.detector, self.purifier, at)), layers=[at])
        second.trunk(images, stop=at, tap=recorder, positions=self.positions)
        return Activations(second, images, layout, recorder.recording)

    def features(self, activations: Activations) -> Tensor:
        """The patches of `activations(first)` at the tap: (B, M, D'), fp32."""
        backbone, layout = activations.backbone, activations.layout
        tokens, _ = purified_tokens(activations, self.detector, self.purifier, self._read(backbone.depth))
        if self.tap == "block_out":
            features = tokens
        elif self.tap == "out":
            features = backbone.project(tokens)
        else:
            heads = activations.blocks[resolve_layer(self.layer, backbone.depth) - 1].qkv(tokens)
            source = heads.without_positions() if self.tap.endswith("_unrotated") else heads
            features = join_heads({"q": source.q, "k": source.k, "v": source.v}[self.tap[0]])
        return layout.patches(features).float()

    def fitted(self, first: Backbone, images: Tensor) -> Detector:
        """The detector made ready for the second backbone, where it learns: images normalized for the first."""
        if isinstance(self.purifier, Keep):
            return self.detector
        second = self.load(first)
        return self.detector.fitted(second, self.images(first, second, images), self._read(second.depth))

    def images(self, first: Backbone, second: Backbone, images: Tensor) -> Tensor:
        """Images normalized for the first, (B, 3, h, w), as the second wants them: resized, and normalized anew."""
        plain = denormalize(images.float(), first.mean, first.std)
        if self.size is not None:
            plain = F.interpolate(plain, size=self._resized(images), mode="bilinear", antialias=True)
        return normalize(plain, second.mean, second.std)

    def _resized(self, images: Tensor) -> tuple[int, int]:
        height, width = images.shape[-2:]
        factor = (self.size or max(height, width)) / max(height, width)
        return max(round(height * factor), 1), max(round(width * factor), 1)

    def _read(self, depth: int) -> int:
        """The layer whose output is read: queries, keys and values are made from the one before."""
        layer = resolve_layer(self.layer, depth)
        if self.tap in ("out", "block_out"):
            return layer
        if layer == 0:
            raise ValueError(f"`vfm_layer` should be a block, 1…{depth}, to have a {self.tap}; got {self.layer}.")
        return layer - 1


def second_backbone(spec: str, *, like: Backbone | Tensor) -> Backbone:
    """The backbone that a spec names, on the device of `like` and in its precision; loaded once for each of these.

    Raises OSError where weights can't be fetched, and ValueError as `load_backbone` does.
    """
    return _load(_plain(spec), like.device, like.dtype)


def _plain(spec: str) -> str:
    """`timm(NAME@FILE)` -> `timm:NAME@FILE`: brackets hold commas together inside another spec."""
    match = re.fullmatch(r"([^:()]+)\((.*)\)", spec.strip())
    return f"{match[1]}:{match[2]}" if match else spec.strip()


@lru_cache(maxsize=KEPT)
def _load(spec: str, device: torch.device, dtype: torch.dtype) -> Backbone:
    advice = "`vfm=timm:NAME@FILE` takes weights from a file, `vfm=self` the first backbone itself"
    try:
        return load_backbone(spec, device=device).to(dtype=dtype)
    except OSError as error:
        raise OSError(f"the second backbone `{spec}` can't be had: {error} In a method's spec, {advice}.") from error
    except ValueError as error:
        raise ValueError(f"the second backbone `{spec}` can't be had: {error} In a method's spec, {advice}.") from error


# Two grids on one image


def patch_centers(activations: Activations, like: Activations | None = None) -> tuple[Tensor, Tensor]:
    """Where the centers of a grid's patches lie: rows (rows,) and columns (cols,), fp64, on the CPU.

    In pixels of the image of `like` (by default of its own), counted from its top and left edge; those of padded
    patches can lie beyond it.
    """
    image_size = activations.images.shape[-2:]
    size = image_size if like is None else like.images.shape[-2:]
    before = _padded_before(activations)
    rows, cols = (
        ((torch.arange(count, dtype=torch.float64) + 0.5) * patch - more) * new / old
        for count, patch, more, new, old in zip(
            activations.layout.grid, activations.backbone.patch_size, before, size, image_size, strict=True
        )
    )
    return rows, cols


def in_patches(activations: Activations, rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
    """Places in pixels of a stock pass's image as numbers of its patches: the first one's center is at 0.5."""
    (height, width), (top, left) = activations.backbone.patch_size, _padded_before(activations)
    return (rows + top) / height, (cols + left) / width


def _padded_before(activations: Activations) -> tuple[int, int]:
    height, width = activations.images.shape[-2:]
    padding = padding_to_patches((height, width), activations.backbone.patch_size)
    return padding.top, padding.left


def onto_grid(patches: Tensor, activations: Activations, target: Activations) -> Tensor:
    """Patches of one pass read at the patch centers of another on the same image, bilinearly: (B, N, C) -> (B, M, C).

    Where both grids cover the same pixels this is a resize without aligned corners.
    """
    rows, cols = in_patches(activations, *patch_centers(target, like=activations))
    maps = activations.layout.to_map(patches).float()
    down = linear_weights(rows, maps.shape[1]).to(maps)
    across = linear_weights(cols, maps.shape[2]).to(maps)
    read = torch.einsum("jc,bicd->bijd", across, torch.einsum("ir,brcd->bicd", down, maps))
    return target.layout.to_patches(read).to(patches.dtype)

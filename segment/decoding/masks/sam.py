"""Masks by SAM, which is shown points on each cluster of patches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from diagnostics.backbones.hub import quiet_client
from diagnostics.layout import Grid
from segment.decoding.masks.base import NOWHERE, MaskSource, PatchMasks, extra
from segment.decoding.masks.dbscan import Dbscan
from segment.method import Encoding

MISSING = "the library transformers is not installed; pip install 'attention-outliers[sam]'"


class Prompts(NamedTuple):
    """Points for the K clusters of one image.

    `points` (P, 2), (x, y) in pixels, the centers of all patches in a cluster; `inside` (K, P) bool, True for those of
    the cluster itself, False for those of the others.
    """

    points: Tensor
    inside: Tensor


class PointSegmenter(Protocol):
    """What turns points into masks."""

    def __call__(self, image: Tensor, prompts: Prompts) -> Tensor:
        """Logits of each cluster's mask, above 0 inside: (3, h, w) in [0, 1] -> (K, h, w)."""
        ...


def point_prompts(clusters: Tensor, grid: Grid, size: tuple[int, int]) -> Prompts:
    """Centers of the clustered patches as points, a cluster's own against all others': clusters (N), -1 for none.

    Source: CLIPtrase (Shao et al., ECCV 2024), §5.3 «Combined with SAM».
    """
    chosen = (clusters != NOWHERE).nonzero()[:, 0]
    rows, cols = chosen // grid.cols, chosen % grid.cols
    points = torch.stack([(cols + 0.5) * size[1] / grid.cols, (rows + 0.5) * size[0] / grid.rows], dim=1)
    numbers = torch.arange(int(clusters.max()) + 1)
    return Prompts(points, clusters[chosen] == numbers[:, None])


def regions_by_points(
    image: Tensor, clusters: Tensor, grid: Grid, segmenter: PointSegmenter, size: tuple[int, int]
) -> Tensor:
    """The cluster whose mask is surest at each pixel, -1 where no mask is: (3, h, w), clusters (N) -> (h, w) int64."""
    if (clusters == NOWHERE).all():
        return torch.full(size, NOWHERE, device=image.device)
    best, region = segmenter(image, point_prompts(clusters, grid, size)).max(dim=0)
    return region.masked_fill(best <= 0, NOWHERE)


@dataclass(frozen=True, kw_only=True)
class SamMasks(MaskSource):
    """SAM's masks: each cluster's patches are points inside, those of the other clusters points outside.

    `model` is a SAM on the Hugging Face hub, `org/name` or `org/name@REVISION` with a commit, branch or tag, or a
    folder with one, read by transformers' SamModel; `clusters` are where points come from, denoised before. Where masks
    overlap, the surest wins; pixels in none keep their own label.
    Needs the library transformers. Source: CLIPtrase (Shao et al., ECCV 2024), §4.4 and §5.3; not in the released code.
    """

    model: str = "facebook/sam-vit-base"  # our choice: the paper does not say which
    clusters: MaskSource = Dbscan()

    def __post_init__(self) -> None:
        if not isinstance(self.clusters, PatchMasks):
            raise ValueError(
                f"`clusters` should be a mask source that clusters patches, such as dbscan; got {self.clusters}."
            )

    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        image = extra(encoding, "image", of="`masks=sam`")
        segmenter = _load(self.model, str(image.device))
        labels = cast(PatchMasks, self.clusters).clusters(encoding).labels
        grid = encoding.layout.grid
        each = zip(image, labels, strict=True)
        return torch.stack([regions_by_points(image, clusters, grid, segmenter, size) for image, clusters in each])


def hub_name(model: str) -> tuple[str, str]:
    """`org/name@REVISION` -> name and revision, `main` where none is named; a folder that is there stays as it is."""
    name, _, revision = (model, "", "") if Path(model).is_dir() else model.partition("@")
    return name, revision or "main"


class TransformersSam:
    """SAM of the library transformers as a PointSegmenter. Raises ValueError where the library is missing."""

    def __init__(self, model: str, device: str) -> None:
        try:
            from transformers import SamModel, SamProcessor
        except ImportError as error:
            raise ValueError(f"`masks=sam` can't run here: {MISSING}.") from error
        try:
            name, revision = hub_name(model)
            with quiet_client():
                loaded: Any = SamModel.from_pretrained(name, revision=revision)
                self.processor: Any = SamProcessor.from_pretrained(name, revision=revision)
        except OSError as error:
            raise OSError(
                f"SAM could not be loaded from `{model}` ({type(error).__name__}: {error}). Name a SAM on the Hugging "
                "Face hub, such as facebook/sam-vit-base, or a folder that `hf download` made of one."
            ) from error
        self.model, self.device = loaded.eval().requires_grad_(False).to(device), device

    def __call__(self, image: Tensor, prompts: Prompts) -> Tensor:
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        count = len(prompts.inside)
        inputs = self.processor(
            images=pixels,
            input_points=[prompts.points[None].expand(count, -1, -1).tolist()],
            input_labels=[prompts.inside.long().tolist()],
            return_tensors="pt",
        )
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        inputs = {
            name: value.to(self.device, torch.float32 if value.is_floating_point() else value.dtype)
            for name, value in inputs.items()
        }
        masks = self.model(**inputs, multimask_output=False).pred_masks[0]
        return self.processor.image_processor.post_process_masks([masks], *sizes, binarize=False)[0][:, 0]


@lru_cache(maxsize=1)
def _load(model: str, device: str) -> TransformersSam:
    return TransformersSam(model, device)

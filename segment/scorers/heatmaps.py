"""Heat maps of words: CLIP Surgery's feature surgery, and maps stretched to the image, each class from 0 to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Layout, Padding

# Sharpness of the softmax over classes that weighs them. Source: xmed-lab/CLIP_Surgery d4696d4.
CLASS_SHARPNESS = 2.0


def feature_surgery(
    patches: Tensor, class_token: Tensor, text: Tensor, layout: Layout, *, sharpness: float = CLASS_SHARPNESS
) -> Tensor:
    """Cosines of patches and words without what all words share: -> (B, C, rows, cols), any sign, no unit.

    `patches` (B, N, E), `class_token` (B, E) and `text` (C, E) in the joint space, of any length: directions count.
    Each class weighs w = C · softmax(`sharpness` · cosine with the class token); the weighted products of patch and
    word, channel by channel, lose their mean over classes and are summed over channels. At least two classes: what one
    alone shares with all is everything, and ValueError says so. A zero vector has cosine 0 to all.
    Source: Li et al., arXiv:2304.05653; xmed-lab/CLIP_Surgery d4696d4. It does not change the order of classes much, so
    it is for looking and not for labels.
    """
    if text.ndim != 2 or len(text) < 2:
        raise ValueError(
            f"`text` should be (C, E) with at least 2 classes; got {tuple(text.shape)}. Add words for the rest of the "
            "image: feature surgery takes away what all classes share."
        )
    if patches.shape[::2] != class_token.shape or patches.shape[-1] != text.shape[-1]:
        raise ValueError(
            f"`patches` (B, N, E), `class_token` (B, E) and `text` (C, E) should fit; got {tuple(patches.shape)}, "
            f"{tuple(class_token.shape)} and {tuple(text.shape)}. Take all from one backbone's joint space."
        )
    unit = F.normalize(patches.float(), dim=-1)
    words = F.normalize(text.to(unit), dim=-1)
    likely = (sharpness * F.normalize(class_token.float(), dim=-1) @ words.mT).softmax(dim=-1)
    weights = likely / likely.mean(dim=-1, keepdim=True)
    # The sum over channels comes first: it is linear, and (B, N, C, E) would be large.
    weighted = (unit @ words.mT) * weights[:, None]
    return layout.to_map(weighted - weighted.mean(dim=-1, keepdim=True)).permute(0, 3, 1, 2)


def single_word_surgery(patches: Tensor, text: Tensor, empty: Tensor, layout: Layout) -> Tensor:
    """Products of patches with words less what an empty sentence says: -> (B, C, rows, cols), any sign, no unit.

    For words looked at one by one, where feature surgery has nothing to compare with: unit patches times
    (word - `empty`), both unit vectors; `text` (C, E) and `empty` (E), the feature of the templates without a word.
    Source: xmed-lab/CLIP_Surgery d4696d4, its mode for a single text.
    """
    if text.ndim != 2 or empty.shape != text.shape[1:] or patches.shape[-1] != text.shape[1]:
        raise ValueError(
            f"`text` should be (C, E), `empty` (E) and `patches` (B, N, E); got {tuple(text.shape)}, "
            f"{tuple(empty.shape)} and {tuple(patches.shape)}. Take all from one backbone's joint space."
        )
    unit = F.normalize(patches.float(), dim=-1)
    words = F.normalize(text.to(unit), dim=-1) - F.normalize(empty.to(unit), dim=-1)
    return layout.to_map(unit @ words.mT).permute(0, 3, 1, 2)


def heat_maps(maps: Tensor, size: tuple[int, int], *, padding: Padding | None = None) -> Tensor:
    """Maps (B, C, rows, cols), each from 0 to 1, stretched bilinearly to an image: (B, C, height, width).

    Each class of each image is scaled on its own, before stretching; a class that is equal everywhere is 0. `size` is
    the image's (height, width); with `padding` the maps cover that much more on each side, which is cut off.
    Source: xmed-lab/CLIP_Surgery d4696d4; GEM scales so as well.
    """
    least, most = torch.aminmax(maps.float().flatten(2), dim=-1, keepdim=True)
    spread = most - least
    scaled = ((maps.float().flatten(2) - least) / spread.where(spread > 0, 1.0)).view(maps.shape)
    top, bottom, left, right = padding or Padding(0, 0, 0, 0)
    height, width = size
    stretched = F.interpolate(
        scaled, size=(top + height + bottom, left + width + right), mode="bilinear", align_corners=False
    )
    return stretched[..., top : top + height, left : left + width]

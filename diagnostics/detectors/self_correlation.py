"""Outliers by CLIPtrase's printed denoising rule: patches less like themselves than like the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.attention import attention_statistics
from diagnostics.measures.lengths import unit_vectors
from diagnostics.taps import Recording

STREAMS = ("query", "key", "value")
# Entries whose inner products fp32 holds, and the greatest excess, so that means of it stay in fp32. Our choice, both.
LARGEST, GREATEST = 1e15, 1e36


@dataclass(frozen=True, kw_only=True)
class SelfCorrelation(ThresholdDetector):
    """Marks patches whose correlation with themselves is below their mean correlation with all patches.

    Score: w*_i = mean_j w_ij - w_ii, where w averages the heads' q-q, k-k and v-v correlations. No matrix is made.
    `weights="cosine"`, as printed: in [-2, 0]. **It can never mark a patch**, as no cosine exceeds that of a vector
    with itself; the score still ranks. `weights="softmax"`: of x·xᵀ/√d over the tokens in question, in (-1, 1), marks
    patches that attend to themselves less than evenly. `weights="inner-product"`: x·xᵀ, in the model's own unit
    squared, marks patches shorter than the mean vector's part along them.
    `tokens="patches"` drops the prefix before w is made, as the paper drops it before it averages; `all` keeps it in
    the mean and in the softmax.
    Source: CLIPtrase (Shao et al., ECCV 2024), Eq 3 and 7; the other two weights are ours. Its released code
    (leaves162/CLIPtrase 2b7de61) does not hold this rule, see `class-residual`.

    Extreme values: finite; inner products beyond 1e36 count as that. In bf16 nothing is marked either way; the scores'
    rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = STREAMS
    published: ClassVar[str] = (
        "above 0, with cosines: CLIPtrase (ECCV 2024), Eq 7, for CLIP ViT-B/16 at layer -1; no patch can pass it. "
        "Softmax and inner-product weights are our choice, with the same 0."
    )

    threshold: float = 0.0  # CLIPtrase, Eq 7
    weights: Literal["cosine", "softmax", "inner-product"] = "cosine"  # CLIPtrase, Eq 3
    tokens: Literal["patches", "all"] = "patches"  # CLIPtrase, Eq 7: i and j count patches

    def __post_init__(self) -> None:
        if self.weights not in ("cosine", "softmax", "inner-product"):
            raise ValueError(f"`weights` should be `cosine`, `softmax` or `inner-product`; got `{self.weights}`.")
        if self.tokens not in ("patches", "all"):
            raise ValueError(f"`tokens` should be `patches` or `all` (prefix tokens included); got `{self.tokens}`.")

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if self.tokens == "patches":
            streams = [layout.patches(recording[name], dim=2).float() for name in STREAMS]
            layout = Layout(0, layout.grid)
        else:
            streams = [recording[name].float() for name in STREAMS]
        scores = torch.stack([self._excess(stream, layout) for stream in streams]).mean(dim=(0, 2))
        # A cosine's excess is at most 0; what rounding leaves above it, as between equal vectors, is cut off.
        return scores.clamp_max(0) if self.weights == "cosine" else scores

    def _excess(self, vectors: Tensor, layout: Layout) -> Tensor:
        """mean_j w_ij - w_ii of each head: (B, H, T, d) -> (B, H, N)."""
        if self.weights == "softmax":
            # Rows sum to 1, so that the mean is known.
            return 1 / vectors.shape[2] - attention_statistics(vectors, vectors, layout, {"self"})["self"]
        if self.weights == "cosine":
            vectors = unit_vectors(vectors)
        # The mean of inner products is the inner product with the mean.
        largest = vectors.abs().amax(dim=(2, 3), keepdim=True)
        scale = largest.where(largest > LARGEST, 1.0)
        vectors = vectors / scale
        patches = layout.patches(vectors, dim=2)
        excess = (patches * (vectors.mean(dim=2, keepdim=True) - patches)).sum(dim=-1)
        # The scale twice, each time within fp32: its square alone may leave it.
        for _ in range(2):
            excess = (excess * scale[..., 0]).clamp(-GREATEST, GREATEST)
        return excess

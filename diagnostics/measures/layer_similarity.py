"""How alike two layers see the same image: CKA and mean cosine of the patches, layer against layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.measures.base import AcrossLayers, LayerView, Variable
from diagnostics.measures.lengths import unit_vectors

# Entries of the Gram matrices held at once. Our choice: 16 MB, and the whole of twelve layers at 14x14 patches.
GRAM_ENTRIES = 2**22


def linear_cka(patches: Tensor) -> Tensor:
    """Linear CKA of every two layers, each image on its own: (L, B, N, D) -> (B, L, L), in [0, 1].

    ⟨K, K'⟩ / (‖K‖ ‖K'‖) of the Gram matrices K = X·Xᵀ of patches centered over the image. Blind to rotation and
    scale of the channels; 1 on the diagonal. nan for a layer whose patches are all equal.
    Source: Kornblith et al. 2019, arXiv:1905.00414, Eq 1, 2 and 5.
    """
    return torch.stack([_cka(image) for image in patches.unbind(1)])


def _cka(patches: Tensor) -> Tensor:
    """One image: (L, N, D) -> (L, L)."""
    layers, count, _ = patches.shape
    # One layer at a time, which stays in a CPU's cache.
    patches = torch.stack([_centered(layer) for layer in patches])
    products = patches.new_zeros(layers, layers)
    rows = max(1, GRAM_ENTRIES // (layers * count))
    for start in range(0, count, rows):
        gram = (patches[:, start : start + rows] @ patches.mT).flatten(1)
        products += gram @ gram.T
    norms = products.diagonal().sqrt()
    return (products / (norms[:, None] * norms)).clamp(0, 1)


def _centered(patches: Tensor) -> Tensor:
    """One layer without its mean, brought to norm 1: (N, D) -> (N, D); nan if all patches are equal.

    In double precision, else equal patches would leave rounding to compare. CKA knows no scale, and norm 1 keeps the
    squares of squares in the range of fp32.
    """
    centered = patches.to(torch.float64, copy=True)
    centered -= centered.mean(dim=0)
    return (centered / torch.linalg.vector_norm(centered)).float()


def layer_cosine(patches: Tensor) -> Tensor:
    """Mean over patches of the cosine between a patch at two layers: (L, B, N, D) -> (B, L, L), in [-1, 1].

    1 on the diagonal. A zero patch has cosine 0 to all. Source: ours.
    """
    unit = [unit_vectors(image).transpose(0, 1) for image in patches.unbind(1)]
    return torch.stack([(image @ image.mT).mean(dim=0) for image in unit])


@dataclass(frozen=True, kw_only=True)
class LayerSimilarity(AcrossLayers):
    """How alike every two layers are, by the patches that leave them: where features turn.

    `layer_cka` compares how patches relate to each other, whatever the axes; `layer_cosine` compares the patches
    themselves, in the axes that the residual stream keeps. Unit: 1.
    Source: Kornblith et al. 2019, arXiv:1905.00414 (CKA); the cosine is ours.

    Extreme values: neither knows a scale, so any length is right; CKA is NaN for a layer whose patches are all
    equal, and the cosine 0 for zero patches. In bf16 both are comparable to about a per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "other_layer")
        return (
            Variable("layer_cka", dims, "1", "linear CKA of the patches of two layers", "arXiv:1905.00414, Eq 5"),
            Variable("layer_cosine", dims, "1", "mean cosine between a patch at two layers", "ours"),
        )

    def keep(self, view: LayerView) -> Tensor:
        """The patches that leave the block, in fp32: (B, N, D)."""
        return view.patches("block_out")

    def compare(self, kept: Tensor) -> dict[str, Tensor]:
        return {"layer_cka": linear_cka(kept), "layer_cosine": layer_cosine(kept)}

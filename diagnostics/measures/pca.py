"""Principal components of an image's patches: the first three make color maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable

# The numbers of the iteration are our choice. Up to DIRECT a full decomposition is as quick as the iteration.
DIRECT = 64
BLOCK = 4  # vectors at once, more than the components, so that components of equal variance are found
STEPS = 8  # steps before the first look; enough for most layers of a trained model
MORE_STEPS = 4  # steps between looks
TOLERANCE = 1e-4  # residual over eigenvalue at which a component counts as found
# Below this share of the largest variance, fp32 has too few digits left for a component: then double precision.
STEEP = 1e-4
SMALLEST, LARGEST = 1e-6, 1e6  # largest entries of an image between which fp32 has room for all products
SEED = 0  # of the starting vectors: a fixed start gives the same digits in every run


class Components(NamedTuple):
    """Scores (B, N, k) of the patches on each component, and the share (B, k) of variance it explains."""

    scores: Tensor
    share: Tensor


def principal_components(patches: Tensor, *, count: int = 3) -> Components:
    """The first principal components of each image's patches: (B, N, D) -> scores (B, N, k), share (B, k).

    Patches are centered over the image. Scores are in the model's unit, as scikit-learn's PCA gives them; the sign is
    such that the patch of largest |score| is positive (our choice). Components beyond the rank are 0. An image whose
    patches are all equal has scores 0 and share nan; one with nan or infinity has nan in both.
    Source: Pearson 1901; the iteration is block Krylov (Musco and Musco 2015, arXiv:1504.05477, Algorithm 2).
    """
    broken = ~patches.flatten(1).isfinite().all(dim=1)
    finite = patches.float().masked_fill(broken[:, None, None], 0)
    # Squares of squares of large entries would leave fp32, and those of small ones vanish.
    largest = finite.abs().amax(dim=(1, 2), keepdim=True)
    scale = largest.where(((largest < SMALLEST) | (largest > LARGEST)) & (largest > 0), 1.0)
    finite = finite / scale
    scores, values, total = _decompose(finite, count)
    steep = values[:, -1] < STEEP * values[:, 0]
    if bool(steep.any()):
        exact = _decompose(finite[steep].double(), count)
        scores[steep], values[steep], total[steep] = (value.float() for value in exact)
    share = (values / total).masked_fill(total == 0, torch.nan)
    peak = scores.gather(1, scores.abs().argmax(dim=1, keepdim=True))
    number = torch.finfo(scores.dtype)
    scores = (torch.where(peak < 0, -scores, scores) * scale).clamp(number.min, number.max)
    extra = count - values.shape[1]
    return Components(
        torch.nn.functional.pad(scores, (0, extra)).masked_fill(broken[:, None, None], torch.nan),
        torch.nn.functional.pad(share, (0, extra)).masked_fill((broken | (total == 0)[:, 0])[:, None], torch.nan),
    )


def _decompose(patches: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B, N, k), variances (B, k) and their total (B, 1), times N: of finite patches (B, N, D)."""
    centered = patches - patches.mean(dim=1, keepdim=True)
    wide = centered.shape[1] <= centered.shape[2]
    gram = centered @ centered.mT if wide else centered.mT @ centered
    values, vectors = leading_eigenpairs(gram, min(count, gram.shape[-1]))
    values = values.clamp_min(0)
    scores = vectors * values.sqrt()[:, None] if wide else centered @ vectors
    return scores, values, gram.diagonal(dim1=1, dim2=2).sum(dim=1, keepdim=True)


def leading_eigenpairs(gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues and their vectors, descending: symmetric (B, n, n) -> (B, k), (B, n, k).

    Grows a Krylov space until all are found; matrices for which that does not pay (small ones, and noise, whose
    eigenvalues lie close together) are decomposed in full.
    Source: Musco and Musco 2015, arXiv:1504.05477, Algorithm 2, with the basis orthogonalised as it grows.
    """
    size = gram.shape[-1]
    if size > DIRECT:
        start = torch.randn(size, max(BLOCK, count + 1), generator=torch.Generator().manual_seed(SEED))
        block = torch.linalg.qr(start.to(gram)).Q.expand(len(gram), -1, -1)
        basis, image = block, gram @ block
        steps = STEPS
        while basis.shape[-1] + steps * block.shape[-1] <= size // 4:
            for _ in range(steps):
                block = _orthonormal_to(basis, image[..., -block.shape[-1] :])
                basis, image = torch.cat([basis, block], dim=-1), torch.cat([image, gram @ block], dim=-1)
            values, within = torch.linalg.eigh(basis.mT @ image)
            values, within = values[:, -count:].flip(-1), within[..., -count:].flip(-1)
            vectors = basis @ within
            residual = torch.linalg.vector_norm(image @ within - vectors * values[:, None], dim=1)
            # Values below rounding of the largest, as those beyond the rank, can be found no better.
            floor = size * torch.finfo(gram.dtype).eps * values[:, :1]
            if bool((residual <= TOLERANCE * values + floor).all()):
                return values, vectors
            steps = MORE_STEPS
    values, vectors = torch.linalg.eigh(gram)
    return values[:, -count:].flip(-1), vectors[..., -count:].flip(-1)


def _orthonormal_to(basis: Tensor, block: Tensor) -> Tensor:
    """Orthonormal columns that span `block` outside `basis`. Twice, since once leaves rounding along the basis."""
    for _ in range(2):
        block = torch.linalg.qr(block - basis @ (basis.mT @ block)).Q
    return block


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents(Measure):
    """The first principal components of the patches that leave the block, for color maps.

    Of each image and layer on its own, centered; `component` counts from 1. Unit of `pca`: the model's own, signed so
    that the patch of largest magnitude is positive. Source: Pearson 1901; drawn as in SC-CLIP, arXiv:2411.15869, Fig 2.

    Extreme values: scaled to the largest entry, so any finite one is right; scores are 0 and shares NaN where all
    patches are equal. In bf16 components whose variances are close turn into each other, and a sign may flip:
    compare the shares, and maps only where one component leads.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    components: int = 3  # our choice: red, green, blue

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"`components` should be at least 1, 3 for colors; got {self.components}.")

    @property
    def variables(self) -> tuple[Variable, ...]:
        maps, shares = ("image", "layer", "component", "row", "col"), ("image", "layer", "component")
        return (
            Variable("pca", maps, "model units", "score of the patch on the principal component", "Pearson 1901"),
            Variable("pca_share", shares, "1", "share of variance that the component explains", "Pearson 1901"),
        )

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {"component": np.arange(1, self.components + 1)}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        components = principal_components(view.patches("block_out"), count=self.components)
        return {"pca": view.layout.to_map(components.scores.mT, dim=2), "pca_share": components.share}

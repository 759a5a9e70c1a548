"""Cosine similarity between patches of one layer, as maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.lengths import unit_vectors
from diagnostics.measures.queries import chosen_patches, outside_the_grid, query_coordinate


def cosine_affinity(patches: Tensor) -> Tensor:
    """Cosine similarity of every two patches of one image: (B, N, D) -> (B, N, N), in [-1, 1] up to rounding.

    A zero patch has similarity 0 to all, itself included.
    """
    unit = unit_vectors(patches)
    return unit @ unit.mT


@dataclass(frozen=True, kw_only=True)
class PatchSimilarity(Measure):
    """Maps of cosine similarity to chosen patches, for figures.

    `patches` are row-major numbers of patches from 0; empty means the center patch. `tap` is the place to compare at.
    Unit: 1, in [-1, 1]; a zero patch has similarity 0 to all. Source: SC-CLIP, arXiv:2411.15869, Fig 7.

    Extreme values: only directions count, so any length is right. In bf16 it is comparable to about 0.02; cosines
    near 0 are not, one by one.
    """

    patches: tuple[int, ...] = ()
    tap: Literal["block_in", "normed", "attn_out", "block_sum", "ffn_out", "block_out"] = "block_out"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tap,)

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "query", "row", "col")
        source = "SC-CLIP, arXiv:2411.15869, Fig 7"
        return (Variable("patch_similarity", dims, "1", "cosine similarity to the query patch", source),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return outside_the_grid(self.patches, layout)

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return query_coordinate(self.patches, layout)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        unit = unit_vectors(view.patches(self.tap))
        queries = unit[:, list(chosen_patches(self.patches, view.layout))]
        return {"patch_similarity": view.layout.to_map(queries @ unit.mT, dim=2)}

"""How large tokens are: norms of patches and prefix tokens, and norm and peak of a block's three streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.lengths import vector_norm
from diagnostics.measures.tokens import STREAMS, Tokens, per_stream, stream_coordinates

DARCET = "Darcet et al. 2024, arXiv:2309.16588, Sec 2"
CLEARCLIP = "ClearCLIP, arXiv:2407.12442"
# Our choice: a ratio above it says no more than that the median is next to nothing.
GREATEST_RATIO = 1e6


def token_norms(tokens: Tensor) -> Tensor:
    """L2 norm of each token: (B, T, D) -> (B, T), at least 0; right also where squares leave fp32.

    Source: Darcet et al. 2024, arXiv:2309.16588, Sec 2, where outliers are tokens of high norm.
    """
    return vector_norm(tokens)


def median_norm(norms: Tensor) -> Tensor:
    """The image's median norm: (B, N) -> (B).

    The textbook median: the mean of the two middle norms where N is even. `torch.median` would give the lower one.
    """
    return torch.quantile(norms, 0.5, dim=-1)


def norm_ratio(norms: Tensor) -> Tensor:
    """Largest over median norm of the image: (B, N) -> (B), from 1 to 1e6; 1 where all patches are equally long.

    A median below a millionth of the largest norm counts as that, so the ratio is 1e6 where the median is 0 and other
    patches are not. Infinite norms, of which fp32 has no ratio, have NaN. Source: ours.
    """
    largest = norms.amax(dim=-1)
    floor = largest / GREATEST_RATIO
    return torch.where(largest == 0, 1.0, largest / median_norm(norms).maximum(floor))


def norm_outliers(norms: Tensor, *, ratio: float) -> Tensor:
    """Number of norms above `ratio` times the image's median: (B, N) -> (B) int32, 0…N.

    -1 where a norm is nan: then nothing was counted.
    """
    count = (norms > ratio * median_norm(norms)[:, None]).sum(dim=-1)
    return torch.where(norms.isnan().any(dim=-1), -1, count).int()


def frobenius_norm(tokens: Tensor) -> Tensor:
    """‖X‖_F over all entries of an image's tokens: (B, T, D) -> (B), at least 0.

    Source: ClearCLIP, Fig 2.
    """
    return vector_norm(tokens.flatten(1))


def peak_value(tokens: Tensor) -> Tensor:
    """max_ij X_ij, the largest signed entry of an image's tokens: (B, T, D) -> (B).

    Signed as in ClearCLIP, Fig 4 b: a massive negative entry does not show.
    """
    return tokens.flatten(1).amax(dim=1)


@dataclass(frozen=True, kw_only=True)
class Norms(Measure):
    """Norm of each patch that leaves the block, and how far the largest stands above the image's median.

    Unit of `norm`: the model's own. `norm_outliers` counts the patches above `ratio` times the median.
    Source: Darcet et al. 2024, arXiv:2309.16588, who look at norms; median and ratio are ours.

    Extreme values: norms are right up to the largest number of fp32; `norm_ratio` is at most 1e6, where the median
    is 0, and 1 where all norms are. In bf16 the norms of a few outliers move by some per cent, and `norm_outliers`
    with patches near the line: compare counts within one precision.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    ratio: float = 3.0  # our choice: the sources draw absolute lines, which differ from model to model

    def __post_init__(self) -> None:
        check_positive("ratio", self.ratio, hint="a multiple of the median norm such as 3")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (
            Variable("norm", ("image", "layer", "row", "col"), "model units", "norm of the patch", DARCET),
            Variable("norm_ratio", ("image", "layer"), "1", "largest over median patch norm", "ours"),
            Variable(
                "norm_outliers", ("image", "layer"), "1", f"patches above {self.ratio:g} x median norm", "ours", "int32"
            ),
        )

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        norms = token_norms(view.patches("block_out"))
        return {
            "norm": view.layout.to_map(norms),
            "norm_ratio": norm_ratio(norms),
            "norm_outliers": norm_outliers(norms, ratio=self.ratio),
        }


@dataclass(frozen=True, kw_only=True)
class ClassNorm(Measure):
    """Norm of the class token that leaves the block.

    Unit: the model's own. Source: Darcet et al. 2024, arXiv:2309.16588, Sec 2.

    Extreme values: right up to the largest number of fp32. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("class_norm", ("image", "layer"), "model units", "norm of the class token", DARCET),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"class_norm": token_norms(view.layout.class_token(view["block_out"]).float())}


@dataclass(frozen=True, kw_only=True)
class PrefixNorm(Measure):
    """Norm of each prefix token (class token and registers) that leaves the block.

    Unit: the model's own. Source: Darcet et al. 2024, arXiv:2309.16588, Sec 3 (registers take the outliers' norms).

    Extreme values: right up to the largest number of fp32. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "prefix")
        return (Variable("prefix_norm", dims, "model units", "norm of the prefix token", "arXiv:2309.16588, Sec 3"),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if layout.prefix else "the model has no prefix tokens"

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {"prefix": np.arange(layout.prefix)}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"prefix_norm": token_norms(view["block_out"][:, : view.layout.prefix].float())}


@dataclass(frozen=True, kw_only=True)
class Frobenius(Measure):
    """Frobenius norm of what enters the block, of attention's output, and of their sum.

    Over all tokens, prefix included, as ClearCLIP's X is T x D; `tokens="patches"` leaves the prefix out.
    Unit: the model's own. Source: ClearCLIP, arXiv:2407.12442, Fig 2.

    Extreme values: right up to the largest number of fp32, which is the most it can be. In bf16 it moves by some
    per cent.
    """

    needs: ClassVar[tuple[str, ...]] = STREAMS
    tokens: Tokens = "all"

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "stream")
        return (Variable("frobenius", dims, "model units", "Frobenius norm", f"{CLEARCLIP}, Fig 2"),)

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return stream_coordinates()

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"frobenius": per_stream(view, self.tokens, frobenius_norm)}


@dataclass(frozen=True, kw_only=True)
class Peak(Measure):
    """Largest entry, signed, of what enters the block, of attention's output, and of their sum.

    Over all tokens, prefix included, as ClearCLIP's X is T x D; `tokens="patches"` leaves the prefix out.
    Unit: the model's own. Source: ClearCLIP, arXiv:2407.12442, Fig 4 b.

    Extreme values: no arithmetic, so any finite entry is right. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = STREAMS
    tokens: Tokens = "all"

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "stream")
        return (Variable("peak", dims, "model units", "largest entry", f"{CLEARCLIP}, Fig 4 b"),)

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return stream_coordinates()

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"peak": per_stream(view, self.tokens, peak_value)}

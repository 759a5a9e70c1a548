"""What attention hands out: the length of values, attention weighted by it, and whether an output is one direction.

An outlier may draw attention and hand out next to nothing (the head is switched off), or hand out one thing to all (a
broadcast). Attention alone does not tell which; values do. Loads the whole attention of an image for the rank alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.backbones.base import recorded_attention
from diagnostics.check_numbers import check_positive
from diagnostics.layout import Layout
from diagnostics.measures.attention import HEADS, MAPS, _statistics, attention_rows, rank_one_share
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recording

KOBAYASHI = "Kobayashi et al. 2020, arXiv:2004.10102, who weigh attention by the norm of what it brings"


def value_norms(view: LayerView) -> Tensor:
    """Norm of the value of each patch in each head: (B, H, N)."""
    return token_norms(view.layout.patches(view["value"].float(), dim=2))


@dataclass(frozen=True, kw_only=True)
class ValueNorm(Measure):
    """Norm of each patch's value, per head.

    Unit: the model's own. Source: Kobayashi et al. 2020, arXiv:2004.10102; of outliers it is small where attention to
    them switches a head off.

    Extreme values: right up to the largest number of fp32. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ("value",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("value_norm", MAPS, "model units", "norm of the patch's value", KOBAYASHI),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"value_norm": view.layout.to_map(value_norms(view), dim=2)}


@dataclass(frozen=True, kw_only=True)
class ValueAttention(Measure):
    """Attention that each patch receives times the norm of its value, per head: what it hands out at most.

    Unit: the model's own. Mean over patch queries. The out-projection is left aside: what heads hand out may cancel
    when they are merged. Source: Kobayashi et al. 2020, arXiv:2004.10102.

    Extreme values: as attention received and the values' norms have them. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = (*ATTENTION_PARTS, "value")
    wants: ClassVar[tuple[str, ...]] = ("received",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        name = "attention received times norm of the value"
        return (Variable("value_attention", MAPS, "model units", name, KOBAYASHI),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        received = view.layout.patches(_statistics(view, "received"), dim=2)
        return {"value_attention": view.layout.to_map(received * value_norms(view), dim=2)}


@dataclass(frozen=True, kw_only=True)
class ClassContribution(Measure):
    """Attention of the class token to each patch times the norm of its value, per head: what the patch brings to it.

    Unit: the model's own; before the out-projection. Source: Kobayashi et al. 2020, arXiv:2004.10102.

    Extreme values: as the class token's attention and the values' norms have them. In bf16 it moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = (*ATTENTION_PARTS, "value")

    @property
    def variables(self) -> tuple[Variable, ...]:
        name = "class token's attention times norm of the value"
        return (Variable("class_contribution", MAPS, "model units", name, KOBAYASHI),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        layout, bias = view.layout, view.recording.get("attention_bias", view.layer)
        query = layout.class_token(view["query"], dim=2)[:, :, None]
        bias = None if bias is None else layout.class_token(bias, dim=2)[:, :, None]
        row = layout.patches(attention_rows(query, view["key"], bias)[:, :, 0], dim=2)
        return {"class_contribution": layout.to_map(row * value_norms(view), dim=2)}


@dataclass(frozen=True, kw_only=True)
class OutputRankOne(Measure):
    """How much of what a head hands from patches to patches is one direction, with the outliers' part and without.

    Share of the largest squared singular value in attention times values, (N, d), per head: 1 where all patches get a
    multiple of one vector. `…_without` leaves out the columns of patches whose norm at the block input is above
    `ratio` times the image's median; the same where there are none. Only a difference between the two says that
    outliers broadcast. Unit: 1, above 0 and at most 1, which is also the answer where nothing is handed out.
    Source: ours, after arXiv:2606.08105, whose abstract tells a head that is switched off from one that broadcasts.

    Extreme values: outputs are brought to a largest entry of 1 first. In bf16 shares move by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = (*ATTENTION_PARTS, "value", "block_in")
    ratio: float = 3.0  # our choice, as for `norms`

    def __post_init__(self) -> None:
        check_positive("ratio", self.ratio, hint="a multiple of the median norm such as 3")

    @property
    def variables(self) -> tuple[Variable, ...]:
        share = "share of one direction in the head's output"
        return (
            Variable("output_rank_one_share", HEADS, "1", share, "ours"),
            Variable("output_rank_one_share_without", HEADS, "1", f"{share}, without outliers", "ours"),
        )

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        layout = view.layout
        norms = token_norms(view.patches("block_in"))
        ordinary = norms <= self.ratio * median_norm(norms)[:, None]
        whole, without = [], []
        for place in range(len(norms)):  # image by image: whole maps of a batch may be large
            weights = layout.patches(layout.patches(_attention_of(view, place), dim=1), dim=2)
            values = layout.patches(view["value"][place].float(), dim=1)
            whole.append(_one_direction(weights @ values))
            without.append(_one_direction((weights * ordinary[place]) @ values))
        return {
            "output_rank_one_share": torch.stack(whole),
            "output_rank_one_share_without": torch.stack(without),
        }


def _one_direction(outputs: Tensor) -> Tensor:
    """`rank_one_share` of what heads hand out, (H, N, d) -> (H), right at any scale; 1 where it is all zero."""
    size = outputs.abs().amax(dim=(1, 2), keepdim=True)
    share = rank_one_share(outputs / size.where(size > 0, 1.0))
    return share.where(size[:, 0, 0] > 0, 1.0)


def _attention_of(view: LayerView, place: int) -> Tensor:
    """Attention of one image of a batch: (H, T, T)."""
    parts = {name: view.recording.get(name, view.layer) for name in ATTENTION_PARTS}
    alone = {
        (name, view.layer): value if name == "attention_bias" else value[place : place + 1]
        for name, value in parts.items()
        if value is not None
    }
    return recorded_attention(Recording(view.recording.depth, alone), view.layer)[0]

"""Chosen channels of the residual stream set to a value, to see what they carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diagnostics.edits.base import Edit
from diagnostics.registry import unknown_name
from diagnostics.taps import TAPS

PLACES = ("block_in", "normed", "attn_out", "block_sum", "ffn_hidden", "ffn_out", "block_out")


@dataclass(frozen=True, kw_only=True)
class MuteChannels(Edit):
    """Sets channels to 0, or to their mean over the image's patches, in the tokens that pass a tap.

    `channels` from 0. `tokens`: `all`, or `patches`, which leaves class token and registers as they are.
    Source: Sun et al. 2024, arXiv:2402.17762, Sec 3, who set massive activations to zero or to their mean.
    """

    channels: tuple[int, ...] = ()
    to: Literal["zero", "mean"] = "zero"
    tokens: Literal["all", "patches"] = "all"
    tap: str = "block_out"

    def __post_init__(self) -> None:
        if self.tap not in PLACES:
            raise unknown_name("tap of tokens", self.tap, PLACES if self.tap in TAPS else TAPS)
        if self.to not in ("zero", "mean"):
            raise ValueError(f"`to` should be `zero` or `mean`; got `{self.to}`.")
        if self.tokens not in ("all", "patches"):
            raise ValueError(f"`tokens` should be `all` or `patches`; got `{self.tokens}`.")

    def wants(self, name: str, layer: int) -> bool:
        return name == self.tap and self.active(layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        width = value.shape[-1]
        outside = [channel for channel in self.channels if not 0 <= channel < width]
        if outside:
            raise ValueError(f"`channels` should be 0…{width - 1} at tap `{name}`; got {outside}.")
        first = self.layout.prefix if self.tokens == "patches" else 0
        channels = torch.tensor(self.channels, dtype=torch.long, device=value.device)
        muted = value.clone()
        if self.to == "mean":
            mean = self.layout.patches(value)[:, :, channels].mean(dim=1, keepdim=True)
            muted[:, first:, channels] = mean.expand(-1, value.shape[1] - first, -1)
        else:
            muted[:, first:, channels] = 0
        return muted

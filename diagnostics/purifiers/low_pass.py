"""A low-pass filter over the whole map, outliers included: the control that spreads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_choice, check_inputs, computing_dtype
from diagnostics.purifiers.neighborhood import GATHERED, around, average, window

Kernel = Literal["box", "gaussian"]


@dataclass(frozen=True, kw_only=True)
class LowPass(Purifier):
    """Replaces marked patches by the low-passed map at their place: a window over all patches, marked ones included.

    The filter doesn't know the mask, unlike the `neighbor-` purifiers: an outlier keeps its own share and gets that
    of its marked neighbors. Only marked patches take the filtered value. Weights are equal (`box`), or a Gaussian of
    width `sigma` in patches; at the border they are divided by those in the image. nan in a window makes its marked
    center nan.
    Source: RF-CLIP, arXiv:2511.16170, reports that a low-pass filter collapses; window and kernels are our choice.
    """

    reads_marked: ClassVar[bool] = True
    keeps_fully_marked: ClassVar[bool] = False

    size: int = 3  # patches along each side, our choice: the window of SC-CLIP's interpolations
    kernel: Kernel = "box"  # our choice
    sigma: float = 1.0  # our choice; for `gaussian` only

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, Kernel)
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"`size` should be an odd number of patches, as 3; got {self.size}.")
        check_positive("sigma", self.sigma, hint="in patches, such as 1")

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        dtype = computing_dtype(patches.dtype)
        places = window(self.size // 2, device=patches.device)
        weights = torch.ones(len(places), device=patches.device, dtype=dtype)
        if self.kernel == "gaussian":
            weights = torch.exp(-places.square().sum(dim=1).to(dtype) / (2 * self.sigma**2))
        result = patches.clone()
        step = max(1, GATHERED // len(places))
        for b, n in zip(*(marked.split(step) for marked in mask.nonzero(as_tuple=True)), strict=True):
            number, inside = around(n, places, layout.grid)
            values = patches[b[:, None], number].to(dtype).masked_fill(~inside[..., None], 0)
            result[b, n] = average(values, inside * weights).to(patches.dtype)
        return result

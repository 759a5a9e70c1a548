"""Masks that the encoder itself found and left behind."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from segment.decoding.masks.base import MaskSource
from segment.method import Encoding


@dataclass(frozen=True, kw_only=True)
class LeftMasks(MaskSource):
    """The encoder's own masks, `extras["masks"]` (B, rows, cols) over the padded window, enlarged by the nearest."""

    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        if "masks" not in encoding.extras:
            known = ", ".join(encoding.extras) or "nothing"
            raise ValueError(
                f"`masks=left` needs `masks` in the encoding's extras; there is {known}. Take `lavg`'s encoder, or "
                "another source of masks."
            )
        masks = encoding.extras["masks"]
        # Whole numbers up to 2^24 are exact in fp32, in which there is a resize on every device.
        return F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()

"""Outliers by the share of the dominant channels in a patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.channels import channel_means, channel_peaks
from diagnostics.taps import Recording

Profile = Literal["mean", "peak"]


@dataclass(frozen=True, kw_only=True)
class ChannelPeak(ThresholdDetector):
    """Marks patches in which one of the image's dominant channels takes an outstanding share.

    Score: D · max_{j in dominant} |x_j| / Σ_k |x_k| over the D channels of the patch that leaves the block: in [0, D],
    1 is an even share. So the published line φ > 5/D reads score > 5 at any width. A zero patch scores 0.
    Dominant are the `dominant` channels of each image where its profile peaks, the mean |x| over its patches;
    `profile="peak"` takes the largest |x| instead, which a single outlier can lead. Each image on its own.
    Source: RF-CLIP (AAAI 2026, arXiv:2511.16170), by its description: no code is released. It doesn't say how signs
    are handled; we take magnitudes, since massive channels are negative in some models.

    Extreme values: finite for entries up to 1e35. Equal patches have equal scores: if one channel dominates them, all
    are marked, as their own share is what counts. In bf16 up to 7 % of the marks differ, as other channels are dominant
    where several are close; the scores' rank correlation is 0.996 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = (
        "5/D, here 5 times the even share: RF-CLIP, arXiv:2511.16170, for CLIP ViT-B/16 (D = 768, dominant channels "
        "such as 4, 162 and 474); ViT-L/14 has another condition on attention there, which is left out. The number of "
        "dominant channels is our choice."
    )

    threshold: float = 5.0  # RF-CLIP: 5/D, in multiples of the even share 1/D
    dominant: int = 3  # our choice: the description lists a few channels, and no number
    profile: Profile = "mean"  # RF-CLIP's profile; what it averages besides is not said, so one layer is our choice

    def __post_init__(self) -> None:
        if self.dominant < 1:
            raise ValueError(
                f"`dominant` should be at least 1, the number of channels to look at; got {self.dominant}."
            )
        if self.profile not in ("mean", "peak"):
            raise ValueError(f"`profile` should be `mean` or `peak`; got `{self.profile}`.")

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        sizes = layout.patches(recording["block_out"]).float().abs()
        width = sizes.shape[-1]
        profile = channel_peaks(sizes) if self.profile == "peak" else channel_means(sizes, normalize="none")
        chosen = profile.topk(min(self.dominant, width), dim=1).indices
        peaks = sizes.gather(2, chosen[:, None].expand(-1, sizes.shape[1], -1)).amax(dim=2)
        # The mean is the sum over D: their ratio is the share times D.
        return peaks / sizes.mean(dim=2).clamp_min(torch.finfo(sizes.dtype).tiny)

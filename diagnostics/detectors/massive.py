"""Outliers by massive activations: single channels that dwarf all else in the hidden state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.channels import channel_peaks
from diagnostics.measures.tokens import Tokens
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class Massive(ThresholdDetector):
    """Marks patches that hold a massive activation.

    Score: the patch's largest |x| over the line that it has to pass, max(`absolute`, `ratio` x median |x|). So it is
    at least 0, has no unit, and exceeds 1 exactly where some channel passes both tests. The median is over all entries
    of the image's hidden state, prefix tokens included; `tokens="patches"` leaves the prefix out. Of an even number
    it is the lower middle one.
    Source: Sun et al. 2024, arXiv:2402.17762, Sec 2, by whom |x| exceeds 100 and is about 1000 times the median or
    more. Both are taken strictly here.

    Extreme values: finite for finite tokens; at most the largest |x| over `absolute`. In bf16 no mark differed where it
    was measured; the scores' rank correlation is 0.992 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = (
        "|x| above 100 and about 1000 x the median |x|: Sun et al. 2024, arXiv:2402.17762, Sec 2, for language models, "
        "and seen in CLIP and DINOv2 ViT-L as well. A threshold of 1 is both lines at once; another scales both."
    )

    threshold: float = 1.0  # by construction: the lines are in `absolute` and `ratio`
    absolute: float = 100.0  # Sun et al. 2024, Sec 2
    ratio: float = 1000.0  # Sun et al. 2024, Sec 2
    tokens: Tokens = "all"

    def __post_init__(self) -> None:
        # Above 0, since the score divides by it.
        check_positive("absolute", self.absolute, hint="in the paper 100")
        check_positive("ratio", self.ratio, hint="in the paper 1000")
        if self.tokens not in ("all", "patches"):
            raise ValueError(f"`tokens` should be `all` (prefix tokens included) or `patches`; got `{self.tokens}`.")

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        hidden = recording["block_out"].float()
        patches = layout.patches(hidden)
        median = (hidden if self.tokens == "all" else patches).abs().flatten(1).median(dim=1).values
        # The peak of each token over its channels is that of each channel over tokens, with the two exchanged.
        peaks = channel_peaks(patches.mT)
        return peaks / (self.ratio * median).clamp_min(self.absolute)[:, None]

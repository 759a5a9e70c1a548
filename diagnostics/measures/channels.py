"""Which channels carry the outliers: peaks and means per channel, massive activations, and kurtosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from diagnostics.check_numbers import check_not_negative, check_positive
from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.tokens import Tokens, chosen_tokens

Normalize = Literal["max", "sum", "none"]

CLEARCLIP = "ClearCLIP, arXiv:2407.12442, Fig 4 c"
MASSIVE = "Sun et al. 2024, arXiv:2402.17762, Sec 2"
KURTOSIS = "He et al. 2024, arXiv:2405.19279, Sec 2"


def channel_peaks(tokens: Tensor) -> Tensor:
    """Largest magnitude of each channel over an image's tokens: (B, T, D) -> (B, D), at least 0. Source: ours."""
    return tokens.abs().amax(dim=1)


def channel_means(tokens: Tensor, *, normalize: Normalize = "max") -> Tensor:
    """Mean of each channel over an image's tokens: (B, T, D) -> (B, D).

    `max` divides by the image's largest |mean|, so that values lie in [-1, 1]; `sum` by the sum of |mean|, so that
    they are shares; `none` leaves the model's unit. All 0 where all means are 0.
    Source: ClearCLIP, Fig 4 c, which does not say what its means are normalized by.
    """
    means = tokens.mean(dim=1)
    if normalize == "none":
        return means
    # By the largest first: the sum of large means would leave fp32.
    largest = means.abs().amax(dim=1, keepdim=True)
    means = means / largest.where(largest != 0, 1.0)
    return means if normalize == "max" else means / means.abs().sum(dim=1, keepdim=True).clamp_min(1)


def sorted_channel_means(means: xr.DataArray) -> xr.DataArray:
    """Channel means averaged over images, then sorted ascending: (…, channel) -> (…, place), `place` from 0.

    For drawing; which channel came to which place is lost. A mean without dim `image` is sorted as it is.
    Source: ClearCLIP, Fig 4 c; averaging before sorting is our choice, so that one channel keeps one place.
    """
    if "channel" not in means.dims:
        raise ValueError(f"`means` should have a dim `channel`, as the variable channel_mean; got {means.dims}.")
    average = means.mean("image", skipna=False, keep_attrs=True) if "image" in means.dims else means
    average = average.transpose(..., "channel").drop_vars("channel", errors="ignore")
    ordered = average.copy(data=np.sort(average.values, axis=-1)).rename(channel="place")
    return ordered.assign_coords(place=np.arange(ordered.sizes["place"]))


def massive_activations(tokens: Tensor, *, absolute: float = 100.0, ratio: float = 1000.0) -> Tensor:
    """Marks entries with |x| > `absolute` and |x| > `ratio` x the image's median |x|: (B, T, D) -> (B, T, D) bool.

    The median is over all entries of the image; of an even number it is the lower middle one, as of `torch.median`.
    An image that holds nan has no mark.
    Source: Sun et al. 2024, arXiv:2402.17762, Sec 2.
    """
    sizes = tokens.abs().flatten(1)
    largest = sizes.amax(dim=1)
    threshold = torch.where(largest <= absolute, absolute, torch.inf).to(sizes)  # inf: no mark, as for nan
    # The median costs ten times all else here. It is asked for only where it can leave a mark: the largest entry is
    # above `absolute`, and half of the entries are below its `ratio`-th part, hence the median.
    candidates = (largest > absolute).nonzero().flatten()
    below = (sizes[candidates] < largest[candidates, None] / ratio).sum(dim=1)
    candidates = candidates[2 * below >= sizes.shape[1]]
    threshold[candidates] = (ratio * sizes[candidates].median(dim=1).values).clamp_min(absolute)
    return (sizes > threshold[:, None]).view_as(tokens)


def channel_kurtosis(tokens: Tensor) -> Tensor:
    """mean_j s_j⁴ / (mean_j s_j²)² with s_j the RMS of channel j over tokens: (B, T, D) -> (B), in [1, D].

    1 where all channels are equally large, also all 0; D where one carries all.
    Source: He et al. 2024, arXiv:2405.19279, Sec 2.
    """
    # Relative to the largest entry, and then to the mean: squares and fourth powers of large entries would leave fp32.
    largest = tokens.abs().amax(dim=(1, 2), keepdim=True)
    power = (tokens / largest.where(largest != 0, 1.0)).square().mean(dim=1)
    mean = power.mean(dim=1, keepdim=True)
    return torch.where(mean[:, 0] == 0, 1.0, (power / mean).square().mean(dim=1))


def _peaks(view: LayerView) -> Tensor:
    """Channel peaks of the patches that leave the block; two measures use them."""
    if "channel_peaks" not in view.shared:
        view.shared["channel_peaks"] = channel_peaks(view.patches("block_out"))
    return view.shared["channel_peaks"]


@dataclass(frozen=True, kw_only=True)
class ChannelPeak(Measure):
    """Largest magnitude of each channel over the patches that leave the block.

    Unit: the model's own. Source: ours.

    Extreme values: no arithmetic, so any finite entry is right. In bf16 a peak moves by some per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "channel")
        return (Variable("channel_peak", dims, "model units", "largest magnitude of the channel over patches", "ours"),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"channel_peak": _peaks(view)}


@dataclass(frozen=True, kw_only=True)
class TopChannels(Measure):
    """The `k` channels of largest magnitude over the patches that leave the block, largest first.

    `top_channel` numbers channels from 0; `rank` counts from 1. Source: ours.

    Extreme values: equal channels come in no fixed order, so numbers mean nothing where all tokens are 0; -1 in an
    image with NaN. In bf16 the numbers are not comparable but for channels far above the others: an index has no
    small error.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    k: int = 5  # our choice

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"`k` should be at least 1, the number of channels to name; got {self.k}.")

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "rank")
        return (
            Variable("top_channel", dims, "1", "channel of large magnitude, from 0", "ours", "int32"),
            Variable("top_channel_value", dims, "model units", "largest magnitude of that channel", "ours"),
        )

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {"rank": np.arange(1, self.k + 1)}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        peaks = _peaks(view)
        if self.k > peaks.shape[1]:
            raise ValueError(f"`k` should be at most the {peaks.shape[1]} channels of this model; got {self.k}.")
        top = peaks.topk(self.k, dim=1)
        # NaN is larger than all to `topk`: in an image that holds it the numbers would say nothing.
        broken = top.values.isnan().any(dim=1, keepdim=True)
        return {
            "top_channel": top.indices.masked_fill(broken, -1).int(),
            "top_channel_value": top.values.masked_fill(broken, torch.nan),
        }


@dataclass(frozen=True, kw_only=True)
class ChannelMean(Measure):
    """Mean of each channel over what enters the block, relative to the image's largest.

    Over all tokens, prefix included, as ClearCLIP's X is T x D; `tokens="patches"` leaves the prefix out.
    Source: ClearCLIP, arXiv:2407.12442, Fig 4 c, drawn by `sorted_channel_means`.

    Extreme values: all 0 where all means are 0; right for entries up to 1e35. In bf16 means of channels of both
    signs are not comparable one by one: they are small differences of large sums.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_in",)
    normalize: Normalize = "max"  # our choice: the paper does not say
    tokens: Tokens = "all"

    def __post_init__(self) -> None:
        if self.normalize not in ("max", "sum", "none"):
            raise ValueError(f"`normalize` should be `max`, `sum` or `none`; got `{self.normalize}`.")

    @property
    def variables(self) -> tuple[Variable, ...]:
        units = "model units" if self.normalize == "none" else "1"
        name = {"max": "channel mean over largest |channel mean|", "sum": "channel mean over sum of |channel mean|"}
        dims = ("image", "layer", "channel")
        return (Variable("channel_mean", dims, units, name.get(self.normalize, "channel mean"), CLEARCLIP),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"channel_mean": channel_means(chosen_tokens(view, "block_in", self.tokens), normalize=self.normalize)}


@dataclass(frozen=True, kw_only=True)
class MassiveCount(Measure):
    """Number of massive activations among what leaves the block.

    An entry is massive if |x| > `absolute` and |x| > `ratio` x the median |x| of the image's hidden state, which is
    all tokens, prefix included; `tokens="patches"` leaves the prefix out. -1 where the image holds nan.
    Source: Sun et al. 2024, arXiv:2402.17762, Sec 2.

    Extreme values: 0 where all entries are equal or 0; any finite entry is right. In bf16 the count is not
    comparable where entries lie near a line.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    absolute: float = 100.0  # Sun et al. 2024, Sec 2
    ratio: float = 1000.0  # Sun et al. 2024, Sec 2
    tokens: Tokens = "all"

    def __post_init__(self) -> None:
        check_not_negative("absolute", self.absolute, hint="in the paper 100")
        check_positive("ratio", self.ratio, hint="in the paper 1000")

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("massive_count", ("image", "layer"), "1", "number of massive activations", MASSIVE, "int32"),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        tokens = chosen_tokens(view, "block_out", self.tokens)
        massive = massive_activations(tokens, absolute=self.absolute, ratio=self.ratio)
        broken = tokens.flatten(1).amax(dim=1).isnan()
        return {"massive_count": torch.where(broken, -1, massive.flatten(1).sum(dim=1)).int()}


@dataclass(frozen=True, kw_only=True)
class ChannelKurtosis(Measure):
    """How unevenly magnitude spreads over the channels that leave the block.

    1 means evenly, D that one channel carries all. Over all tokens, prefix included; `tokens="patches"` leaves the
    prefix out. Source: He et al. 2024, arXiv:2405.19279, Sec 2.

    Extreme values: relative to the largest entry, so any finite one is right; 1 where all entries are equal or 0. In
    bf16 it moves by some per cent where a few channels carry all.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    tokens: Tokens = "all"

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("channel_kurtosis", ("image", "layer"), "1", "kurtosis of channel magnitudes", KURTOSIS),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"channel_kurtosis": channel_kurtosis(chosen_tokens(view, "block_out", self.tokens))}

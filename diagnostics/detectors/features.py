"""What detectors of outlying points look at: the patches of one tap, with damaged images set apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.taps import Recording

# The taps that hold one vector for each token.
TokenTap = Literal["block_in", "normed", "attn_out", "block_sum", "ffn_hidden", "ffn_out", "block_out"]


def patch_features(recording: Recording, layout: Layout, tap: TokenTap) -> Tensor:
    """The patches of a tap in fp32: (B, N, D)."""
    return layout.patches(recording[tap]).float()


def score_whole(features: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """`score` of features (B, N, D) -> (B, N); nan for all patches of an image that holds a nan or an infinity.

    `score` sees zeros in the place of such an image, so that solvers don't stumble over it.
    """
    damaged = ~features.isfinite().flatten(1).all(dim=1)
    scores = score(features.masked_fill(damaged[:, None, None], 0.0))
    return scores.masked_fill(damaged[:, None], torch.nan)


def score_each(features: Tensor, score: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """For libraries that take one image at a time: `score` maps (N, D) to (N). -> (B, N) fp32, on the same device.

    nan for all patches of an image that holds a nan or an infinity; `score` does not see such an image.
    """
    scores = torch.full(features.shape[:2], torch.nan)
    for number, patches in enumerate(features.detach().cpu()):
        if patches.isfinite().all():
            scores[number] = torch.from_numpy(np.asarray(score(patches.numpy()), dtype=np.float32))
    return scores.to(features.device)


def image_median(values: Tensor) -> Tensor:
    """Textbook median of each image, the mean of the middle two where N is even: (B, N) -> (B, 1)."""
    return values.quantile(0.5, dim=1, keepdim=True)


def over_median(values: Tensor) -> Tensor:
    """Values over the image's median: (B, N), at least 0 -> (B, N), no unit, 1 is ordinary.

    At most 1e6, which is reached where the median is 0; 0 where all values are. A zero median would otherwise make
    every score infinite, and the order among them would be lost.
    """
    floor = (values.amax(dim=1, keepdim=True) * 1e-6).clamp_min(torch.finfo(values.dtype).tiny)
    return values / image_median(values).maximum(floor)

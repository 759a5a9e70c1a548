"""Linear interpolation as a matrix, one for rows and one for columns."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_weights(places: Tensor, count: int) -> Tensor:
    """Weights that read a row of `count` cells at `places` (n), linearly between the cells' centers: (n, count).

    Places count cells from the first one's edge, so that the center of cell i is i + 0.5. Beyond the outermost centers
    the border's value holds. Two of these, for rows and columns, are a bilinear interpolation without aligned corners.
    """
    index = (places - 0.5).clamp(0, count - 1)
    cells = torch.arange(count, dtype=places.dtype, device=places.device)
    return (1 - (index[:, None] - cells).abs()).clamp_min(0)

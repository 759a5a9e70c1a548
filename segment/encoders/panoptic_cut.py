"""An image cut into masks, one normalized cut after the other: LaVG's Panoptic Cut."""

from __future__ import annotations

import torch
from scipy.ndimage import label
from torch import Tensor

from diagnostics.layout import Grid
from segment.encoders.normalized_cut import UNIFORM, links_of, second_eigenvector

# The number of patches that no mask has; the same as in segment.decoding.masks.
REMAINDER = -1
# dahyun-kang/lavg 2db88e5: with so many patches left, or fewer, nothing is cut any more.
FEWEST = 5
# So many corners in a part make it the ground, and the other side the mask.
CORNERS = 3


def panoptic_cut(features: Tensor, grid: Grid, *, tau: float = 0.3, cuts: int = 8, stop_alike: bool = False) -> Tensor:
    """Masks of patches that belong together: (B, N, D) -> (B, N) int64, 0…K-1 in the order found, -1 for the remainder.

    Up to `cuts` times the graph of the patches that no mask has, linked where their cosine is above `tau`, is cut in
    two. The part: entries of the second eigenvector x above its mean. Where it holds 3 or 4 of the image's corners, or
    not the entry of largest |x|, the other side is taken, and x turned round. The seed is then the largest entry, and
    the mask the patches of the part that hang together with it over edges; the rest of the part stays in the graph.
    Patches of earlier masks are in no part and count as the least |x|. It ends with 5 patches left; where patches are
    all linked alike it goes on, as released, unless `stop_alike`.
    Source: LaVG (Kang and Cho, ECCV 2024), dahyun-kang/lavg 2db88e5.
    Deviation: the release looks for eigenvectors from a random start in single precision, and does not repeat itself
    where several are nearly as good; here they are exact. And no conditional random field refines the masks, whose
    usual library, pydensecrf, is no longer maintained, nor are masks dropped that one would change by more than half.
    """
    return torch.stack([_masks(image, grid, tau, cuts, stop_alike) for image in features])


def _masks(features: Tensor, grid: Grid, tau: float, cuts: int, stop_alike: bool) -> Tensor:
    labels = torch.full((len(features),), REMAINDER, device=features.device)
    for number in range(cuts):
        nodes = (labels == REMAINDER).nonzero()[:, 0]
        if len(nodes) <= FEWEST:
            break
        vector, value = second_eigenvector(links_of(features[nodes], tau))
        if stop_alike and value > 1 - UNIFORM:
            break
        mask = seed_part(vector.to(nodes.device), nodes, grid)
        if not mask.any():  # the seed has a mask already
            break
        labels[mask] = number
    return labels


def seed_part(vector: Tensor, nodes: Tensor, grid: Grid) -> Tensor:
    """The patches that a cut takes off: x (n) of the patches `nodes` (n) among the grid's N -> (N,) bool."""
    free = torch.zeros(grid.patches, dtype=torch.bool, device=nodes.device)
    free[nodes] = True
    x = torch.full((grid.patches,), float(vector.abs().min()), dtype=vector.dtype, device=nodes.device)
    x[nodes] = vector
    part = (x > vector.mean()) & free
    corners = part.view(grid.rows, grid.cols)[:: max(grid.rows - 1, 1), :: max(grid.cols - 1, 1)]
    if int(corners.sum()) >= CORNERS or not part[first_largest(x.abs())]:
        x, part = -x, ~part & free
    pieces, _ = label(part.view(grid.rows, grid.cols).cpu().numpy())  # joined over edges, not corners
    pieces = torch.from_numpy(pieces).flatten().to(nodes.device)
    return (pieces == pieces[first_largest(x)]) & part


def first_largest(values: Tensor) -> int:
    """Where the largest value is, the first of equals, on every device."""
    return int((values == values.max()).nonzero()[0])

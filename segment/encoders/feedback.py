"""Which patches belong together by the labels that they have, as attention: ResCLIP's feedback."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# yvhangyang/ResCLIP 0e085f7: the smoothing of each row, and what sums of rows get before the division.
SMOOTHING, LENGTH = 5.0, 31
ROW_EPSILON = 1e-8


def patch_labels(pixels: Tensor, patch_size: tuple[int, int], count: int) -> Tensor:
    """The most frequent label of each patch, the smallest of equals: (B, h, w) of 0…count-1 -> (B, rows, cols)."""
    height, width = patch_size
    cells = pixels.unflatten(1, (-1, height)).unflatten(3, (-1, width)).transpose(2, 3).flatten(3)
    # One bin for each cell and label; integers, so that nothing depends on the order of addition.
    number = torch.arange(cells[..., 0].numel(), device=pixels.device).view(*cells.shape[:3], 1)
    votes = torch.bincount((number * count + cells).flatten(), minlength=cells[..., 0].numel() * count)
    votes = votes.view(*cells.shape[:3], count)
    most = votes.amax(dim=-1, keepdim=True)
    places = torch.arange(count, device=pixels.device)
    return places.where(votes == most, count).amin(dim=-1)


def feedback_map(labels: Tensor) -> Tensor:
    """How much patches of one label belong together: (B, rows, cols) -> (B, N, N), rows adding to 1.

    1 for two patches of the same label, 0 for others. The 1 becomes exp(-s / max s) where the way from one to the other
    meets another label, s the larger of their distances in rows and in columns. Rows are then smoothed along the number
    of the patch (a Gaussian of 5, over 31 entries, which runs over the ends of lines) and divided by their sum.

    The way: s places, at 1…s parts of max s of the straight line, so that it is looked at whole for the farthest pairs
    alone, for near ones only where it begins. So the map is not symmetric. That the released code does so was worked
    out from its outputs; with the likely intention, parts of s, features are up to 9e-3 away.
    Source: yvhangyang/ResCLIP 0e085f7, `delete_same_entity`.
    """
    batch, rows, cols = labels.shape
    flat = labels.flatten(1)
    same = flat[:, :, None] == flat[:, None]
    distance, lines = _lines(rows, cols)
    distance = distance.to(labels.device)
    broken = torch.zeros_like(same)
    for between in lines:  # each a patch of the line, for every pair
        broken |= flat[:, between.to(labels.device)] != flat[:, :, None]
    far = torch.exp(-distance / distance.max().clamp_min(1))
    maps = torch.where(broken, far, 1.0) * same
    offsets = torch.arange(LENGTH, dtype=torch.float32, device=labels.device) - LENGTH // 2
    kernel = torch.exp(-offsets.square() / (2 * SMOOTHING**2))
    kernel = kernel / kernel.sum()
    smooth = F.conv1d(maps.flatten(0, 1)[:, None], kernel[None, None], padding=LENGTH // 2)
    smooth = smooth[:, 0].unflatten(0, (batch, -1))
    return smooth / (smooth.sum(dim=-1, keepdim=True) + ROW_EPSILON)


@lru_cache(maxsize=4)
def _lines(rows: int, cols: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Distances (N, N) between patches, and the patches of the straight lines between: step by step (N, N) numbers.

    The step number t of a pair is at t / max s of the way, rounded, halves to even; none goes beyond step s.
    """
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    down, across = down.flatten().float(), across.flatten().float()
    distance = torch.maximum((down[None] - down[:, None]).abs(), (across[None] - across[:, None]).abs())
    longest = max(rows, cols) - 1
    # Many places lie half way between two patches: which one they are rounded to hangs on the last bit, so the places
    # are worked out as released, in single precision.
    parts = torch.linspace(0, 1, longest + 1)
    lines = []
    for step in range(1, longest + 1):
        share = parts[distance.clamp_max(step).long()]
        row, col = (((1 - share) * places[:, None] + share * places[None]).round().long() for places in (down, across))
        lines.append(row * cols + col)
    return distance, tuple(lines)

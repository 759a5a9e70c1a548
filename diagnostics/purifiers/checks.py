"""What every purifier checks first: shapes of patches and mask, and settings that are one of a few words."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from diagnostics.layout import Layout


def check_inputs(patches: Tensor, mask: Tensor, layout: Layout) -> None:
    """Raises unless patches are (B, N, D) floats of this layout and the mask is (B, N) bool on the same device.

    Parameters
    ----------
    patches : Tensor (B, N, D), floating
        Patches.
    mask : Tensor (B, N), bool
        Marks.
    layout : Layout
        Where the tokens sit.

    Raises
    ------
    ValueError
        If shapes, types or devices do not fit.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> layout = ao.Layout(prefix=1, grid=ao.Grid(2, 2))
    >>> ao.check_inputs(torch.zeros(1, 4, 8), torch.zeros(1, 4, dtype=torch.bool), layout)
    """
    if patches.ndim != 3 or patches.shape[1] != layout.count:
        raise ValueError(
            f"`patches` should be (B, N, D) with N={layout.count}; got {tuple(patches.shape)}. "
            "Drop the prefix tokens first: layout.patches(tokens)."
        )
    if not patches.is_floating_point():
        raise TypeError(f"`patches` should be floats; got {patches.dtype}. Convert them: patches.float().")
    check_mask(mask, patches, layout)


def check_mask(mask: Tensor, like: Tensor, layout: Layout) -> None:
    """Raises unless the mask is (B, N) bool with the images and on the device of `like` (B, …)."""
    if mask.dtype != torch.bool:
        raise TypeError(f"`mask` should be bool; got {mask.dtype}. A detector's mask is: detector.mark(scores).")
    if tuple(mask.shape) != (like.shape[0], layout.count):
        raise ValueError(
            f"`mask` should be (B, N) = ({like.shape[0]}, {layout.count}); got {tuple(mask.shape)}. "
            "It marks patches only, without the prefix tokens."
        )
    if mask.device != like.device:
        raise ValueError(
            f"`mask` should be on {like.device}; got {mask.device}. Move it there: mask.to('{like.device}')."
        )


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raises unless `value` is one of the words of a Literal."""
    if value not in get_args(choices):
        words = ", ".join(f"`{word}`" for word in get_args(choices))
        raise ValueError(f"`{name}` should be one of {words}; got `{value}`.")


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float32 for half precisions, else the dtype itself: what replacements are computed in."""
    return torch.promote_types(dtype, torch.float32)

"""Images as tensors, normalized as a backbone wants them, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diagnostics.images.read import BACKGROUND, MAX_PIXELS, Frames, Source, as_image
from diagnostics.images.resampling import resize
from diagnostics.images.sizes import Size, as_size


def to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB -> (3, h, w) float32 in [0, 1]."""
    if image.mode != "RGB":
        raise ValueError(f"the image should be 8-bit RGB; got mode {image.mode}. Convert it: as_image(image).")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def _statistics(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    if not images.is_floating_point() or images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(
            f"`images` should be floats of shape (…, 3, h, w); got {images.dtype} of {tuple(images.shape)}. "
            "Make them with diagnostics.images.to_tensor."
        )
    if len(mean) != 3 or len(std) != 3 or not all(math.isfinite(value) and value > 0 for value in std):
        raise ValueError(f"`mean` and `std` should have 3 values each, `std` above 0; got {mean!r} and {std!r}.")
    return images.new_tensor(mean).view(3, 1, 1), images.new_tensor(std).view(3, 1, 1)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(…, 3, h, w) in [0, 1] -> (images - mean) / std by channel; a backbone's are backbone.mean and backbone.std."""
    middle, spread = _statistics(images, mean, std)
    return (images - middle) / spread


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The way back, for drawing: (…, 3, h, w) -> images·std + mean by channel."""
    middle, spread = _statistics(images, mean, std)
    return images * spread + middle


def load_image(
    source: Source,
    *,
    size: Size | str | int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    resampling: str = "bicubic",
    frames: Frames = "refuse",
    background: tuple[int, int, int] = BACKGROUND,
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """One image ready for a backbone: opened as `as_image`, resized, normalized -> (3, h, w) float32.

    `size` as in `as_size`: a text counts width x height, a tuple (height, width).

    Parameters
    ----------
    source : path, PIL image or array (H, W, 3) uint8
        The image.
    size : str, int or (int, int)
        `224`, `WxH`, `short:336` or `native`; a tuple is (height, width).
    mean, std : sequence of 3 floats
        Normalization of RGB in [0, 1]; a backbone has them.
    resampling : str
        `bicubic`, `bilinear`, `opencv` …
    frames, background, max_pixels
        As in `ao.open_image`.

    Returns
    -------
    Tensor (3, h, w), float32
        The normalized image.

    Raises
    ------
    ImageError
        A ValueError, as in `ao.open_image`.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> scene = ao.Shapes(scenes=1)[0].image
    >>> ao.load_image(scene, size="64", mean=backbone.mean, std=backbone.std).shape
    torch.Size([3, 64, 64])
    """
    wanted = as_size(size)
    image = as_image(source, frames=frames, background=background, max_pixels=max_pixels)
    height, width = wanted.of(*image.size)
    return normalize(to_tensor(resize(image, height, width, resampling=resampling)), mean, std)

"""An image brought to another size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from diagnostics.images.opencv_resize import opencv_bilinear
from diagnostics.registry import unknown_name

RESAMPLING: dict[str, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
# Not Pillow's: bilinear without antialiasing, as OpenCV does it.
OPENCV = "opencv"


def resize(image: Image.Image, height: int, width: int, *, resampling: str = "bicubic") -> Image.Image:
    """The image at that size, by Pillow's filters, which widen when shrinking (antialiasing), `nearest` excepted.

    `resampling`: bicubic, bilinear, lanczos or nearest; or `opencv`, bilinear from the two nearest pixels a side
    whatever the factor, to the bit as cv2.resize. At the same size the image itself comes back.
    """
    if resampling not in (*RESAMPLING, OPENCV):
        raise unknown_name("resampling", resampling, (*RESAMPLING, OPENCV))
    if height < 1 or width < 1:
        raise ValueError(f"an image should have at least 1x1 pixels; asked for height x width = {height}x{width}.")
    if image.size == (width, height):
        return image
    if resampling == OPENCV:
        return Image.fromarray(opencv_bilinear(np.asarray(image.convert("RGB")), height, width))
    return image.resize((width, height), RESAMPLING[resampling])

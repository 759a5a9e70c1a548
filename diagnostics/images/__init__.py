"""Images from files, PIL images or arrays: listed, opened, resized, normalized; or refused by name.

Every function here ends in pixels as a viewer shows them, or in an ImageError that says which file, what is wrong
and what to do. Names are loaded when they are first used: importing the package loads neither torch nor PIL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names

if TYPE_CHECKING:
    from diagnostics.images.errors import FileError, ImageError
    from diagnostics.images.find import IMAGE_SUFFIXES, find_images
    from diagnostics.images.read import (
        BACKGROUND,
        IMAGE_FORMATS,
        MAX_PIXELS,
        Frames,
        Source,
        as_image,
        open_image,
        read_file,
        read_size,
        upright,
    )
    from diagnostics.images.resampling import OPENCV, RESAMPLING, resize
    from diagnostics.images.sizes import LONGEST, Size, as_size, parse_size
    from diagnostics.images.tensors import denormalize, load_image, normalize, to_tensor

__all__ = [
    "BACKGROUND",
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "LONGEST",
    "MAX_PIXELS",
    "OPENCV",
    "RESAMPLING",
    "FileError",
    "Frames",
    "ImageError",
    "Size",
    "Source",
    "as_image",
    "as_size",
    "denormalize",
    "find_images",
    "load_image",
    "normalize",
    "open_image",
    "parse_size",
    "read_file",
    "read_size",
    "resize",
    "to_tensor",
    "upright",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.images.errors": ("FileError", "ImageError"),
        "diagnostics.images.find": ("IMAGE_SUFFIXES", "find_images"),
        "diagnostics.images.read": (
            "BACKGROUND", "IMAGE_FORMATS", "MAX_PIXELS", "Frames", "Source", "as_image", "open_image", "read_file",
            "read_size", "upright",
        ),
        "diagnostics.images.resampling": ("OPENCV", "RESAMPLING", "resize"),
        "diagnostics.images.sizes": ("LONGEST", "Size", "as_size", "parse_size"),
        "diagnostics.images.tensors": ("denormalize", "load_image", "normalize", "to_tensor"),
    },
)  # fmt: skip

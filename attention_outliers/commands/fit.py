"""Refusing, before a model is loaded, images that can't fit into the memory: arithmetic over headers of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attention_outliers.commands.options import Model, device_of

if TYPE_CHECKING:
    from diagnostics.backbones.outline import Outline
    from diagnostics.images.feed import ListedImage
    from diagnostics.options import SizeLike

# Pixels up to which nothing is asked before the model is loaded: any machine that holds a model holds their tokens.
# Our choice.
SMALL = 2**21


def large_images(
    model: Model, images: Sequence[str], size: SizeLike | None
) -> tuple[Outline, list[ListedImage]] | None:
    """The backbone's outline and the large images as it gets them; None where there are none or it is unknown."""
    if size is None:
        return None  # the model's own
    from diagnostics.backbones.outline import outline_of
    from diagnostics.images.feed import list_images
    from diagnostics.images.sizes import as_size

    listed = [image for image in list_images(images, as_size(size), strict=False) if _pixels(image) > SMALL]
    outline = outline_of(model.backbone) if listed else None
    return None if outline is None else (outline, listed)


def _pixels(image: ListedImage) -> int:
    return image.size[0] * image.size[1]


def check_fit(model: Model, images: Sequence[str], size: SizeLike | None, parts: Sequence[Any]) -> None:
    """ValueError for an image whose tokens, or what `parts` hold of their pairs, take more than the memory."""
    if large := large_images(model, images, size):
        from diagnostics.memory import check_memory

        check_memory(*large, parts, device=device_of(model.device))

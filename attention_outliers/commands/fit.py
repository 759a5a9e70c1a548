"""What is known of a run before a model is loaded: images that can't fit into the memory, layers that are not there."""

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


def check_layers(backbone: str, layers: Sequence[int] | None) -> None:
    """ValueError for a layer that the backbone of a spec does not have, where that can be told without its weights."""
    if layers is None:
        return
    from diagnostics.backbones.outline import outline_of
    from diagnostics.taps import resolve_layer

    if (outline := outline_of(backbone)) is not None:
        for layer in layers:
            resolve_layer(layer, outline.depth)


def padding_note(size: SizeLike | None, patch_size: tuple[int, int]) -> str:
    """Says that images of a fixed size are padded up to whole patches; empty where they aren't, and for other rules.

    The model's own size, `native` and `short:N` pad as a rule, and nobody chose the number of patches.
    """
    from diagnostics.images.sizes import Size, as_size
    from diagnostics.layout import grid_of

    chosen = Size() if size is None else as_size(size)
    if chosen.height is None or chosen.width is None:
        return ""
    grid, (high, wide) = grid_of((chosen.height, chosen.width), patch_size), patch_size
    larger = Size(height=grid.rows * high, width=grid.cols * wide)
    if larger == chosen:
        return ""
    smaller = Size(height=max(1, chosen.height // high) * high, width=max(1, chosen.width // wide) * wide)
    ways = " or ".join(dict.fromkeys(map(str, (smaller, larger))))
    return (
        f"--size {chosen} is no multiple of the patch of {Size(height=high, width=wide)}: images are padded to "
        f"{larger}, and the patches at their border are partly padding; use {ways}."
    )

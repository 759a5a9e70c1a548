"""Label maps: found beside their images, read as class numbers, resized, and voted down to one label a patch."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from diagnostics.images import MAX_PIXELS, read_file, upright
from diagnostics.images.errors import ImageError
from diagnostics.images.file_names import spellings
from diagnostics.images.label_palette import LabelError, Palette
from diagnostics.layout import pad_to_patches
from diagnostics.measures.base import UNLABELED

# Formats that keep class numbers as they were written, and the suffixes looked for, in this order. JPEG is lossy, GIF
# writers renumber the palette, and Pillow stretches the values of PGM files to 255.
LABEL_FORMATS = ("PNG", "TIFF", "BMP")
LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
# Pixels that belong to no class. Source: 255 is PASCAL VOC's boundary, and mmsegmentation's default `ignore_index`.
IGNORE = (255,)

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF tags, and the value of the second that turns grays round


def find_label(image: str | Path, folder: str | Path) -> Path:
    """The label map of an image: the same name with the suffix of a label map (png, tif, tiff, bmp).

    The suffix stands in place of the image's own or, looked for first, behind it: `a.jpg.png`, where `a.png` is another
    image.

    The image's own sub-folders come first: for `images/val/a.jpg` it looks for `folder/images/val/a.png`, then
    `folder/val/a.png` (as in ADE20K), then `folder/a.png` (as in PASCAL VOC). The image itself is never its label
    map. LabelError if there is none.
    """
    image, folder = Path(image), Path(folder)
    if not folder.is_dir():
        raise LabelError(folder, f"is not a directory of label maps (asked for the one of {image})", "Check the path")
    parents = [part for part in image.parent.parts if part not in (image.anchor, "..")]
    for start in range(len(parents) + 1):
        for name in (image.name, image.stem):
            for stem, suffix in product(spellings("/".join((*parents[start:], name))), LABEL_SUFFIXES):
                for label in (folder / f"{stem}{suffix}", folder / f"{stem}{suffix.upper()}"):
                    if label.is_file() and not (image.exists() and label.samefile(image)):
                        return label
    looked = ", ".join(LABEL_SUFFIXES)
    raise LabelError(
        folder,
        f"has no label map for the image {image}: no `{image.stem}` with {looked}, neither there nor in the "
        "image's own sub-folders",
        "Give the label map the image's name, or leave the image out",
    )


def shared_labels(images: Sequence[Path | None], folder: Path) -> dict[int, tuple[Path, int]]:
    """Number of each image that another one would share its label map with -> that map, and the other's number.

    None stands for an image that is no file. A label map belongs to one image: none of these has it.
    """
    namesakes: dict[str, list[int]] = {}
    for number, image in enumerate(images):
        if image is not None:
            namesakes.setdefault(unicodedata.normalize("NFC", image.stem), []).append(number)
    users: dict[Path, list[int]] = {}
    for number in (number for group in namesakes.values() if len(group) > 1 for number in group):
        try:
            users.setdefault(find_label(cast(Path, images[number]), folder), []).append(number)
        except LabelError:
            continue  # reported when its turn comes
    return {
        number: (label, next(other for other in group if other != number))
        for label, group in users.items()
        if len(group) > 1
        for number in group
    }


def read_labels(
    path: str | Path,
    *,
    expected_size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    palette: Palette | None = None,
) -> np.ndarray:
    """The class numbers of a label map: (h, w) int64, at least 0.

    Palette files give their indices; gray files of 1 to 32 bits their values as written. The map is taken as it is
    displayed, so it belongs to the upright image. `expected_size` is the image's (width, height). Maps that
    show classes as colors need a `palette`, and so do grays in three equal channels.
    LabelError for another size, colors, alpha, fractions, negative values, lossy formats, several frames, damage.
    """
    path = Path(path)
    try:
        file = read_file(path, formats=LABEL_FORMATS, max_pixels=max_pixels)
        step = 1 if palette is not None else _gray_step(file, path)
        image = upright(file)
    except ImageError as error:
        reason, advice = error.reason, error.advice
        if isinstance(error.__cause__, UnidentifiedImageError):
            reason = f"is no label map that can be read (readable: {', '.join(LABEL_FORMATS)})"
            advice = "Export the class numbers as PNG: JPEG and GIF change them, PGM stretches them"
        raise LabelError(path, reason, advice) from error
    if expected_size is not None and image.size != tuple(expected_size):
        advice = "Give the label map of this very image, at its size"
        if image.size == tuple(reversed(expected_size)):
            advice = "Turn it by 90 degrees: images are turned as their EXIF says, and label maps belong to these"
        is_, should = ("x".join(map(str, size)) for size in (image.size, expected_size))
        raise LabelError(path, f"is {is_} (width x height), but its image is {should}", advice)
    if palette is not None:
        return palette.numbers(image, path)
    labels = np.asarray(image).astype(np.int64)
    if labels.min() < 0:
        raise LabelError(path, f"has negative class numbers, down to {labels.min()}", "Write 255 for ignored pixels")
    return labels // step


def _gray_step(file: Image.Image, path: Path) -> int:
    """What Pillow multiplied the values by: it stretches gray of 2 and 4 bits to 255. Refuses modes without classes."""
    if file.mode not in ("1", "L", "P", "I") and not file.mode.startswith("I;16"):
        raise LabelError(
            path,
            f"holds {'fractions' if file.mode == 'F' else 'colors or alpha'} (mode {file.mode}), not class numbers",
            "Convert it to one channel of class numbers, or a palette PNG; or give the colors of the classes: "
            "folder:palette=FILE, a color a line, or palette=gray for grays in three equal channels",
        )
    tags = getattr(file, "tag_v2", None)
    if tags is not None and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise LabelError(path, "counts its grays from white (TIFF WhiteIsZero)", "Export it as PNG")
    if file.mode != "L":
        return 1
    if file.format == "PNG":
        with path.open("rb") as head:
            bits = head.read(25)[24]  # bit depth in IHDR, which comes first in every PNG
    else:
        bits = 8 if tags is None else tags.get(_BITS, (8,))[0]
    return 255 // (2**bits - 1)


def resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) -> (height, width): each new pixel takes the label under its center. No new class number comes up.

    A center on the border of two pixels takes the lower or right one, as torch's `nearest-exact`.
    """
    if labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(f"`labels` should be (h, w) with at least one pixel; got {labels.shape}.")
    if height < 1 or width < 1:
        raise ValueError(f"labels should have at least 1x1 pixels; asked for height x width = {height}x{width}.")
    # (i + 1/2)·h / height in whole numbers, so that no rounding moves a center.
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    cols = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return labels[rows[:, None], cols]


def patch_labels_at(
    labels: np.ndarray, size: tuple[int, int], patch_size: tuple[int, int], *, ignore: Collection[int] = IGNORE
) -> Tensor:
    """`patch_labels` of one map (h, w) for its image shown at `size`, (height, width): (1, N) int64."""
    return patch_labels(torch.as_tensor(resize_labels(labels, *size))[None].long(), patch_size, ignore=ignore)


def patch_labels(labels: Tensor, patch_size: tuple[int, int], *, ignore: Collection[int] = IGNORE) -> Tensor:
    """One label a patch by majority vote: (B, h, w), or (h, w) for a batch of one -> (B, N) int64.

    Images are padded to whole patches as `pad_to_patches` does; padding has no vote. Of labels with equally many
    pixels the smallest wins (our choice). Ignored labels vote like others: a patch that one of them wins, or that is
    all padding, is UNLABELED. Any number of classes; memory as for the labels sorted, patch by patch.
    Source: SC-CLIP's same-class ROC (arXiv:2411.15869) labels a patch by its most frequent pixel label.
    """
    if labels.ndim not in (2, 3) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"`labels` should be whole numbers of shape (B, h, w) or (h, w); got {labels.dtype} of "
            f"{tuple(labels.shape)}. Read them with diagnostics.images.label_maps.read_labels."
        )
    if 0 in labels.shape:
        raise ValueError(f"`labels` should have at least one pixel; got {tuple(labels.shape)}.")
    if labels.min() < 0:
        raise ValueError(
            f"`labels` should be 0 or above; got {int(labels.min())}. Give ignored pixels a number of their own, 255 "
            "for example, and name it in `ignore`."
        )
    maps = pad_to_patches(labels.long().reshape(-1, *labels.shape[-2:]), patch_size, value=UNLABELED)
    pixels = (
        maps.unflatten(2, (-1, patch_size[1]))
        .unflatten(1, (-1, patch_size[0]))  # (B, rows, height in patch, cols, width in patch)
        .transpose(2, 3)
        .flatten(3)
        .flatten(1, 2)  # (B, N, pixels)
    )
    # Sorted, equal labels stand together: the count of each is the distance between its ends.
    pixels = pixels.sort(dim=-1).values
    votes = torch.searchsorted(pixels, pixels, right=True) - torch.searchsorted(pixels, pixels)
    votes = votes.masked_fill(pixels == UNLABELED, 0)
    # argmax takes the first of equals, which is the smallest label; with padding only, that is UNLABELED.
    winners = pixels.gather(-1, votes.argmax(dim=-1, keepdim=True)).squeeze(-1)
    ignored = torch.isin(winners, torch.tensor(sorted(ignore), dtype=torch.long, device=labels.device))
    return winners.masked_fill(ignored, UNLABELED)

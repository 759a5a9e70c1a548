"""Work on the images of a run, block by block: opened ahead, batched by size, with a bar, and what was left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from diagnostics.images.feed import ListedImage, Loaded, Loader, in_batches, opened_ahead, progress_bar
from diagnostics.options import RunOptions

Result = TypeVar("Result")


class BlockResults(NamedTuple, Generic[Result]):
    """A block of a run: the numbers of its images, the images, and each batch of them with what the work made of it."""

    numbers: range
    images: list[Loaded]
    batches: list[tuple[list[Loaded], Result]]


def work_on_blocks(
    loader: Loader,
    work: Callable[[list[Loaded]], Result],
    options: RunOptions,
    *,
    title: str,
    blocks: Sequence[range] | None = None,
    advice: str = "choose a smaller --size, or fewer measures",
) -> Iterator[BlockResults[Result]]:
    """Does `work` on the opened images of each block, at most `options.batch` of one size at once.

    `blocks` are those that are left to do, all by default. `title` stands at the progress bar, `advice` in the error
    for an image that does not fit into the memory.
    """
    count = len(loader.images)
    blocks = options.blocks(count) if blocks is None else blocks
    done = count - sum(map(len, blocks))
    with progress_bar(title, count, done=done, shown=options.progress) as bar:
        for numbers, images in opened_ahead(blocks, loader):
            yield BlockResults(numbers, images, list(in_batches(images, options.batch, work, advice=advice)))
            bar.update(len(numbers))


def reasons_of(images: Sequence[Loaded], listed: Sequence[ListedImage]) -> dict[str, str]:
    """Name -> why the image, or its label map, was left out."""
    return {listed[image.number].name: image.reason for image in images if image.reason}


def none_readable(count: int, reasons: Mapping[str, str]) -> ValueError:
    """The error of a run in which no image can be read."""
    return ValueError(f"none of the {count} images can be read. The first: {next(iter(reasons.values()))}")


def warn_left_out(reasons: Mapping[str, str], *, stacklevel: int = 3) -> None:
    """Warns of what was left out, if anything; by default at the line that called the caller."""
    if reasons:
        lines = "".join(f"\n  {reason}" for reason in reasons.values())
        warnings.warn(f"left out ({len(reasons)}):{lines}", stacklevel=stacklevel)

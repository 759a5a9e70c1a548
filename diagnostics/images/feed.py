"""The one way of images through a run: listed, named, de-duplicated, read ahead, batched; what is left out is named.

`image_sources` names what a user hands over, one after another and no further than asked. `list_images` looks at all
of them first, for runs whose stores must know sizes beforehand. `readable` opens sources ahead of the work and keeps
the reasons of those left out; `opened_ahead` does so in blocks. `in_batches` stacks what has one shape.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from diagnostics.images import (
    ImageError,
    Size,
    as_image,
    find_images,
    normalize,
    read_size,
    resize,
    to_tensor,
)
from diagnostics.images.content import array_content, file_contents, joined
from diagnostics.images.label_maps import (
    LabelError,
    find_label,
    patch_labels,
    read_labels,
    resize_labels,
    shared_labels,
)
from diagnostics.images.label_palette import Palette
from diagnostics.images.read_ahead import read_ahead
from diagnostics.layout import grid_of
from diagnostics.measures.base import UNLABELED
from diagnostics.printable import printable

NO_IMAGES = "`images` should name at least one image, folder or glob; got none."

Opened = TypeVar("Opened")
Result = TypeVar("Result")
LabelSource = Callable[[int], np.ndarray]


class HasPixels(Protocol):
    """What `in_batches` takes: something with pixels (3, h, w), or None where they could not be read."""

    @property
    def image(self) -> Tensor | None: ...


Item = TypeVar("Item", bound=HasPixels)


@dataclass(frozen=True)
class ImageSource:
    """An image of a run before it is opened: its number from 0, its name, and a file, PIL image or array."""

    number: int
    name: str
    image: Any

    @property
    def path(self) -> Path | None:
        """Its file, if it is one."""
        return self.image if isinstance(self.image, Path) else None


@dataclass(frozen=True)
class ListedImage:
    """One image of a run: its name, where it comes from, its own (height, width) and the size it is shown in.

    `reason` says why it can't be read; then the sizes are (0, 0).
    """

    name: str
    source: Any
    original: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True)
class Loaded:
    """An opened image: (3, h, w) normalized, patch labels (N,) or None, and why it or its labels are left out."""

    number: int
    image: Tensor | None
    labels: Tensor | None
    reason: str


@dataclass(frozen=True)
class Window:
    """A part (3, h, w) of an opened image: window `number` of the image at `place` in its group.

    `labels` (h, w): the same part of its true label map, where a run looks at that.
    """

    place: int
    number: int
    image: Tensor
    labels: Tensor | None = None


def image_sources(images: Any) -> Iterator[ImageSource]:
    """The images of a run with their numbers and unique names, in the order given, read no further than asked.

    `images`: a file, folder, glob, PIL image or array (h, w, 3); a pair (name, image) or a ListedImage, which keep
    their names; or any iterable of them. Files of a list are named by the part below the folder that all share, and a
    file that comes twice (by a link, too) comes once. Files of an iterator, which may have no end, are named by their
    absolute paths, each as often as it comes. Arrays and PIL images are `image-0001` and so on.
    """
    entries = [images] if _is_single(images) else images
    files = _files_once(entries) if isinstance(entries, Sequence) else None
    names: dict[Path, str] = {}
    if files is not None:
        names = {path: name for name, path in named(itertools.chain.from_iterable(files.values())).items()}
    numbers, arrays = itertools.count(), itertools.count(1)
    for place, entry in enumerate(entries):
        if isinstance(entry, (str, Path)):
            for path in _absolute(find_images([entry])) if files is None else files[place]:
                yield ImageSource(next(numbers), names.get(path, path.as_posix()), path)
        elif isinstance(entry, ListedImage):
            yield ImageSource(next(numbers), entry.name, entry.source)
        elif isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str):
            name, image = entry
            yield ImageSource(next(numbers), name, Path(image) if isinstance(image, str) else image)
        else:
            yield ImageSource(next(numbers), f"image-{next(arrays):04d}", entry)


def _is_single(images: Any) -> bool:
    """Whether this is one file, folder, glob, array or PIL image, and not several."""
    return isinstance(images, (str, Path, np.ndarray, ListedImage)) or hasattr(images, "getpixel")


def _absolute(paths: Iterable[Path]) -> list[Path]:
    return [Path(os.path.abspath(path)) for path in paths]


def _files_once(entries: Sequence[Any]) -> dict[int, list[Path]]:
    """Place of each file, folder or glob among the entries -> its files, absolute, without those that came before."""
    files: dict[int, list[Path]] = {}
    known: set[str] = set()
    for place, entry in enumerate(entries):
        if isinstance(entry, (str, Path)):
            files[place] = [path for path in _absolute(find_images([entry])) if os.path.realpath(path) not in known]
            known |= set(map(os.path.realpath, files[place]))
    return files


def list_images(images: Any, size: Size, *, strict: bool) -> list[ListedImage]:
    """All images of a run with unique names and sizes, from their headers alone.

    `images` as `image_sources` takes them; an iterator is read to its end. One that can't be read keeps its place with
    a `reason`; `strict` raises, and so does a run in which none can be read.
    """
    entries = images if _is_single(images) else list(images)
    listed = [
        _looked_at(ListedImage(source.name, source.image), size, strict=strict) for source in image_sources(entries)
    ]
    if not listed:
        raise ValueError(NO_IMAGES)
    if all(image.reason for image in listed):
        raise ValueError(f"none of the {len(listed)} images can be read. The first: {listed[0].reason}")
    return listed


def image_paths(sources: Any) -> dict[str, Path]:
    """Files, folders and globs as a run names them: name -> path.

    Parameters
    ----------
    sources : path, glob, or list of them
        Files, folders or globs.

    Returns
    -------
    dict of str to pathlib.Path
        Path by the name that the image has in a run: its path below the folder that all share.

    Raises
    ------
    ValueError
        If nothing is there.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> import attention_outliers as ao
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 4)).save(f"{folder}/a.png")
    ...     list(ao.image_paths(folder))
    ['a.png']
    """
    return named(find_images(sources))


def named(paths: Iterable[Path]) -> dict[str, Path]:
    """Name in a run -> path: the part below the folder that all paths share; bytes that are no UTF-8 as %FF."""
    absolute = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    shared = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    below = [(path.relative_to(shared).as_posix(), path) for path in absolute]
    taken = {name for name, _ in below}
    names: dict[str, Path] = {}
    for name, path in below:
        text = printable(name)
        while text != name and text in taken:  # another file is really called so
            text = text.replace("%", "%25", 1)
        taken.add(text)
        names[text] = path
    return names


def _looked_at(image: ListedImage, size: Size, *, strict: bool) -> ListedImage:
    """The image with its own size and the size it will be shown in."""
    try:
        from_file = isinstance(image.source, Path)
        width, height = read_size(image.source) if from_file else as_image(image.source).size
    except ImageError as error:
        if strict:
            raise
        return replace(image, reason=str(error))
    return replace(image, original=(height, width), size=size.of(width, height))


def digest(images: Sequence[ListedImage]) -> str:
    """Tells lists of images apart: names, sizes, and all bytes of each file or all values of each array."""
    files = iter(file_contents(image.source for image in images if isinstance(image.source, Path)))
    contents = [
        f"{image.name} {image.original} ".encode()
        + (next(files) if isinstance(image.source, Path) else array_content(np.asarray(image.source)))
        for image in images
    ]
    return f"{len(images)} images, {joined(contents)}"


def labels_digest(labels: Any, images: Sequence[ListedImage]) -> str:
    """Tells the label maps of a run apart, as `label_source` takes them: all bytes of each file, or all values."""
    if not isinstance(labels, (str, Path)):
        return joined(map(array_content, labels))
    return joined(file_contents(_label_or_folder(image, Path(labels)) for image in images))


def _label_or_folder(image: ListedImage, folder: Path) -> Path:
    """The label map of an image; the folder itself, which is no file, where there is none."""
    try:
        return find_label(image.source, folder) if isinstance(image.source, Path) else folder
    except LabelError:
        return folder


def label_source(labels: Any, images: Sequence[ListedImage], palette: Palette | None = None) -> LabelSource | None:
    """A function from an image's number to its label map (h, w) of class numbers; None without labels.

    `labels`: a folder of label maps with the images' names, or one array (h, w) an image. `palette` is that of label
    maps that show classes as colors. Two images of one name
    in several folders need a label map each, in sub-folders like theirs: one that they would share raises LabelError.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        folder = Path(labels)
        if not folder.is_dir():
            raise ValueError(f"`labels` should be a folder of label maps; `{folder}` is not a directory.")

        shared = shared_labels([image.source if isinstance(image.source, Path) else None for image in images], folder)

        def from_folder(number: int) -> np.ndarray:
            image = images[number]
            if not isinstance(image.source, Path):
                raise LabelError(image.name, "is not a file", "Give the label maps as arrays as well")
            if number in shared:
                label, other = shared[number]
                raise LabelError(
                    image.name,
                    f"would share the label map {label} with {images[other].name}",
                    f"Put each one's label map into sub-folders of {folder} that are named as the image's own",
                )
            height, width = image.original
            return read_labels(find_label(image.source, folder), expected_size=(width, height), palette=palette)

        return from_folder
    arrays = [np.asarray(array) for array in labels]
    if len(arrays) != len(images):
        raise ValueError(f"`labels` should be one map per image, {len(images)}; got {len(arrays)}.")

    def from_arrays(number: int) -> np.ndarray:
        array, image = arrays[number], images[number]
        if array.shape != image.original or not np.issubdtype(array.dtype, np.integer):
            raise LabelError(
                image.name,
                f"its label map should be integers of (h, w) = {image.original}; got {array.dtype} of {array.shape}",
                "Give it in the image's own size",
            )
        return array.astype(np.int64)

    return from_arrays


@dataclass(frozen=True)
class Loader:
    """Opens an image and its label map by number; may be called from several threads at once."""

    images: Sequence[ListedImage]
    mean: Sequence[float]
    std: Sequence[float]
    patch_size: tuple[int, int]
    labels: LabelSource | None = None
    ignore: Collection[int] = ()
    strict: bool = False

    def __call__(self, number: int) -> Loaded:
        image = self.images[number]
        if image.reason:
            return Loaded(number, None, None, image.reason)
        try:
            opened = resize(as_image(image.source), *image.size)
        except ImageError as error:
            if self.strict:
                raise
            return Loaded(number, None, None, str(error))
        pixels = normalize(to_tensor(opened), self.mean, self.std)
        if self.labels is None:
            return Loaded(number, pixels, None, "")
        try:
            labels = torch.from_numpy(resize_labels(self.labels(number), *image.size))
        except LabelError as error:
            if self.strict:
                raise
            unlabeled = torch.full((grid_of(image.size, self.patch_size).patches,), UNLABELED)
            return Loaded(number, pixels, unlabeled, f"not labeled: {error}")
        return Loaded(number, pixels, patch_labels(labels[None], self.patch_size, ignore=self.ignore)[0], "")


def readable(
    sources: Iterable[ImageSource],
    open_source: Callable[[ImageSource], Opened],
    left_out: dict[str, str],
    *,
    strict: bool = False,
    errors: tuple[type[Exception], ...] = (ImageError,),
) -> Iterator[tuple[ImageSource, Opened]]:
    """Sources with what `open_source` makes of them, in order, opened in threads a little ahead of the work.

    One that raises an error of `errors` goes into `left_out`, name -> reason, when its turn comes; with `strict` the
    error is raised there.
    """

    def attempt(source: ImageSource) -> tuple[Opened | None, Exception | None]:
        try:
            return open_source(source), None
        except errors as error:
            return None, error

    with closing(read_ahead(sources, attempt)) as attempts:
        for source, (opened, error) in attempts:
            if error is None:
                yield source, opened  # type: ignore[misc]
            elif strict:
                raise error
            else:
                left_out[source.name] = str(error)


def opened_ahead(blocks: Sequence[range], loader: Callable[[int], Loaded]) -> Iterator[tuple[range, list[Loaded]]]:
    """Blocks with their images opened, one block ahead of the one in work, so that opening costs no waiting."""
    numbers = itertools.chain.from_iterable(blocks)
    with closing(read_ahead(numbers, loader, ahead=max(map(len, blocks), default=1))) as loaded:
        for block in blocks:
            yield block, [item for _, item in itertools.islice(loaded, len(block))]


def progress_bar(
    what: str, total: int, *, done: int = 0, shown: bool = True, unit: str = "image", leave: bool = True
) -> Any:
    """A bar over images with the time left; not drawn where nobody looks (no terminal), or unless `shown`.

    A bar that does not `leave` is wiped at its end, and stands below one that is still there.
    """
    disable = None if shown else True
    return tqdm(total=total, initial=done, unit=unit, desc=what, disable=disable, dynamic_ncols=True, leave=leave)


def in_batches(
    items: Sequence[Item],
    batch: int,
    work: Callable[[list[Item]], Result],
    *,
    what: str = "image",
    advice: str = "choose a smaller --size, or fewer measures",
) -> Iterator[tuple[list[Item], Result]]:
    """Does `work` on opened images or windows, those of one size together, at most `batch` at once.

    Where a device runs out of memory, the batch is halved and the work continues. Where even one does not fit, a
    MemoryError says `what` it is, of which size, and the `advice`.
    """
    by_shape: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        if item.image is not None:
            by_shape.setdefault(tuple(item.image.shape), []).append(item)
    for shape, group in by_shape.items():
        start = 0
        while start < len(group):
            part = group[start : start + batch]
            try:
                result = work(part)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if len(part) == 1:
                    height, width = shape[-2:]
                    raise MemoryError(
                        f"a {what} of {width}x{height} pixels does not fit into the memory, even alone; {advice}."
                    ) from error
                batch = len(part) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            yield part, result
            start += len(part)


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the machine itself, has no memory left; for the latter torch has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def first_alike(loader: Loader, most: int) -> Tensor:
    """Images to learn from, (B, 3, h, w): of the first `most` that can be read, those of the most common shape.

    Raises ValueError where none of them can be opened.
    """
    readable = [number for number, image in enumerate(loader.images) if not image.reason]
    opened = [item.image for item in map(loader, readable[:most]) if item.image is not None]
    if not opened:
        raise ValueError(f"none of the first {most} images can be opened, from which detectors learn.")
    shapes = [tuple(pixels.shape) for pixels in opened]
    common = max(set(shapes), key=shapes.count)
    return torch.stack([pixels for pixels in opened if tuple(pixels.shape) == common])


def stacked(items: Sequence[HasPixels]) -> Tensor:
    """The pixels of a batch: (B, 3, h, w)."""
    return torch.stack([item.image for item in items if item.image is not None])

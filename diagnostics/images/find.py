"""Files, folders and globs as a list of image files."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

# What a folder is searched for, and what a file may hold, whatever its suffix. Our choice: the raster formats of
# photographs. EPS and the like are out, since Pillow hands them to other programs; TGA and DIB are out, since files
# of theirs can't be distinguished from damaged ones.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pfm", ".pgm",
    ".png", ".pnm", ".ppm", ".qoi", ".tif", ".tiff", ".webp",
})
# Images to other programs. A folder's are listed with the others, so that the run names each that it can't read; HEIC
# can be read with pillow-heif.
OTHER_SUFFIXES = frozenset({
    ".arw", ".avifs", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".hdr", ".heic", ".heics", ".heif", ".hif", ".ico",
    ".jpf", ".jpm", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pcx", ".psd", ".raf", ".rw2", ".sgi", ".tga", ".wdp",
})
# fmt: on
# The kinds of HEIF and AVIF files, as their beginnings name them.
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
# How files of images begin; those without a suffix are recognized by it.
BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"qoif", b"\xff\x0a",
    b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ",
)  # fmt: skip


def find_images(sources: str | Path | Iterable[str | Path]) -> list[Path]:
    """Files, folders and globs as a list of files, in the order given; a file that comes twice is kept once.

    A file is taken whatever its suffix: opening it shows whether it is an image. A folder is searched with all folders
    below it, links followed, for the suffixes of images in any case, and for files without suffix that begin as images;
    those of formats that can't be read are among them, so that a run names them. Hidden files are left out, and the
    order is that of the names. A glob (`*.jpg`, `**/*.png`) may come unexpanded; folders that it matches are searched.
    ValueError for a file that is not there, a glob without a match, a folder without images, or no source at all.
    """
    by_file: dict[str, Path] = {}
    listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not listed:
        raise ValueError("no images were given. Name files, folders, or globs such as `photos/*.jpg`.")
    for source in listed:
        for path in _images_of(source):
            by_file.setdefault(os.path.realpath(path), path)
    return list(by_file.values())


def _images_of(source: str | Path) -> list[Path]:
    path = Path(source).expanduser()
    wanted = " ".join(sorted(IMAGE_SUFFIXES))
    if path.is_dir():
        images, others = _search(path)
        if not images:
            kinds = ", ".join(suffix or "no suffix" for suffix, _ in others.most_common(3))
            contents = f"{others.total()} other files, among them {kinds}" if others else "no files at all"
            raise ValueError(
                f"the folder `{source}` has no images in it or below: {contents}. Looked for {wanted}, in any case. "
                "Name the folder that holds the images."
            )
        return images
    if path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise ValueError(
            f"there is no file or folder `{source}` (looked for {path.absolute()}). Check the spelling, or name a "
            "folder or a glob such as `photos/*.jpg`."
        )
    images = []
    for match in map(Path, sorted(glob.glob(str(path), recursive=True))):
        if match.is_dir():
            images += _search(match)[0]
        elif match.suffix.lower() in IMAGE_SUFFIXES | OTHER_SUFFIXES or (not match.suffix and begins_as_image(match)):
            images.append(match)
    if not images:
        raise ValueError(
            f"no image matches the glob `{source}` (looked in {Path.cwd()} for files ending in {wanted}). "
            "`**` is needed to go into folders: `photos/**/*.jpg`."
        )
    return images


def _search(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Images in and below a folder, sorted, and how many other files there are of each suffix."""

    def refuse(error: OSError) -> None:
        raise ValueError(
            f"the folder `{error.filename}` can't be searched: {error.strerror}. Make it readable, or name others."
        )

    images, others, visited = [], Counter[str](), set()
    for directory, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(directory)
        if real in visited:  # a link that leads back up
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            path = Path(directory, name)
            if suffix in IMAGE_SUFFIXES | OTHER_SUFFIXES or (not suffix and begins_as_image(path)):
                images.append(path)
            else:
                others[suffix] += 1
    return sorted(images), others


def begins_as_image(path: Path) -> bool:
    """Whether an ordinary file begins as one of the image formats do."""
    try:
        if not path.is_file():  # pipes and devices are not opened
            return False
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    riff = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return riff or (start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS) or start.startswith(BEGINNINGS)

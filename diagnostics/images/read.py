"""Images from files, PIL images or arrays, opened rightly as 8-bit RGB, or refused by name.

Nothing of PIL's global settings is changed.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from diagnostics.images.errors import ImageError
from diagnostics.registry import unknown_name

IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
# Our choice: the size at which Pillow itself refuses (twice its MAX_IMAGE_PIXELS), not the half where it only warns.
MAX_PIXELS = 178_956_970
# Our choice: what lies behind transparent pixels. Most viewers and web pages show white there; `convert("RGB")` would
# bring up whatever color the file hides under them.
BACKGROUND = (255, 255, 255)

Frames = Literal["refuse", "first"]
Source = str | Path | Image.Image | np.ndarray

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 274, 256, 257, 258, 262  # EXIF and TIFF tags
_WHITE_IS_ZERO = 0


class _Quiet:
    """Keeps Pillow's warnings from the user while a file is read.

    Python's warning filters belong to the whole process. Threads that read at once share one entry here, so that the
    filters come back as they were when the last one leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever Pillow raises becomes an ImageError: its decoders raise almost anything on damaged files."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        advice = f"Make it smaller. Pillow's own limit, PIL.Image.MAX_IMAGE_PIXELS, holds besides `max_pixels`: {error}"
        raise ImageError(path, "has more pixels than may be opened", advice) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(IMAGE_FORMATS)
        reason = f"is not an image that can be read, or its beginning is damaged (readable: {kinds})"
        raise ImageError(path, reason, "Convert it to PNG or JPEG, or leave it out") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            reason, advice = f"can't be opened: {error.strerror}", "Check the file and its permissions"
        elif isinstance(error, MemoryError):
            reason, advice = "does not fit into the memory", "Make it smaller, or lower `max_pixels` to refuse it early"
        else:
            reason = f"is damaged or cut short ({type(error).__name__}: {error})".replace("\n", " ")
            advice = "Fetch or export it again, or leave it out"
        raise ImageError(path, reason, advice) from error


# Brands of HEIF files with HEVC inside, which Pillow itself does not read. Source: ISO/IEC 23008-12, annex B.
HEVC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


@cache
def _has_heif() -> bool:
    """Whether HEIC files can be read: pillow-heif is installed, and now known to Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _check_kind(path: Path) -> None:
    """ImageError for files of formats that can't be read, by the name of the format."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return  # reported when it is opened
    if start[4:8] == b"ftyp" and start[8:12] in HEVC_BRANDS and not _has_heif():
        raise ImageError(
            path, "is a HEIC file, which needs pillow-heif", "Install it: pip install 'attention-outliers[heic]'"
        )
    if start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        raise ImageError(path, "is a JPEG XL file, which can't be read", "Convert it to PNG or JPEG")


@contextmanager
def _opened(path: Path, formats: Sequence[str], frames: Frames, max_pixels: int) -> Iterator[Image.Image]:
    """The file with its header read and checked, pixels not yet decoded."""
    if frames not in ("refuse", "first"):
        raise unknown_name("way with several frames", str(frames), ("refuse", "first"))
    if path.is_dir():
        raise ImageError(path, "is a folder", "Search it with diagnostics.images.find_images")
    if not path.is_file():
        raise ImageError(path, "does not exist, or is not an ordinary file", "Check the path")
    if path.stat().st_size == 0:
        raise ImageError(path, "is empty (0 bytes)", "Fetch or export it again, or leave it out")
    _check_kind(path)
    with _QUIET, _named(path):
        Image.init()  # all plugins, so that a format this Pillow lacks is left out below and not tripped over
        with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as file:
            width, height = file.size
            if width * height > max_pixels:
                reason = f"is {width}x{height}: {width * height:,} pixels, and {max_pixels:,} are allowed"
                raise ImageError(path, reason, "Make it smaller, or raise `max_pixels`")
            # A phone's MPO is one photograph with its preview or depth map behind it, not a sequence.
            count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
            if count > 1 and frames == "refuse":
                advice = 'Give a still image, or take the first frame: frames="first"'
                raise ImageError(path, f"holds {count} frames or pages", advice)
            yield file


def read_file(
    path: str | Path,
    *,
    formats: Sequence[str] = IMAGE_FORMATS,
    frames: Frames = "refuse",
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The file as it stands, decoded in its own mode, not yet turned or converted. ImageError if it can't be."""
    with _opened(Path(path), formats, frames, max_pixels) as file:
        file.load()
        return file


def _orientation(file: Image.Image) -> int:
    """How the pixels must be turned to be upright, as EXIF numbers it: 1 for not at all."""
    try:
        # The class's own method: PNG's decodes the whole image to look behind the pixels.
        orientation = Image.Image.getexif(file).get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF: viewers show such images as stored, and so do we
        return 1
    return orientation if orientation in _TURNS else 1


def orientation_of(path: str | Path) -> int:
    """How EXIF says that a file's pixels must be turned to be upright, 1 for not at all; from its header alone."""
    with _opened(Path(path), IMAGE_FORMATS, "first", MAX_PIXELS) as file:
        return _orientation(file)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; without one, or with a damaged one, as it is."""
    with _QUIET:
        image.load()  # TIFF is turned by Pillow here, and then says so
        orientation = _orientation(image)
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _png_speaks_late(path: Path) -> bool:
    """Whether a PNG has EXIF or XMP behind its pixels, where some tools write it. Looks at the chunks' heads only."""
    keywords = (b"Raw profile type exif", b"XML:com.adobe.xmp")
    with path.open("rb") as file:
        file.seek(8)
        behind = False
        while len(head := file.read(8)) == 8:
            length, name = int.from_bytes(head[:4], "big"), head[4:]
            following = file.tell() + length + 4
            text = name in (b"iTXt", b"tEXt", b"zTXt")
            if behind and (name == b"eXIf" or (text and file.read(21).startswith(keywords))):
                return True
            behind = behind or name == b"IDAT"
            file.seek(following)
    return False


def read_size(path: str | Path, *, frames: Frames = "refuse", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) as displayed, EXIF orientation applied, from the header alone.

    Decodes nothing, but for a PNG with EXIF or XMP behind its pixels. ImageError where the header already shows
    that the image can't be used; a file that is cut short further on shows only when it is opened.
    """
    path = Path(path)
    with _opened(path, IMAGE_FORMATS, frames, max_pixels) as file:
        if file.format == "PNG" and _png_speaks_late(path):
            file.load()
        # TIFF: the tags, since Pillow's releases disagree whether `size` is already turned.
        tags = getattr(file, "tag_v2", {_WIDTH: file.size[0], _HEIGHT: file.size[1]})
        width, height = tags[_WIDTH], tags[_HEIGHT]
        return (height, width) if _orientation(file) in (5, 6, 7, 8) else (width, height)


def open_image(
    path: str | Path,
    *,
    frames: Frames = "refuse",
    background: tuple[int, int, int] = BACKGROUND,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The image in a file as 8-bit RGB, upright. ImageError if it can't be read rightly.

    Turned as EXIF says. Gray becomes three equal channels; 16-bit gray is scaled, 65535 to 255, and float gray from
    [0, 1]. Transparent pixels show `background`. CMYK and YCCK go the plain way, (1 - ink)·(1 - black), and their JPEG
    files are taken as inverted, as Adobe writes them. Several frames or pages are refused unless `frames` is "first".
    16-bit color keeps its upper 8 bits, which is what Pillow decodes.
    Embedded color profiles are not applied: backbones were trained on images opened so (open_clip, timm), and the
    same file then gives the same numbers everywhere.

    Parameters
    ----------
    path : path
        The file.
    frames : {"refuse", "first"}
        What is done with files of several frames or pages.
    background : (int, int, int)
        RGB, 0 to 255, behind transparent pixels.
    max_pixels : int
        A file with more pixels is refused.

    Returns
    -------
    PIL.Image.Image
        8-bit RGB, upright.

    Raises
    ------
    ImageError
        A ValueError: the file is missing, damaged, too large, or of a kind that can not be read rightly.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> import attention_outliers as ao
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2), 128).save(f"{folder}/gray.png")
    ...     image = ao.open_image(f"{folder}/gray.png")
    >>> image.mode, image.size
    ('RGB', (4, 2))
    """
    return _to_rgb(upright(read_file(path, frames=frames, max_pixels=max_pixels)), Path(path), background)


def _to_rgb(image: Image.Image, path: Path, background: tuple[int, int, int]) -> Image.Image:
    """Any mode as a fresh 8-bit RGB image without metadata, which would turn it a second time."""
    if len(background) != 3 or not all(0 <= value <= 255 for value in background):
        raise ValueError(f"`background` should be red, green, blue from 0 to 255; got {background!r}.")
    with _QUIET, _named(path):
        if image.mode.startswith(("I", "F")):
            image = _to_eight_bits(image, path)
        if image.has_transparency_data:
            image = image.convert("LA") if image.mode == "La" else image
            behind = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(behind, image.convert("RGBA"))
        image = image.convert("RGB")
    image.info = {}
    return image


def _to_eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """16-bit or float gray as L, or as LA where one gray value means transparent. Pillow would clip it to white."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        white = 1.0
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            reason = f"holds float values from {values.min():g} to {values.max():g}, with no white point given"
            raise ImageError(path, reason, "Scale them to [0, 1], or convert it to 8 or 16 bits")
        eight = np.floor(values * 255 + 0.5).astype(np.uint8)
    else:
        white = 4095 if tags.get(_BITS) == (12,) else 65535
        if values.min() < 0 or values.max() > white:
            reason = f"holds whole numbers from {values.min()} to {values.max()}; 16-bit gray has 0 to {white}"
            raise ImageError(path, reason, "Convert it to 8 or 16 bits")
        eight = ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns 8-bit files round, but not these
        eight = 255 - eight
    gray = Image.fromarray(eight)
    if (key := image.info.get("transparency")) is None:
        return gray
    return Image.merge("LA", [gray, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))])


def as_image(
    source: Source,
    *,
    frames: Frames = "refuse",
    background: tuple[int, int, int] = BACKGROUND,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """8-bit RGB from a path, a PIL image, or an array.

    Arrays are (h, w, 3) or (h, w), uint8 or float in [0, 1]; others raise ValueError or TypeError. PIL images are
    scaled and composed as files are, and of several frames the one they stand at is taken. What comes straight from
    `Image.open` is turned by its EXIF as well; an image made from it is not, since it may have been turned already.
    """
    if isinstance(source, (str, Path)):
        return open_image(source, frames=frames, background=background, max_pixels=max_pixels)
    if isinstance(source, Image.Image):
        path = Path(str(getattr(source, "filename", "") or "the PIL image"))
        with _QUIET, _named(path):
            turned = upright(source) if isinstance(source, ImageFile.ImageFile) else source
        return _to_rgb(turned, path, background)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    raise TypeError(
        f"an image should be a path, a PIL image, or a numpy array; got {type(source).__name__}. "
        "A tensor that is already normalized goes straight to the backbone: backbone.trunk(images)."
    )


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        raise ValueError(
            f"an array should be (h, w, 3) or (h, w); got {shape}. Move the channels last: array.transpose(1, 2, 0)."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] != 3):
        raise ValueError(
            f"an array should be one image, (h, w, 3) or (h, w); got {shape}. Give the images of a batch one by "
            "one; an alpha channel comes as a PIL image: Image.fromarray(array)."
        )
    if 0 in shape:
        raise ValueError(f"an image should have at least 1x1 pixels; got an array of shape {shape}.")
    if np.issubdtype(array.dtype, np.floating):
        low, high = array.min(), array.max()  # NaN if there is any
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"a float array should lie in [0, 1]; got values from {low:g} to {high:g}. "
                "Divide by 255 if it counts so, and replace NaN."
            )
        array = np.floor(array.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise TypeError(
            f"an array should be uint8, or float in [0, 1]; got {array.dtype}. Scale it to one of them first."
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")

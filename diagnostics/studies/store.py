"""A run on disk: one zarr store that grows block by block of images and resumes after an interruption."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import xarray as xr
import zarr
from google_crc32c import value as crc32c
from zarr.abc.store import ByteRequest
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, MemoryStore

from diagnostics.local_path import local_path
from diagnostics.measures.base import Variable

PENDING, MEASURED, SKIPPED = 0, 1, 2
# Bytes of one chunk before it is cut along the layers. Our choice: one read for a layer's map, not for all of them.
CHUNK_BYTES = 32 * 2**20
FORMAT = 2
# Below a variable, the folder of its chunks; and the bytes at the end of each that hold its checksum.
CHUNKS, CHECKSUM = "/c/", 4
# Every chunk carries a checksum of its bytes: what the disk or a copy changed is an error, not another number.
COMPRESSORS = (ZstdCodec(), Crc32cCodec())
# Chunks are written even where all their values are the fill value, so that one that is missing is one that was lost.
WRITE_ALL = {"array.write_empty_chunks": True}
# The dim of what is summed over the images of a block. It stands where other variables have `image`.
BLOCK = "block"


class OtherRun(ValueError):
    """The store holds a run with other settings."""


class DamagedStore(ValueError):
    """A store that lost a part, or holds something else in its place."""


class DiskFull(OSError):
    """The disk filled up; what was written stays valid."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Sizes:
    """How long each dimension of a run is, and the coordinates that dimensions have."""

    lengths: Mapping[str, int]
    coordinates: Mapping[str, np.ndarray]


@contextmanager
def named_disk_errors(place: str) -> Iterator[None]:
    """Turns «no space left» into DiskFull, which says that nothing is lost and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                error.errno,
                f"no space left for `{place}`. What is measured so far is safe: free some space and run the same "
                "command again; it resumes",
            ) from error
        raise


class RunStore:
    """The zarr store of one run: variables with `image` first, and for each image its status.

    Every block of images is written variable by variable and marked as measured at the end; zarr replaces files
    whole. So a run killed at any moment leaves only whole blocks, and starts again at the first that is missing. A
    block with a chunk that is lost or damaged is done again.
    """

    def __init__(self, group: zarr.Group, place: str) -> None:
        self.group = group
        self.place = place
        self._arrays: dict[str, zarr.Array] = {}
        self.status = np.asarray(self.array("status")[:])

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        settings: Mapping[str, Any],
        variables: Sequence[Variable],
        sizes: Sizes,
        images: xr.Dataset,
        block: int,
    ) -> RunStore:
        """The store at `path` if it holds this very run, else a new one; in memory where `path` is None.

        `images` holds the coordinates along `image`. A store with other settings raises OtherRun and names them.
        """
        place = str(path) if path else "memory"
        settings = {**settings, "format": FORMAT}
        if path and path.exists():
            group = _same_run(path, settings)
            if group is not None:
                _check_arrays(group, place, variables, sizes, images)
                store = cls(group, place)
                store._forget_damaged(variables)
                return store
            shutil.rmtree(path)
        with named_disk_errors(place):
            if path is None:
                memory = MemoryStore()
                return cls(_create(memory, settings, variables, sizes, images, block), place)
            # Built beside and renamed, so that a half-made store never stands under the name. What a killed run left
            # there is deleted, hence a name that nobody gives to a folder of theirs.
            path.parent.mkdir(parents=True, exist_ok=True)
            growing = path.with_name(f".{path.name}.growing")
            shutil.rmtree(growing, ignore_errors=True)
            _create(LocalStore(growing), settings, variables, sizes, images, block)
            growing.rename(path)
            return cls(zarr.open_group(path, mode="r+", use_consolidated=False), place)

    def array(self, name: str) -> zarr.Array:
        """The array of one variable."""
        if name not in self._arrays:
            with zarr.config.set(WRITE_ALL):
                array = self.group[name]
            if not isinstance(array, zarr.Array):
                raise OtherRun(f"`{self.place}` is damaged: `{name}` is no array. Delete it and run again.")
            self._arrays[name] = array
        return self._arrays[name]

    @property
    def block(self) -> int:
        """Images in a block: they are written together."""
        return int(self.array("status").chunks[0])

    def pending(self) -> list[range]:
        """Blocks in which some image is still to do, as ranges of image numbers."""
        count = len(self.status)
        blocks = (range(start, min(start + self.block, count)) for start in range(0, count, self.block))
        return [block for block in blocks if (self.status[block.start : block.stop] == PENDING).any()]

    def write(self, block: range, values: Mapping[str, np.ndarray], status: np.ndarray, reasons: Sequence[str]) -> None:
        """Writes a block: arrays with the block's images first, then the status that makes them count.

        A variable that is summed over images has the block's sum, under the block's number.
        """
        part = slice(block.start, block.stop)
        with named_disk_errors(self.place):
            for name, array in values.items():
                target = self.array(name)
                target[block.start // self.block if _is_sum(target) else part] = array
            self.array("reason")[part] = np.array(reasons, dtype=object)
            self.array("status")[part] = status
        self.status[part] = status

    def write_whole(self, variable: Variable, values: np.ndarray) -> None:
        """Writes a variable that has no `image` dimension, such as the pooled AUC."""
        with named_disk_errors(self.place):
            array = _array(self.group, variable, values.shape, values.shape, overwrite=True)
            array[...] = values

    def sums_of(self, name: str) -> Iterator[np.ndarray]:
        """A variable that is summed over images: the sum of each block in which an image was measured."""
        for number, start in enumerate(range(0, len(self.status), self.block)):
            if (self.status[start : start + self.block] == MEASURED).any():
                yield np.asarray(self.array(name)[number])

    @property
    def finished(self) -> bool:
        """Whether `finish` was called, all blocks are done, and what `write_whole` wrote is there."""
        if not self.group.attrs.get("finished") or (self.status == PENDING).any():
            return False
        return all(self._is_there(name) for name in json.loads(str(self.group.attrs["variables"])))

    def _is_there(self, name: str) -> bool:
        """Whether a variable without images can be read; one with images counts as there."""
        if name not in self.group:
            return False
        dims = self.array(name).metadata.dimension_names or ()  # type: ignore[union-attr]
        if dims[:1] in (("image",), (BLOCK,)):
            return True
        return not _missing(self.group, name) and _is_readable(self.array(name), ...)

    def finish(self, whole: Sequence[str] = ()) -> None:
        """Writes what a reader wants of a finished run: the list of its variables, and all metadata in one place.

        `whole` are the variables that `write_whole` wrote.
        """
        with named_disk_errors(self.place):
            names = {*json.loads(str(self.group.attrs["variables"])), *whole}
            self.group.attrs.update({"variables": json.dumps(sorted(names)), "finished": True})
            if isinstance(self.group.store, LocalStore):
                with warnings.catch_warnings():
                    # Zarr's third format has no agreed place for them yet; xarray reads them where zarr puts them.
                    warnings.filterwarnings("ignore", "Consolidated metadata")
                    zarr.consolidate_metadata(self.group.store)

    def _forget_damaged(self, variables: Sequence[Variable]) -> None:
        """Counts blocks as not done in which a chunk is lost or is not what its checksum says."""
        names = [*(variable.name for variable in variables), "reason"]
        for start in range(0, len(self.status), self.block):
            images = slice(start, min(start + self.block, len(self.status)))
            if (self.status[images] == PENDING).all():
                continue
            for name in names:
                array = self.array(name)
                part = slice(start // self.block, start // self.block + 1) if _is_sum(array) else images
                if not _missing(self.group, name, part) and _is_readable(array, part):
                    continue
                self.status[images] = PENDING
                break

    def dataset(self) -> xr.Dataset:
        """The measured images as a lazily read data set."""
        return _read(self.group.store)


def open_run(path: str | Path) -> xr.Dataset:
    """A run that `probe` wrote, read lazily: measured images only, also of a run that is not finished.

    Parameters
    ----------
    path : path
        The store.

    Returns
    -------
    xarray.Dataset
        As `ao.probe` gives it, read when it is used.

    Raises
    ------
    ValueError
        If there is no run.
    DamagedStore
        A ValueError: the store lost a variable or a chunk. Values are held against their checksums when they are read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ao.probe(backbone, scenes, measures=["norms"], out=f"{folder}/run.zarr")
    ...     ao.open_run(f"{folder}/run.zarr").sizes["image"]
    2
    """
    path = local_path(path)
    if not (path / "zarr.json").exists():
        raise ValueError(f"`{path}` is no run of `outliers probe`; give the folder that --out named, such as run.zarr.")
    store = CheckedStore(path, read_only=True)
    try:
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        _check_whole(group, str(path))
        return _read(store)
    except DamagedStore:
        raise
    except Exception as error:  # what zarr and xarray make of damaged metadata
        raise DamagedStore(
            f"`{path}` can't be read as a run of `outliers probe` ({_first_line(error)}). Fetch it again, or delete it "
            "and run the same command again."
        ) from error


class CheckedStore(LocalStore):
    """A store on disk that names the file of a chunk whose checksum does not fit, when it is read."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        content = await super().get(key, prototype, byte_range)
        if content is not None and byte_range is None and CHUNKS in key:
            data = content.to_bytes()
            if len(data) < CHECKSUM or crc32c(data[:-CHECKSUM]) != int.from_bytes(data[-CHECKSUM:], "little"):
                raise DamagedStore(
                    f"`{self.root / key}` is damaged: its checksum does not fit. Fetch `{self.root}` again, or run "
                    "`outliers probe` with the same settings and --out once more: it measures it again."
                )
        return content


def left_out(path: str | Path) -> dict[str, str]:
    """Images of a run that were left out, or whose label map was: name -> reason."""
    dataset = xr.open_zarr(local_path(path), consolidated=False, chunks=None)
    reasons = zip(dataset["image"].values, dataset["reason"].values, strict=True)
    return {str(name): str(reason) for name, reason in reasons if reason}


def _read(store: Any) -> xr.Dataset:
    dataset = xr.open_zarr(store, consolidated=False, chunks=None)
    if "status" not in dataset:
        raise ValueError(f"`{store}` holds no run of `outliers probe`: it has no `status`.")
    keep = np.flatnonzero(dataset["status"].values == MEASURED)
    # Sums by block are what a run goes on with, not what it says.
    sums = [name for name, values in dataset.data_vars.items() if BLOCK in values.dims]
    dataset = dataset.drop_vars(("status", "reason", *sums))
    dataset = dataset[sorted(map(str, dataset.data_vars))]
    return dataset if len(keep) == dataset.sizes["image"] else dataset.isel(image=keep)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _missing(group: zarr.Group, name: str, part: slice | None = None) -> str:
    """The first chunk of an array that is not there, `norm/c/0/0`, or ""; `part` limits it along the first dim."""
    array = group[name]
    if not isinstance(array, zarr.Array):
        return name
    store: Any = group.store
    if not isinstance(store, LocalStore):
        return ""
    counts = [range(-(-length // chunk)) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    if part is not None and counts:
        first, last = part.start // array.chunks[0], -(-part.stop // array.chunks[0])
        counts[0] = range(first, last)
    for place in itertools.product(*counts):
        key = f"{name}/{array.metadata.encode_chunk_key(place)}"
        if not (Path(store.root) / key).is_file():
            return key
    return ""


def _is_readable(array: zarr.Array, part: slice | EllipsisType) -> bool:
    """Whether that part of the first dim can be read; checksums are looked at on the way."""
    try:
        array[part]
    except Exception:  # a damaged chunk fails in as many ways as there are codecs
        return False
    return True


def _check_whole(group: zarr.Group, place: str) -> None:
    """Refuses a store without one of its variables, or without a chunk of an image that is done."""
    status = np.asarray(group["status"][:])  # type: ignore[index]
    block = int(group["status"].chunks[0])  # type: ignore[union-attr]
    for name in json.loads(str(group.attrs["variables"])):
        if name not in group:
            raise DamagedStore(
                f"`{place}` has lost its variable `{name}`. Fetch it again, or delete it and run the command again."
            )
        array: Any = group[name]
        dims = array.metadata.dimension_names or ()
        if dims[:1] in (("image",), (BLOCK,)):
            images, step = block if _is_sum(array) else 1, array.chunks[0]
            rows = array.shape[0]
            parts = [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
            done = [part for part in parts if (status[part.start * images : part.stop * images] != PENDING).all()]
            lost = (_missing(group, name, part) for part in done)
            missing = next((key for key in lost if key), "")
        else:
            missing = _missing(group, name)
        if missing:
            raise DamagedStore(
                f"`{place}` has lost `{missing}`. Fetch it again, or run `outliers probe` with the same settings and "
                "--out once more: it measures again what is lost."
            )


def _check_arrays(
    group: zarr.Group, place: str, variables: Sequence[Variable], sizes: Sizes, images: xr.Dataset
) -> None:
    """Refuses a store of this run whose arrays are gone, of another form, or whose coordinates are damaged."""
    away = "Delete it and run again."
    block = int(group["status"].chunks[0])  # type: ignore[union-attr]
    for variable in variables:
        shape = _stored(variable, sizes, images.sizes["image"], block)[1]
        try:
            array: Any = group[variable.name]
            fits = array.shape == shape and str(array.dtype) == variable.dtype
        except Exception as error:  # missing, or metadata that can't be read
            raise DamagedStore(
                f"`{place}` has lost its variable `{variable.name}`, or can't read it ({_first_line(error)}). {away}"
            ) from error
        if not fits:
            raise DamagedStore(f"`{place}` is damaged: `{variable.name}` should be {variable.dtype} {shape}. {away}")
    coordinates = {str(name): values.values for name, values in images.coords.items()} | dict(sizes.coordinates)
    for name, expected in coordinates.items():
        reason = f"has lost `{name}`"
        try:
            if missing := _missing(group, name):
                reason = f"has lost `{missing}`"
            else:
                array = group[name]
                if np.array_equal(np.asarray(array[...], dtype=expected.dtype), expected):
                    continue
                reason = f"`{name}` is not that of the run"
        except Exception as error:
            reason = f"`{name}` can't be read ({_first_line(error)})"
        raise DamagedStore(f"`{place}` is damaged: {reason}. {away}")


def _same_run(path: Path, settings: Mapping[str, Any]) -> zarr.Group | None:
    """The group at `path` if it was made with these very settings; None if it was not, but holds nothing yet."""
    try:
        group = zarr.open_group(path, mode="r+", use_consolidated=False)
        known = json.loads(str(group.attrs["settings"]))
    except Exception as error:  # no store at all, or metadata that zarr can't read
        raise OtherRun(f"`{path}` exists and is no run of `outliers probe`; choose another --out.") from error
    if not isinstance(known, dict):
        raise DamagedStore(f"`{path}` is damaged: its settings are no JSON object. Delete it and run again.")
    try:
        status = group["status"]
        empty = isinstance(status, zarr.Array) and bool((np.asarray(status[:]) == PENDING).all())
    except Exception as error:
        raise DamagedStore(
            f"`{path}` is damaged: `status` can't be read ({_first_line(error)}). Delete it and run again."
        ) from error
    wanted = json.loads(json.dumps(settings))
    other = [key for key in {**known, **wanted} if known.get(key) != wanted.get(key)]
    if other and empty:
        return None  # a run that failed before its first block should not stand in the way of the corrected one
    if other:
        changes = "; ".join(f"{key}: {_short(known.get(key))} there, {_short(wanted.get(key))} now" for key in other)
        raise OtherRun(
            f"`{path}` holds a run with other settings ({changes}). Choose another --out, or delete the folder."
        )
    return group


def _short(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _create(
    store: Any,
    settings: Mapping[str, Any],
    variables: Sequence[Variable],
    sizes: Sizes,
    images: xr.Dataset,
    block: int,
) -> zarr.Group:
    # Words of any length: fixed-length text has no agreed form in zarr yet.
    coordinates = {
        name: (name, values.astype(object) if values.dtype.kind == "U" else values)
        for name, values in sizes.coordinates.items()
    }
    labeled = images.assign_coords(coordinates)
    encoding = {name: {"compressors": COMPRESSORS} for name in map(str, labeled.variables)}
    labeled.to_zarr(store, mode="w", zarr_format=3, consolidated=False, encoding=encoding, write_empty_chunks=True)
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    count = images.sizes["image"]
    for variable in variables:
        variable, shape = _stored(variable, sizes, count, block)
        item = np.dtype(variable.dtype).itemsize
        chunks = [1 if BLOCK in variable.dims else min(block, count), *shape[1:]]
        if int(np.prod(chunks)) * item > CHUNK_BYTES:
            chunks[0] = 1
            if "layer" in variable.dims and int(np.prod(chunks)) * item > CHUNK_BYTES:
                chunks[variable.dims.index("layer")] = 1
        _array(group, variable, shape, tuple(chunks))
    status = Variable("status", ("image",), "1", "0 to do, 1 measured, 2 skipped", "ours", "uint8")
    _array(group, status, (count,), (block,))
    reason = Variable("reason", ("image",), "1", "why an image, or its label map, was left out", "ours", "str")
    _array(group, reason, (count,), (block,))
    names = sorted([*map(str, labeled.variables), *(variable.name for variable in variables), "status", "reason"])
    group.attrs.update({"settings": json.dumps(settings), "variables": json.dumps(names), **_readable(settings)})
    return group


def _stored(variable: Variable, sizes: Sizes, count: int, block: int) -> tuple[Variable, tuple[int, ...]]:
    """A variable as the store has it, with its shape: a sum over images has a row for each block of them."""
    if "image" not in variable.dims:
        variable = variable._replace(dims=(BLOCK, *variable.dims))
    lengths = {**sizes.lengths, "image": count, BLOCK: -(-count // block)}
    return variable, tuple(lengths[dim] for dim in variable.dims)


def _is_sum(array: zarr.Array) -> bool:
    return bool(array.metadata.dimension_names and array.metadata.dimension_names[0] == BLOCK)  # type: ignore[union-attr]


def _readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a reader of the data set wants to see among its attributes."""
    return {key: value for key, value in settings.items() if isinstance(value, (str, int, float, bool))}


def _array(
    group: zarr.Group, variable: Variable, shape: Sequence[int], chunks: Sequence[int], *, overwrite: bool = False
) -> zarr.Array:
    floating = variable.dtype.startswith("float")
    text = variable.dtype == "str"
    return group.create_array(
        variable.name,
        shape=tuple(shape),
        chunks=tuple(max(1, size) for size in chunks),
        dtype=str if text else variable.dtype,
        fill_value=np.nan if floating else "" if text else 0,
        dimension_names=variable.dims,
        attributes={"units": variable.units, "long_name": variable.long_name, "source": variable.source},
        compressors=COMPRESSORS,
        config={"write_empty_chunks": True},
        overwrite=overwrite,
    )

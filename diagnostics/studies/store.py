"""A run on disk: one zarr store that grows block by block of images and resumes after an interruption."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore, MemoryStore

from diagnostics.measures.base import Variable

PENDING, MEASURED, SKIPPED = 0, 1, 2
# Bytes of one chunk before it is cut along the layers. Our choice: one read for a layer's map, not for all of them.
CHUNK_BYTES = 32 * 2**20
FORMAT = 1
# The dim of what is summed over the images of a block. It stands where other variables have `image`.
BLOCK = "block"


class OtherRun(ValueError):
    """The store holds a run with other settings."""


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                error.errno,
                f"no space left for `{place}`. What is measured so far is safe: free some space and run the same "
                "command again; it resumes",
            ) from error
        raise


class RunStore:
    """The zarr store of one run: variables with `image` first, and for each image its status.

    Every block of images is written variable by variable and marked as measured at the end; zarr replaces files
    whole. So a run killed at any moment leaves only whole blocks, and starts again at the first that is missing.
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
                return cls(group, place)
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
            return cls(zarr.open_group(path, mode="r+"), place)

    def array(self, name: str) -> zarr.Array:
        """The array of one variable."""
        if name not in self._arrays:
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
    path = Path(path)
    if not (path / "zarr.json").exists():
        raise ValueError(f"`{path}` is no run of `outliers probe`; give the folder that --out named, such as run.zarr.")
    return _read(LocalStore(path, read_only=True))


def left_out(path: str | Path) -> dict[str, str]:
    """Images of a run that were left out, or whose label map was: name -> reason."""
    dataset = xr.open_zarr(Path(path), consolidated=False, chunks=None)
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


def _same_run(path: Path, settings: Mapping[str, Any]) -> zarr.Group | None:
    """The group at `path` if it was made with these very settings; None if it was not, but holds nothing yet."""
    try:
        group = zarr.open_group(path, mode="r+")
        known = json.loads(str(group.attrs["settings"]))
        status = group["status"]
        empty = isinstance(status, zarr.Array) and bool((np.asarray(status[:]) == PENDING).all())
    except (KeyError, ValueError, OSError) as error:
        raise OtherRun(f"`{path}` exists and is no run of `outliers probe`; choose another --out.") from error
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
    images.assign_coords(coordinates).to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    group = zarr.open_group(store, mode="r+")
    count = images.sizes["image"]
    for variable in variables:
        summed = "image" not in variable.dims
        if summed:
            variable = variable._replace(dims=(BLOCK, *variable.dims))
        lengths = {**sizes.lengths, "image": count, BLOCK: -(-count // block)}
        shape = tuple(lengths[dim] for dim in variable.dims)
        item = np.dtype(variable.dtype).itemsize
        chunks = [1 if summed else min(block, count), *shape[1:]]
        if int(np.prod(chunks)) * item > CHUNK_BYTES:
            chunks[0] = 1
            if "layer" in variable.dims and int(np.prod(chunks)) * item > CHUNK_BYTES:
                chunks[variable.dims.index("layer")] = 1
        _array(group, variable, shape, tuple(chunks))
    status = Variable("status", ("image",), "1", "0 to do, 1 measured, 2 skipped", "ours", "uint8")
    _array(group, status, (count,), (block,))
    reason = Variable("reason", ("image",), "1", "why an image, or its label map, was left out", "ours", "str")
    _array(group, reason, (count,), (block,))
    group.attrs.update({"settings": json.dumps(settings), **_readable(settings)})
    return group


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
        overwrite=overwrite,
    )

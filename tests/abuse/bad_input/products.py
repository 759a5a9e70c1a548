"""What cases damage a copy of: images, a data set, a probe's store, runs of evaluate and segment, weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bad_input.harness import command, fork

PLACE = "ABUSE_PRODUCTS"  # the environment's name for the folder, which forked cases inherit


def photo(path: str | Path, seed: int = 0, size: tuple[int, int] = (96, 96), **settings: object) -> str:
    """Writes a seeded image of smooth colors; its path."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, **settings)  # type: ignore[arg-type]
    return str(path)


def dataset(root: str | Path, images: int = 4) -> None:
    """A data set for `folder` with four classes."""
    root = Path(root)
    for number in range(images):
        photo(root / f"images/p{number}.png", number)
        labels = np.random.default_rng(number).integers(0, 4, (96, 96), dtype=np.uint8)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(labels).save(root / f"masks/p{number}.png")
    (root / "classes.txt").write_text("zebra\ntiger\ngrass\nsky\n")


EVALUATE = [
    "evaluate",
    "--dataset",
    "folder",
    "--root",
    "data",
    "--backbone",
    "tiny",
    "-M",
    "clip",
    "--workers",
    "1",
    "--shard",
    "2",
    "--out",
    "run",
]
PROBE = ["probe", "photos", "--backbone", "tiny", "--batch", "2", "--measures", "norms,entropy", "--out", "run.zarr"]
SEGMENT = [
    "segment",
    "photos",
    "--backbone",
    "tiny",
    "-M",
    "clip",
    "--size",
    "64",
    "--no-overlays",
    "--out",
    "labels",
    "-c",
    "zebra, tiger",
]
ENCODE = ["encode", "photos", "--backbone", "tiny", "--batch", "2", "--out", "features.safetensors"]


def make(folder: Path) -> Path:
    """All products, below `folder`."""
    inside = folder / "all"

    def action() -> int:
        for number in range(4):
            photo(f"photos/{number}.png", number)
        dataset("data")
        for arguments in (EVALUATE, PROBE, SEGMENT, ENCODE):
            if code := command(arguments):
                return code
        return 0

    result = fork(action, inside, 600)
    assert result is not None
    assert result.code == 0, result.err
    os.environ[PLACE] = str(inside)
    return inside


def take(*names: str) -> None:
    """Copies products into the folder of the case."""
    for name in names:
        source = Path(os.environ[PLACE]) / name
        if source.is_dir():
            shutil.copytree(source, name)
        else:
            shutil.copy(source, name)


def again(arguments: Sequence[str], *more: str) -> list[str]:
    """The command that made a product, with more options."""
    return [*arguments, *more]

"""Miniatures: each data set as it lies on disk, with a few small images and label maps of known values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segment.datasets import DATASETS
from segment.datasets.facts import Miniature


@pytest.fixture
def empty(tmp_path) -> Miniature:
    """A root without anything in it, and the means to fill it."""
    (tmp_path / "root").mkdir()
    return Miniature(tmp_path / "root")


@pytest.fixture
def miniature(empty) -> Callable[[str], Miniature]:
    """Data set name -> its miniature, written as the data set declares it."""

    def write(name: str) -> Miniature:
        DATASETS[name].declared.miniature(empty)
        return empty

    return write

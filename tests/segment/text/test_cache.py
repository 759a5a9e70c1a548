"""The cache of words: nothing is lost, and nothing that is damaged is believed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from segment.text.cache import cache_file, cache_folder, read_rows, write_rows

KEY = {"model": "tiny", "templates": ["{}"]}


@pytest.fixture
def path(tmp_path) -> Path:
    return cache_file(tmp_path, KEY)


@pytest.fixture
def rows() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {word: torch.randn(5, generator=generator) for word in ("cat", "dog ", "Ä, „x“")}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[word], right[word]) for word in left)


def test_rows_come_back_bit_by_bit(path, rows):
    assert read_rows(path) == {}
    assert write_rows(path, rows, key=KEY)
    assert same(read_rows(path), rows)


def test_later_rows_join_those_that_are_there(path, rows):
    first, second = dict(list(rows.items())[:1]), dict(list(rows.items())[1:])
    write_rows(path, first, key=KEY)
    write_rows(path, second, key=KEY)
    assert same(read_rows(path), rows)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_any_change_of_the_key_leads_to_another_file(tmp_path):
    keys = [KEY, {**KEY, "model": "other"}, {**KEY, "templates": ["a {}"]}, {**KEY, "weights": "1"}]
    assert len({cache_file(tmp_path, key) for key in keys}) == len(keys)
    assert cache_file(tmp_path, dict(reversed(KEY.items()))) == cache_file(tmp_path, KEY)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[:-4])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "another file":
        path.write_text("no tensors here, only words", encoding="utf-8")
    elif how == "a bit turned in the numbers":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "a letter turned in a word":
        assert content.count(b"cat") == 1
        path.write_bytes(content.replace(b"cat", b"car"))


@pytest.mark.parametrize(
    "how", ["cut short", "empty", "another file", "a bit turned in the numbers", "a letter turned in a word"]
)
def test_a_damaged_file_counts_for_nothing_and_is_made_again(path, rows, how):
    write_rows(path, rows, key=KEY)
    damage(path, how)
    with pytest.warns(UserWarning, match="made again"):
        assert read_rows(path) == {}
    with pytest.warns(UserWarning, match="made again"):
        assert write_rows(path, rows, key=KEY)
    assert same(read_rows(path), rows)


def test_a_full_disk_is_reported_once_and_leaves_the_old_file(path, rows, monkeypatch):
    first, second = dict(list(rows.items())[:1]), dict(list(rows.items())[1:])
    write_rows(path, first, key=KEY)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match="No space left.*OUTLIERS_CACHE"):
        assert not write_rows(path, second, key=KEY)
    monkeypatch.undo()
    assert same(read_rows(path), first)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path, rows):
    (tmp_path / "text").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.warns(UserWarning, match="can't be kept"):
        assert not write_rows(cache_file(tmp_path, KEY), rows, key=KEY)


def test_the_folder_follows_the_variable_then_xdg_then_home(monkeypatch):
    monkeypatch.setenv("OUTLIERS_CACHE", "/somewhere/own")
    assert cache_folder() == Path("/somewhere/own")
    monkeypatch.setenv("OUTLIERS_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/xdg")
    assert cache_folder() == Path("/somewhere/xdg/attention-outliers")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.path.expanduser("~/.cache/attention-outliers"))

"""What tells contents apart: every byte of a file, wherever it stands, and every value of an array."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

import diagnostics
from diagnostics.images.content import UNREADABLE, array_content, file_content, file_contents, joined
from diagnostics.images.feed import digest, list_images
from diagnostics.images.sizes import as_size
from diagnostics.studies.dense_tokens import encode
from diagnostics.studies.store import OtherRun

UNCOMPRESSED = (".bmp", ".ppm", ".tif", ".pnm")


def middle_changed(path):
    """An image whose middle rows alone change, so that length, head and end of an uncompressed file stay."""
    pixels = np.full((112, 112, 3), 120, np.uint8)
    Image.fromarray(pixels).save(path)
    before = path.read_bytes()
    pixels[40:60] = 250
    return before, Image.fromarray(pixels)


@pytest.mark.parametrize("suffix", UNCOMPRESSED)
def test_a_change_in_the_middle_of_an_uncompressed_file_is_another_content(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    before, changed = middle_changed(path)
    listed = list_images(path, as_size("64"), strict=True)
    first = file_content(path), digest(listed)
    changed.save(path)
    after = path.read_bytes()
    assert (len(after), after[:64], after[-4096:]) == (len(before), before[:64], before[-4096:])
    assert file_content(path) != first[0]
    assert digest(listed) != first[1]
    path.write_bytes(before)
    assert (file_content(path), digest(listed)) == first


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert file_contents([tmp_path / "pipe", tmp_path, tmp_path / "none"]) == [UNREADABLE] * 3


def test_arrays_differ_by_values_types_and_shapes():
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    others = [array.reshape(4, 3), array.astype(np.int64), array + (array == 5), array.T]
    assert len({array_content(other) for other in (array, array.copy(), *others)}) == 5
    assert array_content(array[:, ::2]) == array_content(np.ascontiguousarray(array[:, ::2]))


def test_contents_keep_their_borders_when_they_are_joined():
    assert joined([b"ab", b"c"]) != joined([b"a", b"bc"])
    assert joined([b"a", b"b"]) != joined([b"b", b"a"])


@pytest.mark.parametrize("suffix", UNCOMPRESSED)
def test_a_store_of_another_image_of_the_same_length_is_refused(tmp_path, suffix):
    tiny, path = diagnostics.load_backbone("tiny"), tmp_path / f"a{suffix}"
    _, changed = middle_changed(path)
    diagnostics.probe(tiny, path, measures=["norms"], out=tmp_path / "run.zarr")
    changed.save(path)
    with pytest.raises(OtherRun, match="images"):
        diagnostics.probe(tiny, path, measures=["norms"], out=tmp_path / "run.zarr")


@pytest.mark.parametrize("arrays", [False, True])
def test_a_store_of_other_labels_is_refused(tmp_path, arrays):
    tiny, path = diagnostics.load_backbone("tiny"), tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    labels = np.zeros((64, 64), np.uint8)
    labels[:32] = 1
    (tmp_path / "labels").mkdir()

    def run(labels, out):
        Image.fromarray(labels).save(tmp_path / "labels/a.png")
        shown = [labels] if arrays else tmp_path / "labels"
        return diagnostics.probe(tiny, path, measures=["auc"], labels=shown, out=tmp_path / out)

    first = run(labels, "run.zarr")
    assert float(run(labels, "run.zarr").auc_pooled[-1]) == float(first.auc_pooled[-1])
    with pytest.raises(OtherRun, match="label maps"):
        run(labels.T, "run.zarr")
    assert float(run(labels.T, "other.zarr").auc_pooled[-1]) != float(first.auc_pooled[-1])


def test_parts_of_other_images_are_refused_by_encode(tmp_path, monkeypatch):
    from diagnostics.studies import dense_tokens

    tiny = diagnostics.load_backbone("tiny")
    for name in ("a.bmp", "b.bmp"):
        _, changed = middle_changed(tmp_path / name)
    monkeypatch.setattr(dense_tokens, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        encode(tiny, tmp_path, out=tmp_path / "tokens.safetensors", batch=1)
    monkeypatch.undo()
    changed.save(tmp_path / "b.bmp")
    with pytest.raises(OtherRun, match="images"):
        encode(tiny, tmp_path, out=tmp_path / "tokens.safetensors", batch=1)

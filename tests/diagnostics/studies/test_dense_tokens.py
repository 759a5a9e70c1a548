"""Dense tokens come out whole, in the image's own grid, and a stopped run goes on."""

from __future__ import annotations

import errno
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from diagnostics import Recorder, dense_tokens, encode, load_backbone
from diagnostics.images import load_image
from diagnostics.lock import InUse, held
from diagnostics.studies.store import DiskFull, OtherRun


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number, size in enumerate([(64, 64), (96, 64), (64, 64), (64, 80), (64, 64)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def test_the_file_holds_every_image_s_tokens_in_its_own_grid(tiny, folder):
    out = folder / "features.safetensors"
    assert encode(tiny, folder / "images", out=out, size="native", batch=2, prefix=True) == {}
    tensors = load_file(out)
    assert tensors.keys() == {f"{n}.png{tail}" for n in range(5) for tail in ("", "/prefix")}
    assert tensors["1.png"].shape == (6, 4, 48)
    assert tensors["3.png"].shape == (4, 5, 48)
    image = load_image(folder / "images" / "1.png", size="native", mean=tiny.mean, std=tiny.std)[None]
    tokens = tiny.trunk(image)
    assert torch.allclose(tensors["1.png"].flatten(0, 1), tokens[0, 1:], atol=1e-5)
    assert torch.allclose(tensors["1.png/prefix"], tokens[0, :1], atol=1e-5)
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["backbone"] == "tiny"
    assert metadata["layer"] == "12"
    assert metadata["tap"] == "block_out"
    assert not (folder / "features.safetensors.parts").exists()


@pytest.mark.parametrize(
    "tap, shape",
    [
        ("block_in", (4, 6, 48)),
        ("ffn_hidden", (4, 6, 192)),
        ("key", (4, 6, 2, 24)),
        ("attention", (4, 6, 2, 25)),
    ],
)
def test_every_tap_folds_into_maps(tiny, images, tap, shape):
    maps, prefix = dense_tokens(tiny, images, layer=5, tap=tap)
    assert maps.shape == (2, *shape)
    assert prefix.shape == (2, 1, *shape[2:])
    recorder = Recorder(tap, layers=[5])
    tiny.trunk(images, tap=recorder)
    value = recorder[tap] if tap in ("block_in", "ffn_hidden") else recorder[tap].transpose(1, 2)
    assert torch.allclose(maps[1, 2, 3], value[1, 1 + 2 * 6 + 3], atol=1e-5)


def test_projected_tokens_live_in_the_space_of_the_text(tiny, images):
    maps, _ = dense_tokens(tiny, images, project=True)
    assert maps.shape[-1] == tiny.encode_text(["an image"]).shape[-1]
    assert torch.allclose(maps.flatten(1, 2), tiny.project(tiny.trunk(images))[:, 1:], atol=1e-5)
    with pytest.raises(ValueError, match="block_out"):
        dense_tokens(tiny, images, tap="key", project=True)


def test_the_embedding_is_layer_zero(tiny, images):
    maps, _ = dense_tokens(tiny, images, layer=0)
    assert torch.equal(maps.flatten(1, 2), tiny.embed(images)[:, 1:])
    with pytest.raises(ValueError, match="embedding"):
        dense_tokens(tiny, images, layer=0, tap="key")


def test_models_without_prefix_tokens_give_an_empty_prefix(images):
    _, prefix = dense_tokens(load_backbone("tiny:class_token=false"), images)
    assert prefix.shape == (2, 0, 48)


def test_a_stopped_run_goes_on_and_ends_the_same(tiny, folder, monkeypatch):
    whole, out = folder / "whole.safetensors", folder / "features.safetensors"
    encode(tiny, folder / "images", out=whole, size="native", batch=2)
    saver = importlib.import_module("diagnostics.studies.dense_tokens")  # `diagnostics.encode` itself is the function
    save, calls = saver._save_whole, []

    def stop(*arguments):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(arguments)
        save(*arguments)

    monkeypatch.setattr(saver, "_save_whole", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(tiny, folder / "images", out=out, size="native", batch=2)
    assert not out.exists()
    monkeypatch.setattr(saver, "_save_whole", save)
    with pytest.raises(OtherRun, match="layer"):
        encode(tiny, folder / "images", out=out, size="native", batch=2, layer=3)
    encode(tiny, folder / "images", out=out, size="native", batch=2)
    assert out.read_bytes() == whole.read_bytes()


def test_an_existing_file_is_not_overwritten(tiny, folder):
    out = folder / "features.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists"):
        encode(tiny, folder / "images", out=out)
    assert out.read_bytes() == b"mine"


def test_broken_images_are_left_out_and_reported(tiny, folder):
    (folder / "images" / "4a.png").write_bytes(b"no image")
    out = folder / "features.safetensors"
    left_out = encode(tiny, folder / "images", out=out, batch=2)
    assert left_out.keys() == {"4a.png"}
    assert load_file(out).keys() == {f"{n}.png" for n in range(5)}
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["skipped"]).keys() == {"4a.png"}


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"tap": "atention"}, "Did you mean `attention`"),
        ({"tap": "key", "project": True}, "block_out"),
        ({"layer": 0, "tap": "key"}, "embedding"),
    ],
)
def test_a_wrong_setting_leaves_nothing_in_the_way_of_the_right_one(tiny, folder, wrong, message):
    out = folder / "features.safetensors"
    with pytest.raises(ValueError, match=message):
        encode(tiny, folder / "images", out=out, **wrong)
    assert not (folder / "features.safetensors.parts").exists()
    encode(tiny, folder / "images", out=out)
    assert len(load_file(out)) == 5


def test_a_run_that_failed_before_its_first_part_can_be_repeated_otherwise(tiny, folder, monkeypatch):
    out = folder / "features.safetensors"
    trunk = type(tiny).trunk

    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(type(tiny), "trunk", broken)
    with pytest.raises(RuntimeError, match="broken"):
        encode(tiny, folder / "images", out=out, layer=3)
    monkeypatch.setattr(type(tiny), "trunk", trunk)
    encode(tiny, folder / "images", out=out, layer=4)
    with safe_open(out, "pt") as file:
        assert file.metadata()["layer"] == "4"


def test_a_folder_of_ones_own_beside_the_file_is_not_touched(tiny, folder):
    mine = folder / "features.safetensors.parts"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    with pytest.raises(OtherRun, match="holds no parts"):
        encode(tiny, folder / "images", out=folder / "features.safetensors")
    assert (mine / "notes.txt").read_text() == "keep"


def test_a_directory_is_refused_as_output_file(tiny, folder):
    with pytest.raises(ValueError, match="is a directory; give --out the name of a file"):
        encode(tiny, folder / "images", out=folder)


def test_a_folder_of_broken_images_only_is_an_error_and_no_file(tiny, tmp_path):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"none of the 1 images.*a\.png"):
        encode(tiny, tmp_path / "a.png", out=tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.fixture
def stopped(tiny, folder, monkeypatch):
    """The folder of parts of a run that was stopped before they were joined."""
    module = importlib.import_module("diagnostics.studies.dense_tokens")
    monkeypatch.setattr(module, "_join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        encode(tiny, folder / "images", out=folder / "f.safetensors", size="64", batch=2)
    monkeypatch.undo()
    return folder / "f.safetensors.parts"


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_a_part_that_was_cut_short_is_made_again(tiny, folder, stopped, length):
    encode(tiny, folder / "images", out=folder / "whole.safetensors", size="64", batch=2)
    part = sorted(stopped.glob("*.safetensors"))[1]
    part.write_bytes(part.read_bytes()[:length])
    encode(tiny, folder / "images", out=folder / "f.safetensors", size="64", batch=2)
    assert (folder / "f.safetensors").read_bytes() == (folder / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("content", ["{", "null", "[1]", ""])
def test_settings_of_another_form_are_reported_with_their_file(tiny, folder, stopped, content):
    (stopped / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"parts/settings\.json` is damaged: .*Choose another --out, or delete"):
        encode(tiny, folder / "images", out=folder / "f.safetensors", size="64", batch=2)


def test_a_full_disk_is_named_and_loses_nothing(tiny, folder, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull, match=r"no space left for `.*f\.safetensors`"):
        encode(tiny, folder / "images", out=folder / "f.safetensors", size="64")
    monkeypatch.undo()
    assert encode(tiny, folder / "images", out=folder / "f.safetensors", size="64") == {}


def test_a_second_process_is_refused_by_name(tiny, folder):
    with held(folder / "f.safetensors"), pytest.raises(InUse, match=r"f\.safetensors` is being written by process"):
        encode(tiny, folder / "images", out=folder / "f.safetensors", size="64")
    assert encode(tiny, folder / "images", out=folder / "f.safetensors", size="64") == {}

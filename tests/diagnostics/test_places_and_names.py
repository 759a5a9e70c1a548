"""Odd names, special files and odd places to write to: named, left out, or taken for what they mean."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diagnostics import encode, image_paths, open_run, probe
from diagnostics.images import ImageError, open_image
from diagnostics.images.content import file_content
from diagnostics.local_path import local_path
from diagnostics.printable import printable

BAD = os.fsdecode(b"bad\xff.png")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p").mkdir()
    for number, name in enumerate(("ok.png", BAD)):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        with open(tmp_path / "p" / name, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
    return tmp_path


def test_a_name_that_is_no_utf8_is_written_with_its_bytes(folder, tiny):
    assert printable(BAD) == "bad%FF.png"
    assert printable("grün/日本.png") == "grün/日本.png"
    assert set(image_paths(folder / "p")) == {"ok.png", "bad%FF.png"}
    run = probe(tiny, folder / "p", measures=["norms"], out=folder / "run.zarr")
    assert sorted(run["image"].values.tolist()) == ["bad%FF.png", "ok.png"]
    assert encode(tiny, folder / "p", out=folder / "f.safetensors") == {}


def test_a_damaged_image_of_such_a_name_is_named_and_left_out(folder, tiny):
    (folder / "p" / BAD).write_bytes(b"no image")
    with pytest.raises(ImageError) as raised:
        open_image(folder / "p" / BAD)
    str(raised.value).encode()  # can be printed
    assert "bad%FF.png" in str(raised.value)
    run = probe(tiny, folder / "p", measures=["norms"], out=folder / "run.zarr")
    assert run["image"].values.tolist() == ["ok.png"]


def test_pipes_and_devices_are_left_out_and_not_read(folder, tiny):
    os.mkfifo(folder / "p" / "pipe.png")
    (folder / "p" / "device.png").symlink_to("/dev/null")
    code = (
        "import sys; from diagnostics.images.content import file_content; from pathlib import Path; "
        "print(file_content(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "p" / "pipe.png")], capture_output=True, timeout=120, check=True
    )
    assert b"can't be opened" in done.stdout
    assert file_content(folder / "p" / "device.png") == b"can't be opened"
    run = probe(tiny, folder / "p", measures=["norms"], out=folder / "run.zarr")
    assert sorted(run["image"].values.tolist()) == ["bad%FF.png", "ok.png"]


@pytest.mark.parametrize("place", ["s3://bucket/run.zarr", "s3:/bucket/run.zarr", "file:///tmp/x", "memory://x"])
def test_a_url_is_no_place_to_write_to(place, folder, tiny, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=r"is a URL; this command writes to folders"):
        probe(tiny, folder / "p", measures=["norms"], out=Path(place))
    with pytest.raises(ValueError, match=r"is a URL"):
        encode(tiny, folder / "p", out=place)
    assert sorted(os.listdir(folder)) == ["p"]


def test_the_home_folder_may_be_written_short(folder, tiny, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    probe(tiny, folder / "p", measures=["norms"], out="~/run.zarr")
    assert (folder / "run.zarr").is_dir()
    assert not (folder / "~").exists()
    assert open_run("~/run.zarr").sizes["image"] == 2
    assert local_path("a:b/c") == Path("a:b/c")

"""Large images on the command line: refused by arithmetic before a model is loaded, or with progress inside of one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import attention_outliers.commands.main as main
import diagnostics.memory as memory
import segment.segmenter as segmenter_module
from attention_outliers import overlays
from attention_outliers.commands.options import Model


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of 8000 x 6000 pixels, a machine of 16 GB, and a model that must not be loaded."""

    def load(*_):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(Model, "load", load)
    monkeypatch.setattr(memory, "memory_of", lambda device: 16 * 10**9)
    Image.new("L", (8000, 6000)).save(tmp_path / "large.png", compress_level=1)
    return str(tmp_path / "large.png")


def error_of(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["outliers", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "command, names",
    [
        (["probe"], "RankOneShare takes at least 2.25 TB"),  # 4 bytes · 750,001²
        (["probe", "--measures", "attention-maps"], "takes at least 4.5 TB"),  # of two heads
        (["compare", "--out", "c"], "LocalOutlierFactor takes at least 4.5 TB"),  # 8 bytes · 750,000²
        (["classify", "--classes", "zebra, tiger", "--detector", "lof"], "LocalOutlierFactor takes at least 4.5 TB"),
        (["encode", "--method", "sc-clip", "--out", "f.safetensors"], "SelfCalibrated takes at least 2.25 TB"),
        (["view", "--out", "p.html"], "takes at least"),
        (["probe", "--backbone", "timm:vit_tiny_patch16_224"], "RankOneShare takes at least 141 GB"),
    ],
)
def test_what_arithmetic_knows_is_refused_before_the_model_is_loaded(command, names, large, monkeypatch, capsys):
    error = error_of([command[0], large, "--size", "native", *command[1:]], monkeypatch, capsys)
    assert names in error
    assert "large.png" in error
    assert "tokens" in error
    assert "--size" in error


def test_what_fits_is_left_to_the_model(large, monkeypatch, capsys):
    for size in ("short:336", "224"):
        monkeypatch.setattr("sys.argv", ["outliers", "probe", large, "--size", size])
        with pytest.raises(AssertionError, match="the model is loaded"):
            main.main()


def test_segment_refuses_a_window_that_can_not_fit_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "memory_of", lambda device: 10**7)
    Image.new("RGB", (1600, 1200)).save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), "--classes", "zebra, tiger", "--out", str(tmp_path / "out")]
    error = error_of([*command, "--windows", "whole", "--size", "native"], monkeypatch, capsys)
    assert "a.png" in error
    assert "30,001 tokens" in error
    assert "smaller windows" in error
    assert not list((tmp_path / "out").rglob("*.png"))


def test_an_image_of_many_windows_has_a_bar_over_them(tmp_path, monkeypatch, tiny):
    class Bar:
        def __init__(self, what, total, *, unit, leave):
            self.what, self.total, self.done = what, total, 0
            bars.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, count):
            self.done += count

    bars: list[Bar] = []
    monkeypatch.setattr(segmenter_module, "progress_bar", Bar)
    array = np.random.default_rng(0).integers(0, 256, (150, 340, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "wide.png")
    Image.fromarray(array[:64, :64]).save(tmp_path / "small.png")
    from segment.segmenter import Segmenter

    segmenter = Segmenter(
        tiny, "clip", "cat, dog", windows="slide:crop=32,stride=16", size="native", batch=16, progress=True
    )
    list(segmenter([tmp_path / "wide.png", tmp_path / "small.png"]))
    # (150 - 32) / 16 rounded up and one more, times (340 - 32) / 16 likewise; the small one has 3 x 3 and no bar.
    assert [(bar.what, bar.total, bar.done) for bar in bars] == [("wide.png", 9 * 21, 9 * 21)]


def test_overlays_of_large_images_are_drawn_of_every_so_many_pixels(tmp_path, monkeypatch, tiny):
    from segment.run import SegmentRun
    from segment.segmenter import Segmenter

    monkeypatch.setattr(overlays, "DRAWN", 40)
    shapes = []
    monkeypatch.setattr(
        overlays, "label_map", lambda image, labels, *_, **__: shapes.append((image.shape[:2], labels.shape))
    )
    monkeypatch.setattr(overlays, "write", lambda *_, **__: None)
    Image.new("RGB", (97, 61)).save(tmp_path / "a.png")
    run = SegmentRun(Segmenter(tiny, "clip", "cat, dog", windows="whole", size=64), tmp_path / "a.png", tmp_path / "o")
    for segmentations in run:
        overlays.write_overlays(run, segmentations)
    assert shapes == [((21, 33), (21, 33))]

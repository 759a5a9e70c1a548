"""The command line does the main jobs, explains itself, and tells errors in one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import diagnostics
from attention_outliers.commands.main import app, main
from attention_outliers.commands.options import layers_of, numbers

runner = CliRunner()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        labels = np.random.default_rng(number).integers(0, 2, (4, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{number}.png")
    return tmp_path


def ran(*arguments):
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_probe_writes_a_store_a_table_and_figures(folder):
    output = ran(
        "probe", folder / "images", "-b", "tiny", "--labels", folder / "labels", "--out", folder / "run.zarr",
        "--plots", folder / "figures", "--maps", 1,
    )  # fmt: skip
    dataset = diagnostics.open_run(folder / "run.zarr")
    assert dataset.sizes["image"] == 3
    for word in ("median norm", "maximal norm", "tokens > 3 x median", "entropy X_res", "AUC", "3 images, tiny"):
        assert word in output
    assert f"{float(dataset['norm'].max()):.1f}" in output
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert "layers.png" in drawn
    assert "layers.pdf" in drawn
    assert "roc.png" in drawn
    assert [name for name in drawn if name.startswith("maps_")]


def test_probe_takes_measures_layers_and_sizes(folder):
    ran(
        "probe", folder / "images" / "*.png", "-b", "tiny", "-o", folder / "run.zarr", "-m",
        "norms,query-attention:patches=1+2,heads=mean", "--layers", "1,3-4,-1", "--size", "96x64",
    )  # fmt: skip
    dataset = diagnostics.open_run(folder / "run.zarr")
    assert dataset["layer"].values.tolist() == [1, 3, 4, 12]
    assert set(dataset.data_vars) == {"norm", "norm_ratio", "norm_outliers", "query_attention_mean"}
    assert dataset["norm"].shape[2:] == (4, 6)


def test_the_interpolation_of_positions_is_the_one_asked_for(folder):
    arguments = ["probe", folder / "images", "-b", "tiny", "-m", "norms", "--layers", "2", "--size", "96x64"]
    ran(*arguments, "-o", folder / "run.zarr", "--positions", "bilinear")
    asked = diagnostics.open_run(folder / "run.zarr")["norm"]
    backbone = diagnostics.load_backbone("tiny")
    for positions, equal in (("bilinear", True), (None, False)):
        norms = [
            backbone.trunk(
                diagnostics.load_image(path, size="96x64", mean=backbone.mean, std=backbone.std)[None],
                stop=2,
                positions=positions,
            )[0, 1:].norm(dim=-1)
            for path in sorted((folder / "images").iterdir())
        ]
        expected = np.stack([norm.reshape(4, 6).numpy() for norm in norms])
        assert np.allclose(asked[:, 0], expected, atol=1e-3) == equal


def test_ignored_labels_take_no_part_in_the_auc_of_probe(folder):
    for number in range(3):
        labels = np.random.default_rng(5 + number).integers(0, 3, (4, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
        Image.fromarray(np.where(labels == 2, 255, labels).astype(np.uint8)).save(folder / f"{number}.png")
    arguments = ["probe", folder / "images", "-b", "tiny", "-m", "auc", "--labels", folder / "labels"]
    ran(*arguments, "--ignore", "2", "-o", folder / "run.zarr")
    unlabeled = [np.asarray(Image.open(folder / f"{number}.png")) for number in range(3)]
    expected = diagnostics.probe(
        diagnostics.load_backbone("tiny"), folder / "images", labels=unlabeled, measures=["auc"]
    )
    np.testing.assert_array_equal(diagnostics.open_run(folder / "run.zarr")["auc"], expected["auc"])


def test_plots_come_as_png_and_pdf_whatever_the_images_are_called(folder):
    ran(
        "probe", folder / "images" / "0.png", "-b", "tiny", "-m", "norms", "-o", folder / "run.zarr",
        "--plots", folder / "figures",
    )  # fmt: skip
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {f"{name}{suffix}" for name in ("layers", "maps_0.png") for suffix in (".png", ".pdf")}


def test_plots_of_a_image_and_a_link_to_it_are_drawn_once(folder):
    (folder / "link.png").symlink_to(folder / "images" / "0.png")
    ran(
        "probe", folder / "images" / "0.png", folder / "link.png", "-b", "tiny", "-m", "norms",
        "-o", folder / "run.zarr", "--plots", folder / "figures",
    )  # fmt: skip
    assert len(list((folder / "figures").glob("maps_*.pdf"))) == 1


def test_measures_without_table_or_figure_say_so(folder):
    output = ran(
        "probe", folder / "images" / "0.png", "-b", "tiny", "-m", "prefix-attention", "-o", folder / "run.zarr",
        "--plots", folder / "figures",
    )  # fmt: skip
    assert "1 image, tiny" in output
    assert "figures: none" in output
    assert not (folder / "figures").exists()


def test_broken_images_are_reported_at_the_end(folder):
    (folder / "images" / "bad.png").write_bytes(b"no image")
    output = ran("probe", folder / "images", "-b", "tiny", "-m", "norms", "-o", folder / "run.zarr")
    assert "left out (1)" in output
    assert "bad.png" in output


def test_encode_writes_dense_tokens(folder):
    out = folder / "features.safetensors"
    assert str(out) in ran("encode", folder / "images", "-b", "tiny", "-l", 3, "-t", "value", "-o", out)
    assert load_file(out)["0.png"].shape == (4, 4, 2, 24)


@pytest.mark.parametrize(
    "what, words",
    [
        ("backbones", ["open_clip", "timm", "openai", "hf-hub", "pocket", "tiny"]),
        ("measures", ["norms", "entropy", "attention_entropy", "nat"]),
        ("taps", ["block_in", "(B, H, T, T)", "ClearCLIP"]),
        ("positions", ["bicubic-antialiased", "bicubic-offset"]),
        ("detectors", ["som-release", "lof", "SC-CLIP", "adaptive"]),
        ("purifiers", ["neighbor-mean", "sfp-sum", "keep"]),
        ("edits", ["purify-at", "plant", "register"]),
        ("all", ["backbones,", "measures;", "taps,", "position interpolations"]),
    ],
)
def test_lists_name_what_there_is(what, words):
    output = ran("list", what)
    for word in words:
        assert word in output


@pytest.mark.parametrize("command", [[], ["probe"], ["compare"], ["encode"], ["list"], ["demo"]])
def test_help_explains_every_command_and_option(command):
    output = ran(*command, "--help")
    assert len(output.splitlines()) > 8


def reported(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["outliers", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["probe", "nowhere", "-o", "x.zarr"], "nowhere"),
        (["probe", "IMAGES", "-b", "tinny", "-o", "x.zarr"], "Did you mean `tiny`"),
        (["probe", "IMAGES", "-b", "tiny", "-m", "norm", "-o", "x.zarr"], "Did you mean `norms`"),
        (["probe", "IMAGES", "-b", "tiny", "--layers", "a", "-o", "x.zarr"], "--layers"),
        (["probe", "IMAGES", "-b", "tiny", "--layers", "5-3", "-o", "x.zarr"], "5-3"),
        (["probe", "IMAGES", "-b", "tiny", "--layers", "1-99999999999", "-o", "x.zarr"], "1-99999999999"),
        (["probe", "IMAGES", "-b", "tiny", "--ignore", "sky", "-o", "x.zarr"], "--ignore"),
        (["probe", "IMAGES", "-b", "tiny", "--size", "big", "-o", "x.zarr"], "big"),
        (["probe", "IMAGES", "-b", "tiny", "--device", "cuda:77", "-o", "x.zarr"], "cuda:77"),
        (["encode", "IMAGES", "-b", "tiny", "-t", "atention", "-o", "x"], "Did you mean `attention`"),
        (["encode", "IMAGES", "-b", "tiny", "-l", "99", "-o", "x"], "0…12"),
        (["list", "tap"], "Did you mean `taps`"),
    ],
)
def test_errors_are_one_readable_line(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    filled = [folder / "images" if argument == "IMAGES" else argument for argument in arguments]
    code, error = reported(filled, monkeypatch, capsys)
    assert code == 1
    assert message in error
    assert "Traceback" not in error
    assert not (folder / "x.zarr").exists()


def test_an_interrupt_says_that_the_run_can_go_on(folder, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(diagnostics, "probe", stop)
    code, error = reported(["probe", folder / "images", "-b", "tiny", "-o", folder / "x.zarr"], monkeypatch, capsys)
    assert code == 130
    assert "resumes" in error


def test_the_demo_needs_nothing_and_can_be_run_again(tmp_path):
    for _ in range(2):
        output = ran("demo", "--out", tmp_path, "--scenes", 2)
        assert "planted outliers" in output
        assert "mIoU over 16 classes, 2 scenes" in output
    assert diagnostics.open_run(tmp_path / "demo" / "probe.zarr").sizes["image"] == 24
    page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
    assert page.count("<table") == 3
    assert page.count("data:image/png;base64,") == 6
    assert (tmp_path / "demo" / "view.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    "text, layers", [(None, None), ("1", [1]), ("1,3-5", [1, 3, 4, 5]), ("-2,-1", [-2, -1]), (" 2 , 4 ", [2, 4])]
)
def test_layers_are_read_from_text(text, layers):
    assert layers_of(text) == layers


def test_ignored_labels_are_read_from_text():
    assert numbers("0,255", "--ignore") == [0, 255]
    assert numbers("", "--ignore") == []


def test_the_console_script_is_installed():
    done = subprocess.run(
        [sys.executable, "-m", "attention_outliers", "--help"], capture_output=True, text=True, check=True
    )
    assert "probe" in done.stdout


def test_the_version_is_reported():
    assert runner.invoke(app, ["--version"]).stdout.strip() == f"attention-outliers {version('attention-outliers')}"

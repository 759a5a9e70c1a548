"""A run is right, whole and labeled, whatever happens to it on the way."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from sklearn.metrics import roc_auc_score

from diagnostics import Recorder, image_paths, layer_table, load_backbone, measure_images, open_run, probe
from diagnostics.images import ImageError, load_image
from diagnostics.measures import MEASURES, measures_of
from diagnostics.measures.attention import attention_rows
from diagnostics.registry import UnknownName
from diagnostics.studies.store import DiskFull, OtherRun, RunStore, left_out

ISSUED = {
    "norm": ("image", "layer", "row", "col"),
    "class_norm": ("image", "layer"),
    "entropy": ("image", "layer", "stream"),
    "peak": ("image", "layer", "stream"),
    "frobenius": ("image", "layer", "stream"),
    "channel_peak": ("image", "layer", "channel"),
    "class_attention": ("image", "layer", "head", "row", "col"),
    "self_attention": ("image", "layer", "head", "row", "col"),
    "received_attention": ("image", "layer", "head", "row", "col"),
    "attention_entropy": ("image", "layer", "head"),
    "auc": ("image", "layer"),
    "auc_pooled": ("layer",),
    "roc": ("layer", "bin", "rate"),
}


def save_image(path: Path, *, seed: int, size: tuple[int, int] = (64, 64)) -> Path:
    """A random image of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Five images and their label maps of three classes, in two folders."""
    for number in range(5):
        save_image(tmp_path / "images" / f"{number}.png", seed=number)
        labels = np.random.default_rng(number).integers(0, 3, (4, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{number}.png")
    return tmp_path


def same(first: xr.Dataset, second: xr.Dataset) -> None:
    """The data sets hold the same numbers, bit for bit, under the same names."""
    xr.testing.assert_identical(first.drop_attrs(), second.drop_attrs())


def test_a_run_has_the_promised_variables_with_units_and_sources(tiny, folder):
    dataset = probe(tiny, folder / "images", labels=folder / "labels")
    for name, dims in ISSUED.items():
        assert dataset[name].dims == dims, name
    for name, variable in dataset.data_vars.items():
        assert {"units", "long_name", "source"} <= variable.attrs.keys(), name
    assert dataset["layer"].values.tolist() == list(range(1, 13))
    assert dataset["stream"].values.tolist() == ["block_in", "attn_out", "block_sum"]
    assert dataset["image"].values.tolist() == [f"{number}.png" for number in range(5)]
    assert dataset.attrs["backbone"] == "tiny"


def test_default_measures_make_no_attention_matrix(tiny, folder, monkeypatch):
    def refuse(*_):
        pytest.fail("the matrix was made")

    def one_row_only(q, *others):
        return attention_rows(q, *others) if q.shape[-2] == 1 else refuse()

    monkeypatch.setattr("diagnostics.backbones.base.attention_weights", refuse)
    monkeypatch.setattr("diagnostics.measures.attention.attention_rows", one_row_only)
    probe(tiny, folder / "images", labels=folder / "labels")
    with pytest.raises(pytest.fail.Exception):
        probe(tiny, folder / "images", measures=["attention-maps"])


def test_measurements_equal_those_of_plain_taps(tiny, folder):
    dataset = probe(tiny, folder / "images")
    image = load_image(folder / "images" / "3.png", size="64", mean=tiny.mean, std=tiny.std)[None]
    recorder = Recorder("block_in", "block_out", "attn_out", "attention")
    tiny.trunk(image, tap=recorder)
    for layer in (1, 7, 12):
        view = dataset.sel(image="3.png", layer=layer)
        tokens = recorder["block_out", layer]
        attention = recorder["attention", layer][0]
        expected = {
            "norm": tokens[0, 1:].norm(dim=-1).reshape(4, 4),
            "class_norm": tokens[0, 0].norm(),
            "channel_peak": tokens[0, 1:].abs().amax(0),
            "class_attention": attention[:, 0, 1:].reshape(2, 4, 4),
            "self_attention": attention.diagonal(dim1=1, dim2=2)[:, 1:].reshape(2, 4, 4),
            "received_attention": attention[:, 1:, 1:].mean(1).reshape(2, 4, 4),
            "attention_entropy": torch.special.entr(attention).sum(-1).mean(-1),
        }
        for name, values in expected.items():
            assert np.allclose(view[name].values, values.numpy(), rtol=1e-4, atol=1e-5), name
        inside = recorder["block_in", layer]
        assert np.isclose(view["frobenius"].sel(stream="block_in"), inside.norm().item(), rtol=1e-5)
        assert np.isclose(view["peak"].sel(stream="attn_out"), recorder["attn_out", layer].max().item(), rtol=1e-5)


@pytest.mark.parametrize("spec", ["tiny", "tiny:class_token=false", "tiny:registers=4", "pocket"])
def test_every_shape_of_prefix_can_be_probed(spec, folder):
    backbone = load_backbone(spec)
    dataset = probe(backbone, folder / "images", size="64")
    assert ("class_norm" in dataset) == (backbone.class_index is not None)
    assert dataset["norm"].notnull().all()
    if "registers" in spec:
        assert dataset["prefix_norm"].sizes["prefix"] == 5


def test_a_batch_equals_its_images_one_by_one(tiny, folder):
    together = probe(tiny, folder / "images", batch=5)
    alone = probe(tiny, folder / "images", batch=1)
    for name in together.data_vars:
        if together[name].dtype.kind == "f":
            assert np.allclose(together[name], alone[name], rtol=1e-3, atol=1e-4, equal_nan=True), name


def test_layers_can_be_chosen_from_either_end(tiny, folder):
    whole = probe(tiny, folder / "images", measures=["norms", "layer-similarity"])
    dataset = probe(tiny, folder / "images", measures=["norms", "layer-similarity"], layers=[-1, 3])
    assert dataset["layer"].values.tolist() == [3, 12]
    assert np.array_equal(dataset["norm"], whole["norm"].sel(layer=[3, 12]))
    assert np.allclose(dataset["layer_cka"], whole["layer_cka"].sel(layer=[3, 12], other_layer=[3, 12]), atol=1e-5)
    with pytest.raises(ValueError, match="1…12"):
        probe(tiny, folder / "images", layers=[0])


def test_images_of_several_shapes_share_a_padded_grid(tiny, tmp_path):
    save_image(tmp_path / "wide.png", seed=0, size=(96, 64))
    save_image(tmp_path / "tall.png", seed=1, size=(64, 128))
    dataset = probe(tiny, tmp_path, size="short:64", batch=2)
    assert dict(
        zip(
            dataset["image"].values.tolist(),
            zip(dataset["rows"].values, dataset["cols"].values, strict=True),
            strict=True,
        )
    ) == {
        "tall.png": (8, 4),
        "wide.png": (4, 6),
    }
    wide = dataset["norm"].sel(image="wide.png", layer=1)
    assert wide.shape == (8, 6)
    assert wide[:4].notnull().all()
    assert wide[4:].isnull().all()
    alone = probe(tiny, tmp_path / "wide.png", size="short:64")
    assert np.allclose(alone["norm"][0, 0], wide[:4], rtol=1e-4)


def test_queries_that_would_mean_different_patches_are_refused(tiny, tmp_path):
    save_image(tmp_path / "wide.png", seed=0, size=(96, 64))
    save_image(tmp_path / "tall.png", seed=1, size=(64, 128))
    with pytest.raises(ValueError, match="one --size"):
        probe(tiny, tmp_path, size="short:64", measures=["query-attention"])
    with pytest.raises(ValueError, match="same patches"):
        probe(tiny, tmp_path, measures=["query-attention:patches=1", "patch-similarity:patches=2"])
    dataset = probe(
        tiny, tmp_path, size="short:64", measures=["query-attention:patches=5", "patch-similarity:patches=5"]
    )
    assert dataset["query"].values.tolist() == [5]


def test_sizes_that_are_no_multiple_of_the_patch_are_padded_evenly(tiny, tmp_path):
    save_image(tmp_path / "odd.png", seed=0, size=(50, 70))
    dataset = probe(tiny, tmp_path, size="native", measures=["norms"])
    assert (dataset["rows"].item(), dataset["cols"].item()) == (5, 4)
    image = load_image(tmp_path / "odd.png", size="native", mean=tiny.mean, std=tiny.std)[None]
    padded = torch.nn.functional.pad(image, (7, 7, 5, 5))
    measured = measure_images(tiny, padded, measures_of(["norms"]))["norm"]
    assert np.allclose(dataset["norm"], measured, rtol=1e-5)


def test_arrays_and_pil_images_work_without_files(tiny):
    array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    dataset = probe(tiny, [array, Image.fromarray(array)], measures=["norms"])
    assert dataset["image"].values.tolist() == ["image-0001", "image-0002"]
    assert np.array_equal(dataset["norm"][0], dataset["norm"][1])
    assert probe(tiny, array, measures=["norms"]).sizes["image"] == 1


def test_the_auc_is_that_of_scikit_learn(tiny, folder):
    dataset = probe(tiny, folder / "images", labels=folder / "labels", measures=["auc"])
    scores, truths = [], []
    for number in range(5):
        image = load_image(folder / "images" / f"{number}.png", size="64", mean=tiny.mean, std=tiny.std)[None]
        recorder = Recorder("block_out", layers=[5])
        tiny.trunk(image, tap=recorder)
        patches = torch.nn.functional.normalize(recorder["block_out"][0, 1:], dim=-1)
        labels = np.asarray(Image.open(folder / "labels" / f"{number}.png"))[::16, ::16].reshape(-1)
        pairs = np.triu_indices(16, 1)
        scores.append((patches @ patches.T).numpy()[pairs])
        truths.append((labels[:, None] == labels)[pairs])
        assert dataset["auc"].sel(layer=5)[number].item() == pytest.approx(roc_auc_score(truths[-1], scores[-1]))
    pooled = roc_auc_score(np.concatenate(truths), np.concatenate(scores))
    assert dataset["auc_pooled"].sel(layer=5).item() == pytest.approx(pooled, abs=1e-4)
    assert (dataset["auc_pooled_error"] < 1e-4).all()
    assert "pair_histogram" not in dataset
    assert not {"block", "pair_bin", "relation"} & set(dataset.coords)
    roc = dataset["roc"].sel(layer=5)
    assert roc.sel(rate="fpr")[0].item() == roc.sel(rate="tpr")[0].item() == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_every_pair_weighs_the_same_in_the_pooled_auc_whatever_its_image(tiny, batch):
    """Images of 4, 24 and 60 patches with other shares of labels: scikit-learn's AUC of all their pairs in one list."""
    generator = np.random.default_rng(1)
    grids = [(2, 2), (4, 6), (10, 6), (2, 2), (4, 6)]
    photos = [generator.integers(0, 256, (16 * rows, 16 * cols, 3), dtype=np.uint8) for rows, cols in grids]
    patch_labels = [generator.choice([0, 1, 7], size, p=[0.6, 0.3, 0.1]) for size in grids]
    maps = [labels.repeat(16, 0).repeat(16, 1) for labels in patch_labels]
    dataset = probe(tiny, photos, labels=maps, measures=["auc"], layers=[4, 9], size="native", batch=batch, ignore=(7,))
    for layer in (4, 9):
        scores, truths = [], []
        for photo, labels in zip(photos, patch_labels, strict=True):
            image = load_image(photo, size="native", mean=tiny.mean, std=tiny.std)[None]
            patches = tiny.trunk(image, stop=layer)[0, 1:].double()[torch.from_numpy(labels.reshape(-1) != 7)]
            known = labels.reshape(-1)[labels.reshape(-1) != 7]
            for i, j in itertools.combinations(range(len(patches)), 2):
                scores.append(torch.cosine_similarity(patches[i], patches[j], dim=0).item())
                truths.append(known[i] == known[j])
        assert dataset["auc_pooled"].sel(layer=layer).item() == pytest.approx(roc_auc_score(truths, scores), abs=1e-4)


def test_labels_may_be_arrays(tiny, folder):
    from_files = probe(tiny, folder / "images", labels=folder / "labels", measures=["auc"])
    arrays = [np.asarray(Image.open(folder / "labels" / f"{number}.png")) for number in range(5)]
    from_arrays = probe(tiny, folder / "images", labels=arrays, measures=["auc"])
    assert np.array_equal(from_files["auc"], from_arrays["auc"])
    with pytest.raises(ValueError, match="one map per image, 5; got 2"):
        probe(tiny, folder / "images", labels=arrays[:2])


def test_ignored_labels_take_no_part(tiny, folder):
    everything = probe(tiny, folder / "images", labels=folder / "labels", measures=["auc"])
    less = probe(tiny, folder / "images", labels=folder / "labels", measures=["auc"], ignore=(0,))
    assert (less["auc_pooled"] != everything["auc_pooled"]).all()


def test_bins_that_are_too_coarse_for_the_pooled_auc_are_reported(tiny, folder):
    with pytest.warns(UserWarning, match=r"layer \d+: the pooled AUC may be off by .*auc:pair_bins="):
        probe(tiny, folder / "images", labels=folder / "labels", measures=["auc:pair_bins=20"])


def test_a_store_with_other_bins_is_not_gone_on_with(tiny, folder):
    out = folder / "run.zarr"
    run = functools.partial(probe, tiny, folder / "images", labels=folder / "labels", out=out)
    run(measures=["auc:pair_bins=262143"])
    with pytest.raises(OtherRun, match="pair_bins=262143"):
        run(measures=["auc"])


def test_pairs_are_pooled_over_batches_and_grids(tiny, folder):
    save_image(folder / "images" / "wide.png", seed=9, size=(96, 48))
    Image.fromarray((np.arange(48 * 96).reshape(48, 96) // 900 % 3).astype(np.uint8)).save(folder / "labels/wide.png")
    options = {"labels": folder / "labels", "measures": ["auc"], "size": "native"}
    pooled = [probe(tiny, folder / "images", batch=batch, **options)["auc_pooled"] for batch in (1, 2, 8)]
    assert np.allclose(pooled[0], pooled[1], atol=1e-6)
    assert np.allclose(pooled[0], pooled[2], atol=1e-6)
    without = probe(tiny, sorted((folder / "images").glob("?.png")), **options)["auc_pooled"]
    assert np.abs(pooled[0] - without).max() > 1e-3


def test_a_stored_run_equals_one_in_memory_and_opens_again(tiny, folder):
    out = folder / "run.zarr"
    stored = probe(tiny, folder / "images", labels=folder / "labels", out=out, batch=2)
    memory = probe(tiny, folder / "images", labels=folder / "labels", batch=2)
    same(stored.load(), memory)
    same(open_run(out).load(), memory)


def test_a_finished_run_is_not_measured_again(tiny, folder, monkeypatch):
    out = folder / "run.zarr"
    first = probe(tiny, folder / "images", out=out).load()
    monkeypatch.setattr(type(tiny), "trunk", lambda *_, **__: pytest.fail("measured again"))
    same(probe(tiny, folder / "images", out=out).load(), first)


@pytest.mark.parametrize("crash_at", [0, 1, 2])
def test_a_stopped_run_goes_on_where_it_was(tiny, folder, monkeypatch, crash_at):
    whole = probe(tiny, folder / "images", labels=folder / "labels", batch=2)
    out = folder / "run.zarr"
    write, calls = RunStore.write, itertools.count()

    def stop(self, *arguments):
        if next(calls) == crash_at:
            raise KeyboardInterrupt
        write(self, *arguments)

    monkeypatch.setattr(RunStore, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        probe(tiny, folder / "images", labels=folder / "labels", batch=2, out=out)
    assert open_run(out).sizes["image"] == 2 * crash_at
    monkeypatch.setattr(RunStore, "write", write)
    same(probe(tiny, folder / "images", labels=folder / "labels", batch=3, out=out).load(), whole)


def test_a_killed_run_goes_on_and_ends_with_the_same_data(tmp_path):
    for number in range(60):
        save_image(tmp_path / "images" / f"{number:02d}.png", seed=number)
    code = (
        "import sys, diagnostics\n"
        "diagnostics.probe(diagnostics.load_backbone('tiny'), sys.argv[1], out=sys.argv[2], batch=2, size='224')"
    )

    def command(out):
        return [sys.executable, "-c", code, str(tmp_path / "images"), str(tmp_path / out)]

    killed = 0
    for _ in range(2):
        running = subprocess.Popen(command("killed.zarr"))
        done = _measured(tmp_path / "killed.zarr")
        while running.poll() is None and _measured(tmp_path / "killed.zarr") <= done:
            time.sleep(0.02)
        if running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
            killed += 1
        running.wait()
    assert killed, "the run was over before it could be killed: make it longer"
    assert 0 < _measured(tmp_path / "killed.zarr") < 60
    subprocess.run(command("killed.zarr"), check=True)
    subprocess.run(command("whole.zarr"), check=True)
    same(open_run(tmp_path / "killed.zarr").load(), open_run(tmp_path / "whole.zarr").load())


def _measured(path: Path) -> int:
    return open_run(path).sizes["image"] if (path / "zarr.json").exists() else 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": "96"}, "size"),
        ({"layers": [1, 2]}, "layers"),
        ({"measures": ["norms"]}, "measures"),
        ({"positions": "bilinear"}, "positions"),
        ({"labels": "labels"}, "labels"),
    ],
)
def test_other_settings_in_the_same_store_are_refused(tiny, folder, change, message):
    out = folder / "run.zarr"
    probe(tiny, folder / "images", out=out, measures=["norms", "peak"])
    if "labels" in change:
        change = {"labels": folder / "labels"}
    with pytest.raises(OtherRun, match=message):
        probe(tiny, folder / "images", out=out, **{"measures": ["norms", "peak"], **change})


def test_other_weights_and_other_images_in_the_same_store_are_refused(tiny, folder):
    out = folder / "run.zarr"
    probe(tiny, folder / "images", out=out, measures=["norms"])
    with pytest.raises(OtherRun, match="weights"):
        probe(load_backbone("tiny:seed=1"), folder / "images", out=out, measures=["norms"])
    save_image(folder / "images" / "new.png", seed=9)
    with pytest.raises(OtherRun, match="images"):
        probe(tiny, folder / "images", out=out, measures=["norms"])


def test_a_folder_beside_the_store_is_not_touched(tiny, folder):
    (folder / "run.zarr.new").mkdir()
    (folder / "run.zarr.new" / "notes.txt").write_text("keep")
    probe(tiny, folder / "images", measures=["norms"], out=folder / "run.zarr")
    assert (folder / "run.zarr.new" / "notes.txt").read_text() == "keep"
    assert {path.name for path in folder.iterdir()} == {"images", "labels", "run.zarr", "run.zarr.new"}


def test_a_image_that_was_replaced_by_one_of_the_same_length_is_noticed(tiny, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    black, white = (Image.new("RGB", (64, 64), color) for color in ("black", "white"))
    black.save(images / "a.bmp")
    probe(tiny, images, measures=["norms"], out=tmp_path / "run.zarr")
    length = (images / "a.bmp").stat().st_size
    white.save(images / "a.bmp")
    assert (images / "a.bmp").stat().st_size == length
    with pytest.raises(OtherRun, match="images"):
        probe(tiny, images, measures=["norms"], out=tmp_path / "run.zarr")


def test_a_run_that_failed_before_its_first_block_makes_way_for_another(tiny, folder):
    out = folder / "run.zarr"
    with pytest.raises((ValueError, RuntimeError)):
        probe(tiny, folder / "images", out=out, measures=["top-channels:k=9999"])
    dataset = probe(tiny, folder / "images", out=out, measures=["top-channels:k=3"])
    assert dataset["top_channel"].sizes["rank"] == 3


def test_a_folder_that_is_no_run_is_not_touched(tiny, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OtherRun, match="no run"):
        probe(tiny, folder / "images", out=folder / "mine")
    assert (folder / "mine" / "notes.txt").read_text() == "keep"
    with pytest.raises(ValueError, match="no run"):
        open_run(folder / "mine")


def test_broken_images_are_named_and_left_out(tiny, folder):
    good = probe(tiny, folder / "images", measures=["norms"])
    (folder / "images" / "2a-empty.png").touch()
    cut = (folder / "images" / "3.png").read_bytes()
    (folder / "images" / "3a-cut.png").write_bytes(cut[: len(cut) // 2])
    out = folder / "run.zarr"
    dataset = probe(tiny, folder / "images", measures=["norms"], out=out, batch=2)
    assert dataset["image"].values.tolist() == good["image"].values.tolist()
    assert np.allclose(dataset["norm"], good["norm"], rtol=1e-4)
    reasons = left_out(out)
    assert reasons.keys() == {"2a-empty.png", "3a-cut.png"}
    assert "2a-empty.png" in reasons["2a-empty.png"]
    with pytest.raises(ImageError, match="2a-empty"):
        probe(tiny, folder / "images", measures=["norms"], strict=True)
    (folder / "images" / "2a-empty.png").unlink()
    with pytest.raises(ImageError, match="3a-cut"):
        probe(tiny, folder / "images", measures=["norms"], strict=True)


def test_a_link_that_leads_nowhere_is_named_and_left_out(tiny, folder):
    (folder / "images" / "lost.png").symlink_to(folder / "gone.png")
    out = folder / "run.zarr"
    assert probe(tiny, folder / "images", measures=["norms"], out=out).sizes["image"] == 5
    assert left_out(out).keys() == {"lost.png"}


def test_a_run_in_memory_warns_of_what_it_left_out(tiny, folder):
    (folder / "images" / "2a-empty.png").touch()
    with pytest.warns(UserWarning, match=r"left out \(1\):\n.*2a-empty\.png"):
        assert probe(tiny, folder / "images", measures=["norms"]).sizes["image"] == 5


def test_a_run_whose_images_all_prove_broken_is_an_error(tiny, tmp_path):
    whole = save_image(tmp_path / "cut.png", seed=0).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"none of the 1 images.*cut\.png"):
            probe(tiny, tmp_path, measures=["norms", "top-channels"], out=tmp_path / "run.zarr")
    with pytest.raises(ValueError, match="no measured images"):
        layer_table(open_run(tmp_path / "run.zarr"))


def test_a_file_that_comes_twice_is_measured_once(tiny, folder):
    (folder / "link.png").symlink_to(folder / "images" / "0.png")
    sources = [folder / "images" / "0.png", folder / "images", folder / "link.png"]
    names = probe(tiny, sources, measures=["norms"])["image"].values.tolist()
    assert names == list(image_paths(sources)) == [f"{number}.png" for number in range(5)]


def test_files_and_arrays_keep_the_order_in_which_they_were_given(tiny, folder):
    array = np.asarray(Image.open(folder / "images" / "1.png"))
    labels = [np.asarray(Image.open(folder / "labels" / f"{number}.png")) for number in (1, 0)]
    dataset = probe(tiny, [array, folder / "images" / "0.png"], labels=labels, measures=["auc"])
    assert dataset["image"].values.tolist() == ["image-0001", "0.png"]
    alone = probe(tiny, folder / "images" / "0.png", labels=folder / "labels", measures=["auc"])
    assert np.allclose(dataset["auc"].sel(image="0.png"), alone["auc"][0], atol=1e-6)


def test_the_table_names_the_ratio_that_was_measured(tiny, folder):
    assert "tokens > 3 x median" in layer_table(probe(tiny, folder / "images", measures=["norms"]))
    assert "tokens > 1.5 x median" in layer_table(probe(tiny, folder / "images", measures=["norms:ratio=1.5"]))


def test_a_folder_of_broken_images_only_is_an_error(tiny, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 1 images.*a\.png"):
        probe(tiny, tmp_path)


@pytest.mark.parametrize("images", ["nowhere", "empty", "empty/*.jpg"])
def test_missing_images_are_named(tiny, tmp_path, images):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=images.split("/")[0]):
        probe(tiny, tmp_path / images)


def test_label_maps_that_do_not_fit_are_named_and_their_images_kept(tiny, folder):
    Image.fromarray(np.zeros((32, 64), np.uint8)).save(folder / "labels" / "1.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "labels" / "2.png")
    (folder / "labels" / "3.png").unlink()
    out = folder / "run.zarr"
    dataset = probe(tiny, folder / "images", labels=folder / "labels", measures=["auc", "norms"], out=out)
    assert dataset["auc"].isnull().all("layer").values.tolist() == [False, True, True, True, False]
    assert dataset["norm"].notnull().all()
    assert left_out(out).keys() == {"1.png", "2.png", "3.png"}
    with pytest.raises(ValueError, match=r"1\.png"):
        probe(tiny, folder / "images", labels=folder / "labels", measures=["auc"], strict=True)
    with pytest.raises(ValueError, match="folder of label maps"):
        probe(tiny, folder / "images", labels=folder / "nowhere")


def test_an_unknown_measure_is_refused_with_the_near_name(tiny, folder):
    with pytest.raises(UnknownName, match="Did you mean `entropy`"):
        probe(tiny, folder / "images", measures=["entropie"])


def test_a_measure_that_cannot_run_says_why(folder):
    bare = load_backbone("tiny:class_token=false")
    with pytest.raises(ValueError, match="no class token"):
        probe(bare, folder / "images", measures=["class-attention"])
    with pytest.raises(ValueError, match="no label maps"):
        probe(bare, folder / "images", measures=["auc"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_says_so_and_loses_nothing(tiny, folder, monkeypatch, number):
    from zarr.storage import LocalStore

    whole = probe(tiny, folder / "images", batch=2)
    out = folder / "run.zarr"
    original = LocalStore.set
    full = [False]

    async def set_until_full(self, key, value):
        # The disk fills up in the middle of the second block: the first chunk file of images 2 and 3.
        if "/c/1" in key:
            full[0] = True
        if full[0]:
            raise OSError(number, "No space left on device")
        await original(self, key, value)

    monkeypatch.setattr(LocalStore, "set", set_until_full)
    with pytest.raises(DiskFull, match=r"^no space left .* run the same command again"):
        probe(tiny, folder / "images", batch=2, out=out)
    monkeypatch.setattr(LocalStore, "set", original)
    assert open_run(out).sizes["image"] == 2
    same(probe(tiny, folder / "images", batch=2, out=out).load(), whole)


def test_a_device_out_of_memory_gets_smaller_batches(tiny, folder, monkeypatch):
    whole = probe(tiny, folder / "images", batch=5, measures=["norms"])
    trunk, tried = type(tiny).trunk, []

    def small_device(self, images, **options):
        tried.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return trunk(self, images, **options)

    monkeypatch.setattr(type(tiny), "trunk", small_device)
    dataset = probe(tiny, folder / "images", batch=5, measures=["norms"])
    assert tried == [5, 2, 2, 1]
    assert np.allclose(dataset["norm"], whole["norm"], rtol=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_image_that_fits_no_memory_is_an_error_with_its_size(tiny, folder, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(type(tiny), "trunk", full)
    with pytest.raises(MemoryError, match=r"64x64 pixels .* smaller --size"):
        probe(tiny, folder / "images", measures=["norms"])


def test_other_errors_of_the_forward_are_not_taken_for_a_lack_of_memory(tiny, folder, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(type(tiny), "trunk", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        probe(tiny, folder / "images", measures=["norms"])


def test_bf16_backbones_are_measured_in_fp32(folder):
    exact = probe(load_backbone("tiny"), folder / "images", measures=["norms", "entropy"])
    coarse = probe(load_backbone("tiny", precision="bf16"), folder / "images", measures=["norms", "entropy"])
    assert coarse["norm"].dtype == np.float32
    assert np.allclose(coarse["norm"], exact["norm"], rtol=0.1)


def test_weights_are_the_same_before_and_after(tiny, folder):
    from diagnostics.backbones.fingerprint import fingerprint

    before = fingerprint(tiny.model)
    probe(tiny, folder / "images")
    assert fingerprint(tiny.model) == before


def test_an_image_in_which_the_network_overflows_is_named_with_its_layer_and_measures(tiny, images):
    measures = measures_of(["norms", "massive"])
    large = torch.cat([images, 1e38 * images[:1]])
    with pytest.warns(UserWarning, match=r"image 2 of the batch: .* range of float32 at layer 1 .*Norms, MassiveCount"):
        measured = measure_images(tiny, large, measures)
    assert measured["norm"][2].isnan().all()
    assert (measured["massive_count"][2] == -1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = measure_images(tiny, images, measures)
    assert torch.allclose(measured["norm"][:2], plain["norm"], rtol=1e-4)


def test_a_run_says_where_the_network_overflows(folder):
    overflowing = load_backbone("tiny")
    with torch.no_grad():
        # From layer 3 on: the values of that block leave fp32.
        list(overflowing.model.visual.transformer.resblocks)[2].attn.out_proj.bias.fill_(3e38)
        list(overflowing.model.visual.transformer.resblocks)[2].mlp.c_proj.bias.fill_(3e38)
    out = folder / "run.zarr"
    dataset = probe(overflowing, folder / "images", measures=["norms"], out=out)
    assert dataset["norm"].sel(layer=slice(1, 2)).notnull().all()
    assert not np.isfinite(dataset["norm"].sel(layer=slice(4, None))).any()
    reasons = left_out(out)
    assert len(reasons) == 5
    assert "at layer 3" in reasons["0.png"]
    assert "Norms" in reasons["0.png"]
    with pytest.warns(UserWarning, match=r"left out \(5\)(.|\n)*at layer 3"):
        probe(overflowing, folder / "images", measures=["norms"])
    with pytest.raises(ValueError, match=r"at layer 3 .*Without `strict` the run goes on"):
        probe(overflowing, folder / "images", measures=["norms"], strict=True)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_keeps_its_contract(name, tiny, folder):
    part = MEASURES.build(name)
    assert MEASURES.describe()[name].endswith(".")
    before = repr(part)
    dataset = probe(tiny, folder / "images", labels=folder / "labels", measures=[part], layers=[1, 6, 12], size="96x64")
    for variable in part.variables:
        if "image" not in variable.dims:  # summed over images: the run says what is made of it
            assert variable.name not in dataset
            continue
        values = dataset[variable.name]
        assert values.dims == variable.dims
        assert values.dims[:2] == ("image", "layer")
        assert str(values.dtype) == variable.dtype
        assert values.notnull().all(), variable.name
        assert variable.units
        assert variable.source
    assert repr(part) == before


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_treats_images_apart(name, tiny, images):
    layout = tiny.layout(images)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 3, (2, layout.count), generator=generator)
    part = MEASURES.build(name)
    together = measure_images(tiny, images, [part], labels=labels)
    for number in range(2):
        row = slice(number, number + 1)
        alone = measure_images(tiny, images[row], [part], labels=labels[row])
        for variable, values in alone.items():
            if values.is_floating_point():
                assert torch.allclose(together[variable][row], values, rtol=1e-3, atol=1e-3, equal_nan=True), variable

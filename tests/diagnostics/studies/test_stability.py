"""A token that keeps its place in the image counts as the same, whatever was done to the image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image
from scipy.stats import spearmanr

from diagnostics import load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.images import as_image
from diagnostics.layout import pad_to_patches
from diagnostics.registry import UnknownName
from diagnostics.studies import stability
from diagnostics.studies.scoring import fit_detectors, score_images
from diagnostics.studies.stability import CHANGES, changed, compared, stability_table, whole_patches

PATCH = (16, 16)
GRAY = (100, 110, 120)


def noise(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blocks(seed: int, rows: int = 4, cols: int = 6) -> np.ndarray:
    """An image of one gray a patch, all different."""
    grays = np.random.default_rng(seed).permutation(rows * cols).reshape(rows, cols).astype(np.uint8) * 8
    return np.repeat(grays.repeat(16, 0).repeat(16, 1)[..., None], 3, axis=2)


def by_content(backbone, images, detectors, *, fitted, options):
    """Stands in for score_images: a patch's score is its mean gray alone, and above 140 it is marked."""
    assert str(options.size) == "native"
    maps = [np.asarray(as_image(image.source)).astype(float).mean(-1) for image in images]
    maps = [gray.reshape(gray.shape[0] // 16, 16, -1, 16).mean((1, 3)) for gray in maps]
    rows, cols = (max(gray.shape[side] for gray in maps) for side in (0, 1))
    score = np.full((1, len(maps), 1, rows, cols), np.nan)
    for number, gray in enumerate(maps):
        score[0, number, 0, : gray.shape[0], : gray.shape[1]] = gray
    dims = ("detector", "image", "layer", "row", "col")
    return xr.Dataset(
        {
            "score": (dims, score),
            "marked": (dims, score > 140),
            "inside": (("image", "row", "col"), np.isfinite(score[0, :, 0])),
        },
        coords={"detector": list(detectors), "layer": list(options.layers), "image": np.arange(len(maps))},
    )


@pytest.mark.parametrize(
    "change, expected_before, expected_after",
    [
        ("shift", [[0, 1], [3, 4]], [[1, 2], [4, 5]]),
        ("flip", [[0, 1, 2], [3, 4, 5]], [[2, 1, 0], [5, 4, 3]]),
        ("jpeg", [[0, 1, 2], [3, 4, 5]], [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_maps_are_laid_on_the_same_places(change, expected_before, expected_after):
    numbered = np.arange(6).reshape(1, 2, 3)
    before, after = compared(change, numbered, numbered)
    assert before.tolist() == [expected_before]
    assert after.tolist() == [expected_after]


def test_another_size_is_laid_back_by_the_patch_under_each_center():
    after = np.arange(24).reshape(4, 6)
    # Centers of 2 x 3 patches in 4 x 6: rows 1 and 3, columns 1, 3 and 5.
    before, back = compared("size", np.zeros((2, 3)), after)
    assert before.shape == (2, 3)
    assert back.tolist() == [[7, 9, 11], [19, 21, 23]]
    doubled = np.arange(6).reshape(2, 3).repeat(2, 0).repeat(2, 1)
    assert compared("size", np.zeros((2, 3)), doubled)[1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_shift_moves_the_content_by_one_patch_and_mirrors_what_was_first():
    image = noise(0)
    moved = np.asarray(changed(Image.fromarray(image), "shift", (64, 96), PATCH, color=GRAY))
    assert np.array_equal(moved[:, 16:], image[:, :-16])
    assert np.array_equal(moved[:, :16], image[:, 15::-1])


def test_a_flip_of_a_symmetric_image_is_the_image():
    half = noise(1, width=48)
    image = Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1))
    flipped = changed(image, "flip", (64, 96), PATCH, color=GRAY)
    assert np.array_equal(np.asarray(flipped), np.asarray(image))


def test_images_become_whole_patches_as_the_backbone_pads_them():
    image = noise(2, 50, 83)
    canvas = np.asarray(whole_patches(Image.fromarray(image), (50, 83), PATCH, GRAY))
    planes = torch.from_numpy(image).permute(2, 0, 1)
    padded = torch.stack([pad_to_patches(plane, PATCH, value=value) for plane, value in zip(planes, GRAY, strict=True)])
    assert np.array_equal(canvas, padded.permute(1, 2, 0).numpy())
    flipped = np.asarray(changed(Image.fromarray(image), "flip", (50, 83), PATCH, color=GRAY))
    assert np.array_equal(flipped, canvas[:, ::-1])


def test_the_other_size_has_more_patches_and_jpeg_a_little_noise():
    image = Image.fromarray(noise(3, 50, 83))
    larger = changed(image, "size", (50, 83), PATCH, color=GRAY, more_patches=3)
    assert larger.size == (16 * 9, 16 * 7)
    smooth = Image.fromarray(np.linspace(0, 255, 96).astype(np.uint8)[None].repeat(64, 0)).convert("RGB")
    coarse, fine = (
        np.asarray(changed(smooth, "jpeg", (64, 96), PATCH, color=GRAY, quality=quality)).astype(int)
        for quality in (10, 95)
    )
    errors = [np.abs(made - np.asarray(smooth).astype(int)).max() for made in (coarse, fine)]
    assert 0 < errors[1] < errors[0] < 40


def test_a_detector_that_sees_only_the_patch_is_stable(tiny, monkeypatch):
    monkeypatch.setattr(stability, "score_images", by_content)
    images = [blocks(seed) for seed in range(3)]
    table = stability_table(tiny, images, ["content"], layers=[6], size="96x64", fitted={}).set_index("change")
    assert list(table.index) == list(CHANGES)
    for change in ("shift", "flip", "jpeg"):
        assert table.loc[change, "jaccard"] == 1, change
        assert table.loc[change, "spearman"] > 0.999, change
        assert table.loc[change, "tokens_before"] == table.loc[change, "tokens_after"] > 0
    assert table.loc["shift", "tokens_before"] == np.mean(
        [(np.arange(24)[None] * 8 > 140).sum() - (image[::16, -16, 0] > 140).sum() for image in images]
    )


def test_the_jaccard_of_chance_is_that_of_random_sets_of_the_same_sizes():
    draw = np.random.default_rng(0)
    overlap = stability._Overlap()
    common = union = 0
    for before, after in ((30, 50), (5, 9)):
        first = np.arange(60).reshape(6, 10) < before
        second = np.arange(60).reshape(6, 10) >= 60 - after
        overlap.add((first, second), (np.zeros((6, 10)), np.zeros((6, 10))), None)
        for _ in range(4000):
            left, right = (set(draw.choice(60, count, replace=False)) for count in (before, after))
            common, union = common + len(left & right), union + len(left | right)
    assert overlap.row()["jaccard_chance"] == pytest.approx(common / union, abs=0.003)
    assert np.isnan(stability._Overlap(images=1).row()["jaccard_chance"])


def test_outliers_that_keep_to_the_grid_are_separated_from_those_that_move_with_the_content(tiny, monkeypatch):
    def corner(backbone, images, detectors, **settings):
        """The patch in the second row and first column is marked, whatever the image shows."""
        scored = by_content(backbone, images, detectors, **settings)
        marked = np.zeros_like(scored["marked"].values)
        marked[..., 1, 0] = True
        return scored.assign(marked=(scored["marked"].dims, marked))

    monkeypatch.setattr(stability, "score_images", corner)
    settings = {"layers": [6], "size": "96x64", "fitted": {}}
    table = stability_table(tiny, blocks(0), ["corner"], **settings).set_index("change")
    assert table.loc[["shift", "flip", "jpeg"], "jaccard_grid"].tolist() == [1, 1, 1]
    assert table.loc[["shift", "flip", "jpeg"], "jaccard"].tolist() == [0, 0, 1]
    assert np.isnan(table.loc["size", "jaccard_grid"])
    monkeypatch.setattr(stability, "score_images", by_content)
    content = stability_table(tiny, blocks(0), ["content"], **settings).set_index("change")
    assert content.loc["shift", "jaccard"] == 1
    assert content.loc["shift", "jaccard_grid"] < 0.5


def test_detectors_that_learn_do_so_once_or_not_at_all(monkeypatch):
    backbone = load_backbone("tiny:outliers=true")
    images = [np.full((64, 64, 3), 40 * number, np.uint8) for number in range(3)]
    spec = "register-neuron"
    ready = fit_detectors(backbone, images, [spec], layers=[6])
    learned = []
    fit = RegisterNeuron.fitted_to
    monkeypatch.setattr(RegisterNeuron, "fitted_to", lambda self, *a: learned.append(1) or fit(self, *a))
    monkeypatch.setattr(stability, "IMAGES_AT_ONCE", 1)
    alone = stability_table(backbone, images, [spec], layers=[6], changes=["flip"])
    assert len(learned) == 1
    fitted_before = stability_table(backbone, images, [spec], layers=[6], changes=["flip"], fitted=ready)
    assert len(learned) == 1
    pd.testing.assert_frame_equal(fitted_before, alone)


def test_nan_or_infinite_scores_raise_with_the_image(tmp_path):
    broken = load_backbone("tiny")
    with torch.no_grad():
        broken.model.visual.conv1.weight.mul_(1e38)
    Image.fromarray(noise(0)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"scores of `norm` are NaN or infinite in `a\.png.*` at layer 3"):
        stability_table(broken, tmp_path, ["norm"], layers=[3])


def test_another_size_keeps_places_on_a_coarse_image(tiny, monkeypatch):
    monkeypatch.setattr(stability, "score_images", by_content)
    left = np.zeros((64, 64, 3), np.uint8)
    left[:, :32] = 255
    table = stability_table(
        tiny, [left], ["content"], layers=[6], size="64", changes=["size"], more_patches=4, fitted={}
    )
    assert table.loc[0, ["jaccard", "tokens_before", "tokens_after"]].tolist() == [1, 8, 8]


def test_the_table_counts_what_scores_of_changed_images_say(tiny):
    images = [noise(seed, 64, 64) for seed in range(3)]
    detectors = ["relative-norm:threshold=1.05", "norm-topk:count=3"]
    table = stability_table(tiny, images, detectors, layers=[-1, 3], changes=["flip"], batch=2)
    assert table[["detector", "layer"]].to_numpy().tolist() == [[spec, n] for spec in detectors for n in (3, 12)]
    before = score_images(tiny, images, detectors, layers=[3, 12])
    after = score_images(tiny, [image[:, ::-1] for image in images], detectors, layers=[3, 12])
    after = after.assign({name: (after[name].dims, after[name].values[..., ::-1]) for name in ("score", "marked")})
    for row in table.itertuples():
        first, second = (scores.sel(detector=row.detector, layer=row.layer) for scores in (before, after))
        both, either = (first.marked & second.marked).values.sum(), (first.marked | second.marked).values.sum()
        assert row.images == 3
        assert either > 0
        assert row.jaccard == pytest.approx(both / either)
        assert row.tokens_after == pytest.approx(second.marked.values.sum() / 3)
        flat = (scores.score.values.reshape(3, -1) for scores in (first, second))
        ranks = [spearmanr(a, b).statistic for a, b in zip(*flat, strict=True)]
        assert row.spearman == pytest.approx(np.mean(ranks), abs=0.01)


def test_each_image_goes_through_once_for_each_change(tiny, monkeypatch):
    sizes = []
    trunk = type(tiny).trunk
    monkeypatch.setattr(
        type(tiny), "trunk", lambda self, images, **k: sizes.append(len(images)) or trunk(self, images, **k)
    )
    monkeypatch.setattr(stability, "IMAGES_AT_ONCE", 2)
    photos = [noise(0), noise(1, 64, 64), noise(2)]
    table = stability_table(tiny, photos, ["norm", "random", "som"], layers=[3, 6], size="native", batch=4)
    assert sum(sizes) == 3 * 5
    assert len(table) == 3 * 2 * 4
    assert (table["images"] == 3).all()


def test_nothing_marked_is_no_agreement_and_no_disagreement(tiny):
    table = stability_table(tiny, noise(0), ["norm:threshold=1e9"], layers=[6], changes=["jpeg"])
    assert np.isnan(table.loc[0, "jaccard"])
    assert table.loc[0, ["tokens_before", "tokens_after"]].tolist() == [0, 0]
    assert 0 < table.loc[0, "spearman"] <= 1


def test_damaged_images_are_left_out_of_the_count(tiny, tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "a.png")
    Image.fromarray(noise(1)).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:9000])
    table = stability_table(tiny, tmp_path, ["norm"], layers=[6], changes=["flip"])
    assert table.loc[0, "images"] == 1


def test_bad_settings_are_named(tiny):
    for call in (
        lambda: stability_table(tiny, noise(0), ["norm"], layers=[6], changes=["flop"]),
        lambda: compared("flop", np.zeros((2, 2)), np.zeros((2, 2))),
        lambda: changed(Image.fromarray(noise(0)), "flop", (64, 96), PATCH, color=GRAY),
    ):
        with pytest.raises(
            UnknownName, match=r"no change `flop`. Did you mean `flip`\? Known: flip, jpeg, shift, size"
        ):
            call()
    with pytest.raises(ValueError, match="at least one change"):
        stability_table(tiny, noise(0), ["norm"], layers=[6], changes=[])
    with pytest.raises(ValueError, match=r"`quality`.*got 0"):
        stability_table(tiny, noise(0), ["norm"], layers=[6], quality=0)
    with pytest.raises(ValueError, match=r"`more_patches`.*got 0"):
        stability_table(tiny, noise(0), ["norm"], layers=[6], more_patches=0)
    with pytest.raises(ValueError, match="one shape"):
        compared("shift", np.zeros((2, 2)), np.zeros((2, 3)))


def test_a_detector_of_ones_own_does_what_its_spec_does(tiny):
    settings = {"layers": [6], "changes": ["flip"], "size": "96x64"}
    images = [noise(1), blocks(2)]
    by_spec = stability_table(tiny, images, ["relative-norm:threshold=1.1"], **settings)
    by_object = stability_table(tiny, images, DETECTORS.build("relative-norm:threshold=1.1"), **settings)
    pd.testing.assert_frame_equal(by_object.drop(columns="detector"), by_spec.drop(columns="detector"))

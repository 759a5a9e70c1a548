"""One forward pass serves all detectors; tables say what the scores say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from diagnostics import Recorder, load_backbone
from diagnostics.detectors import DETECTORS, ThresholdDetector
from diagnostics.detectors.adaptive import Adaptive
from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.received_attention import ReceivedAttention
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.edits import EDITS, channel_vector
from diagnostics.edits.plant import planted_places
from diagnostics.images import load_image
from diagnostics.options import RunOptions
from diagnostics.registry import UnknownName
from diagnostics.studies.agreement import agreement_table
from diagnostics.studies.comparison import compare
from diagnostics.studies.planting import planted_scores, planted_vector
from diagnostics.studies.scoring import detector_name, fit_detectors, named_detectors, score_images
from diagnostics.studies.thresholds import threshold_table
from diagnostics.studies.truth import best_f1, truth_table

SPECS = ["norm", "relative-norm", "som", "lof:neighbors=5", "norm-topk:count=3", "random"]


@pytest.fixture
def images():
    return [np.random.default_rng(n).integers(0, 256, (64, 96, 3), dtype=np.uint8) for n in range(3)]


def test_scores_are_those_of_each_detector_alone(tiny, images):
    scores = score_images(tiny, images, SPECS, layers=[3, -1], size="96x64", batch=2)
    assert scores["score"].dims == ("detector", "image", "layer", "row", "col")
    assert scores["score"].shape == (6, 3, 2, 4, 6)
    for number, photo in enumerate(images):
        image = load_image(photo, size="96x64", mean=tiny.mean, std=tiny.std)[None]
        recorder = Recorder("block_out", "query", "key")
        tiny.trunk(image, tap=recorder)
        for spec in SPECS[:-1]:
            for layer in (3, 12):
                detected = DETECTORS.build(spec)(recorder.recording.at(layer), tiny.layout(image))
                view = scores.isel(image=number).sel(detector=spec, layer=layer)
                assert np.allclose(view["score"], detected.scores.reshape(4, 6), rtol=1e-3, atol=1e-4), spec
                assert np.array_equal(view["marked"], detected.mask.reshape(4, 6)), spec


def test_one_forward_pass_serves_all(tiny, images, monkeypatch):
    passes = []
    trunk = type(tiny).trunk
    monkeypatch.setattr(type(tiny), "trunk", lambda self, *a, **k: passes.append(1) or trunk(self, *a, **k))
    score_images(tiny, images, SPECS, batch=1)
    assert len(passes) == 3


def test_detectors_that_learn_are_fitted_on_the_way():
    outlying = load_backbone("tiny:outliers=true")
    images = [np.full((32, 32, 3), 40 * n, np.uint8) for n in range(3)]
    scores = score_images(outlying, images, ["register-neuron", "singular-defect"], layers=[6])
    assert np.isfinite(scores["score"]).all()


def test_planted_places_come_with_the_scores(tiny, images):
    plant = EDITS["plant"](vector=channel_vector(48, (3,), 300.0), layers=(6,), count=2)
    scores = score_images(tiny, images, ["relative-norm"], layers=[5, 6], plant=plant, size="64", batch=2)
    assert scores["planted"].sum(("row", "col")).values.tolist() == [2, 2, 2]
    assert not scores["marked"].sel(layer=5).any()
    assert np.array_equal(scores["marked"].sel(layer=6, detector="relative-norm"), scores["planted"])
    again = score_images(tiny, images[1:], ["relative-norm"], layers=[6], plant=plant, size="64")
    assert np.array_equal(again["planted"][0], scores["planted"][0]), "places follow the image's number"


def test_planted_places_go_by_the_number_of_the_image_in_every_batch_and_size(tiny):
    """Five images of two sizes in batches of two: what a forward of each image alone changes, planted as its number."""
    shapes = [(64, 96), (96, 64), (64, 96), (64, 96), (96, 64)]
    photos = [np.random.default_rng(n).integers(0, 256, (*shape, 3), dtype=np.uint8) for n, shape in enumerate(shapes)]
    plant = EDITS["plant"](vector=channel_vector(48, (3,), 300.0), layers=(6,), count=3, seed=5)
    scores = score_images(tiny, photos, ["relative-norm"], layers=[6], plant=plant, size="native", batch=2)
    every = []
    for number, (photo, shape) in enumerate(zip(photos, shapes, strict=True)):
        image = load_image(photo, size="native", mean=tiny.mean, std=tiny.std)[None]
        change = tiny.trunk(image, stop=6, tap=replace(plant, images=(number,))) - tiny.trunk(image, stop=6)
        rows, cols = shape[0] // 16, shape[1] // 16
        changed = (change[0, 1:].abs().amax(dim=-1) > 100).reshape(rows, cols).numpy()
        by_number = planted_places(tiny.layout(image), 3, clustered=False, seed=(5, number)).reshape(rows, cols)
        assert changed.sum() == 3
        assert np.array_equal(changed, by_number)
        assert np.array_equal(scores["planted"][number, :rows, :cols], changed)
        assert scores["planted"][number].sum() == 3
        every.append(changed.reshape(-1).tobytes())
    assert len(set(every)) == 5, "no two images have the same places"


def test_images_of_several_shapes_have_their_own_patches(tiny):
    images = [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 64, 3), np.uint8)]
    scores = score_images(tiny, images, ["norm"], layers=[1], size="native")
    assert scores["inside"].sum(("row", "col")).values.tolist() == [24, 24]
    assert np.array_equal(scores["score"].notnull().isel(detector=0, layer=0), scores["inside"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"detectors": ["lov"]}, "Did you mean `lof`"),
        ({"detectors": []}, "at least one"),
        ({"detectors": ["lof:neighbors=24"]}, "24"),
        ({"layers": [13]}, "0…12"),
        ({"layers": [0]}, "1…12"),
    ],
)
def test_what_cannot_be_compared_is_refused(tiny, images, change, message):
    settings = {"detectors": ["norm"], "layers": [1], **change}
    with pytest.raises((ValueError, UnknownName), match=message):
        score_images(tiny, images, settings["detectors"], layers=settings["layers"], size="96x64")


def test_a_detector_that_needs_a_class_token_is_refused_without_one(images):
    with pytest.raises(ValueError, match=r"som.*class token"):
        score_images(load_backbone("tiny:class_token=false"), images, ["som"], layers=[1])


def made(score: np.ndarray, marked: np.ndarray, names: list[str]) -> xr.Dataset:
    """A data set of scores (detector, image, layer, row, col) without a network."""
    dims = ("detector", "image", "layer", "row", "col")
    return xr.Dataset(
        {
            "score": (dims, score.astype(np.float32)),
            "marked": (dims, marked),
            "inside": (("image", "row", "col"), np.ones((score.shape[1], *score.shape[3:]), bool)),
        },
        coords={
            "detector": names,
            "image": [str(n) for n in range(score.shape[1])],
            "layer": list(range(1, score.shape[2] + 1)),
            "threshold": ("detector", [0.5] * len(names)),
        },
    )


def test_thresholds_are_counted_by_hand():
    score = np.array([[0.1, 0.2, 0.9, 0.8], [0.1, 0.2, 0.3, 0.4]]).reshape(1, 2, 1, 2, 2)
    table = threshold_table(made(score, score > 0.5, ["a"]), thresholds=3)
    default = table[table["own"]].iloc[0]
    assert (default["tokens"], default["images"], default["first_layer"]) == (1.0, 0.5, 1.0)
    lowest = table[~table["own"]].sort_values("threshold").iloc[0]
    assert lowest["threshold"] == pytest.approx(0.1)
    assert lowest["tokens"] == 3.0


def test_the_share_of_marked_patches_is_of_each_image():
    score = np.array([[0.1, 0.2, 0.9, 0.8], [0.1, 0.7, 0.3, 0.4]]).reshape(1, 2, 1, 2, 2)
    scores = made(score, score > 0.5, ["a"])
    inside = np.array([[[True, True], [True, True]], [[True, True], [False, False]]])
    scores = scores.assign(inside=(("image", "row", "col"), inside))
    table = threshold_table(scores, thresholds=[0.15])
    assert table["share"].tolist() == [(3 / 4 + 3 / 2) / 2, (2 / 4 + 1 / 2) / 2]


def test_a_detector_that_never_fires_has_no_first_layer():
    score = np.zeros((1, 2, 3, 2, 2))
    table = threshold_table(made(score, score > 0.5, ["a"]))
    assert table.loc[table["own"], "first_layer"].isna().all()


def test_agreement_by_hand():
    first = np.array([1.0, 2, 3, 4]).reshape(1, 1, 2, 2)
    score = np.stack([first, -first, first])
    marked = np.stack([first > 2, first > 3, np.zeros_like(first, bool)])
    table = agreement_table(made(score, marked, ["a", "b", "c"])).set_index(["detector", "other"])
    assert table.loc[("a", "b"), "jaccard"] == 0.5
    assert table.loc[("a", "b"), "spearman"] == pytest.approx(-1)
    assert table.loc[("a", "c"), "spearman"] == pytest.approx(1)
    assert table.loc[("b", "c"), "jaccard"] == 0
    nobody = agreement_table(made(score, np.zeros_like(marked), ["a", "b", "c"]))
    assert nobody["jaccard"].isna().all()
    alone = agreement_table(made(score[:1], marked[:1], ["a"]))
    assert alone.empty
    assert list(alone.columns) == list(nobody.columns)


def test_jaccard_is_that_of_the_tokens_of_all_images_together():
    """Images with very different numbers of marks, by Python's own sets of (image, row, col)."""
    first = {(0, r, c) for r in range(3) for c in range(4)} | {(1, 0, 0), (2, 1, 2)}
    second = {(0, r, c) for r in range(3) for c in range(3)} | {(1, 2, 3), (2, 0, 1), (2, 1, 2)}
    marked = np.zeros((2, 3, 1, 3, 4), bool)
    for detector, places in enumerate((first, second)):
        for image, row, col in places:
            marked[detector, image, 0, row, col] = True
    score = np.random.default_rng(0).random(marked.shape)
    table = agreement_table(made(score, marked, ["a", "b"]))
    assert table["jaccard"].item() == pytest.approx(len(first & second) / len(first | second))
    of_images = [
        len({p for p in first & second if p[0] == n}) / len({p for p in first | second if p[0] == n}) for n in range(3)
    ]
    assert abs(np.mean(of_images) - table["jaccard"].item()) > 0.1


def test_patches_outside_the_image_count_in_no_rate():
    """Marks and truth outside the second, smaller image and at natural outliers; rates by a plain loop inside."""
    generator = np.random.default_rng(3)
    score, truth = generator.random((1, 2, 1, 3, 4)), generator.random((2, 3, 4)) < 0.4
    inside = np.ones((2, 3, 4), bool)
    inside[0, 0, 1] = inside[1, 2] = inside[1, :, 3] = False
    truth[1, 2, 0], score[0, 1, 0, 2, 0] = True, 0.99
    scores = made(score, score > 0.5, ["a"])
    scores["inside"] = (("image", "row", "col"), inside)
    planted = xr.DataArray(truth, dims=("image", "row", "col"))
    hits = marks = outliers = 0
    for place in np.ndindex(2, 3, 4):
        if inside[place]:
            marked = score[0, place[0], 0, place[1], place[2]] > 0.5
            hits, marks, outliers = hits + (marked and truth[place]), marks + marked, outliers + truth[place]
    table = threshold_table(scores, thresholds=[0.5], truth=planted)
    for row in table.itertuples():
        assert row.precision == pytest.approx(hits / marks)
        assert row.recall == pytest.approx(hits / outliers)
        assert row.f1 == pytest.approx(2 * hits / (marks + outliers))
    row = truth_table(scores, planted).iloc[0]
    assert (row["own_precision"], row["own_recall"]) == pytest.approx((hits / marks, hits / outliers))
    assert row["outliers"] == outliers
    assert row["auc"] == pytest.approx(roc_auc_score(truth[inside], score[0, :, 0][inside].astype(np.float32)))
    everything = threshold_table(made(score, score > 0.5, ["a"]), thresholds=[0.5], truth=planted)
    assert (everything["precision"] - table["precision"]).abs().min() > 0.01


def test_truth_is_judged_as_scikit_learn_does():
    generator = np.random.default_rng(0)
    real = generator.random((3, 4, 5)) < 0.2
    score = (real * 0.5 + generator.random((3, 4, 5))).reshape(1, 3, 1, 4, 5)
    scores = made(score, score > 0.9, ["a"])
    row = truth_table(scores, xr.DataArray(real, dims=("image", "row", "col"))).iloc[0]
    flat = score.reshape(-1).astype(np.float32)
    assert row["auc"] == pytest.approx(roc_auc_score(real.reshape(-1), flat))
    assert row["average_precision"] == pytest.approx(average_precision_score(real.reshape(-1), flat))
    reached = f1_score(real.reshape(-1), flat > row["best_threshold"])
    assert reached == pytest.approx(row["best_f1"])
    assert all(f1_score(real.reshape(-1), flat > t) <= reached + 1e-9 for t in flat)
    marked = flat > 0.9
    assert row["own_recall"] == pytest.approx(marked[real.reshape(-1)].mean())
    assert row["own_precision"] == pytest.approx(real.reshape(-1)[marked].mean())


def test_without_outliers_there_is_nothing_to_judge():
    score = np.zeros((1, 1, 1, 2, 2))
    table = truth_table(
        made(score, score > 1, ["a"]), xr.DataArray(np.zeros((1, 2, 2), bool), dims=("image", "row", "col"))
    )
    assert table.iloc[0]["outliers"] == 0
    assert np.isnan(table.iloc[0]["auc"])
    assert isinstance(table, pd.DataFrame)


def test_the_best_threshold_separates_perfectly_where_that_is_possible():
    f1, threshold = best_f1(np.array([False, False, True]), np.array([1.0, 2.0, 4.0]))
    assert (f1, threshold) == (1.0, 3.0)


def test_lof_goes_blind_once_a_cluster_exceeds_its_neighbors():
    """Known of density ratios: a cluster larger than the neighborhood looks dense from inside."""
    outlying = load_backbone("tiny:outliers=true")
    generator = torch.Generator().manual_seed(0)
    image = [torch.randint(0, 256, (224, 224, 3), generator=generator, dtype=torch.uint8).numpy()]
    shares = {}
    for count in (10, 35):
        plant = EDITS["plant"](vector=channel_vector(64, (3,), 500.0), layers=(3,), count=count, clustered=True)
        scores = score_images(outlying, image, ["lof:neighbors=30", "relative-norm"], layers=[3], plant=plant)
        table = truth_table(scores, scores["planted"]).set_index("detector")
        shares[count] = table.loc["lof:neighbors=30", "auc"], table.loc["relative-norm", "auc"]
    assert shares[10][0] > 0.95
    assert shares[35][0] < 0.7
    assert shares[10][1] == shares[35][1] == 1


def test_natural_outliers_are_not_judged_beside_planted_ones(half_plain):
    """Natural ones: norms above three times the median in a forward of each image alone, at any of the layers."""
    backbone = load_backbone("tiny:outliers=true")
    (plant, scores), (_, more) = planted_scores(
        backbone, half_plain, ["relative-norm"], [2, 5], layers=[6, 8], size="native", batch=2
    )
    left_out = 0
    for number, photo in enumerate(half_plain):
        image = load_image(photo, size="native", mean=backbone.mean, std=backbone.std)[None]
        grid = tuple(backbone.layout(image).grid)
        natural = np.zeros(grid, bool)
        for layer in (6, 8):
            norms = backbone.trunk(image, stop=layer)[0, 1:].norm(dim=-1).numpy().reshape(grid)
            natural |= norms > 3 * np.median(norms)
        for planted in (scores, more):
            patches = planted.isel(image=number, row=slice(grid[0]), col=slice(grid[1]))
            assert np.array_equal(patches["inside"], ~natural | patches["planted"].values)
            left_out += int((~patches["inside"]).sum())
    assert left_out > 0
    assert plant.count == 2
    assert truth_table(more, more["planted"])["own_precision"].tolist() == [1, 1]


def test_compare_gives_one_row_for_each_detector_layer_and_threshold(tiny, images):
    table = compare(tiny, images, ["norm", "relative-norm"], layers=[4, 8], thresholds=5, planted=[2], size="64")
    assert set(table["planted"]) == {0, 2}
    natural = table[table["planted"] == 0]
    assert natural.groupby(["detector", "layer"]).size().tolist() == [6, 6, 6, 6]
    planted = table[(table["planted"] == 2) & table["own"] & (table["detector"] == "relative-norm")]
    assert planted["recall"].tolist() == [1.0, 1.0]
    assert planted["precision"].iloc[0] == 1.0
    assert natural["recall"].isna().all()


def test_labels_tell_where_the_tokens_of_each_threshold_sit(tiny, images, monkeypatch):
    """Counted by hand from the scores: background is the left half of every image."""
    labels = np.ones((64, 96), int)
    labels[:, :48] = 0
    labels[:16, 80:] = 255
    maps = [labels] * 3
    passes = []
    trunk = type(tiny).trunk
    monkeypatch.setattr(type(tiny), "trunk", lambda self, *a, **k: passes.append(1) or trunk(self, *a, **k))
    settings = {"layers": [3, 6], "size": "96x64", "batch": 1}
    table = compare(tiny, images, ["norm"], thresholds=4, labels=maps, **settings)
    assert len(passes) == 3, "labels need no forward pass of their own"
    scores = score_images(tiny, images, ["norm"], **settings)
    assert set(table["background_all"]) == {12 / 23}
    for row in table[~table["own"]].itertuples():
        marked = scores["score"].sel(detector="norm", layer=row.layer).values > row.threshold
        left, right = marked[:, :, :3].sum(), marked[:, :, 3:].sum() - marked[:, 0, 5].sum()
        assert row.labeled == left + right
        assert row.background == pytest.approx(left / (left + right) if left + right else np.nan, nan_ok=True)
    assert {"contrast", "contrast_all", "border", "border_all"} <= set(table)
    assert not {"labeled", "contrast"} & set(compare(tiny, images, ["norm"], **settings))


def test_the_arguments_come_in_the_order_that_is_reported(tiny, images):
    table = compare(tiny, images, ["norm"], [3], [1.0, 2.0], None, [2])
    assert table["layer"].unique().tolist() == [3]
    assert table.loc[~table["own"], "threshold"].unique().tolist() == [1.0, 2.0]
    assert set(table["planted"]) == {0, 2}


def test_compare_takes_its_options_as_a_value_and_keywords_go_over_them(tiny, images):
    options = RunOptions(layers=[3, 6], size="64x32", batch=2)
    by_value = compare(tiny, images, ["norm"], thresholds=3, options=options)
    by_keywords = compare(tiny, images, ["norm"], [3, 6], 3, size="64x32", batch=2)
    pd.testing.assert_frame_equal(by_value, by_keywords)
    assert set(compare(tiny, images, ["norm"], [5], 3, options=options)["layer"]) == {5}
    with pytest.raises(ValueError, match=r"`compare` can't heed `strict`"):
        compare(tiny, images, ["norm"], options=RunOptions(strict=True))
    with pytest.raises(TypeError, match=r"`compare` has no option `sise`\. Did you mean `size`\?"):
        compare(tiny, images, ["norm"], sise="64")


def test_thresholds_may_be_given_for_all_detectors_or_for_each():
    score = np.array([0.1, 0.2, 0.3, 0.4]).reshape(1, 1, 1, 2, 2).repeat(2, axis=0)
    scores = made(score, score > 0.5, ["a", "b"])
    both = threshold_table(scores, thresholds=[0.35, 0.15])
    assert both.loc[~both["own"], ["detector", "threshold", "tokens"]].to_numpy().tolist() == [
        ["a", 0.15, 3.0], ["a", 0.35, 1.0], ["b", 0.15, 3.0], ["b", 0.35, 1.0],
    ]  # fmt: skip
    of_b = threshold_table(scores, thresholds={"b": [0.25]})
    assert of_b.loc[~of_b["own"], ["detector", "tokens"]].to_numpy().tolist() == [["b", 2.0]]
    assert of_b["own"].sum() == 2


@pytest.mark.parametrize("bad", [0, -3, True, 0.5, "many", [0.5, "high"], [np.nan], [np.inf], [None], [True]])
def test_thresholds_that_are_no_numbers_are_refused(bad):
    score = np.zeros((1, 1, 1, 2, 2))
    with pytest.raises(ValueError, match="`thresholds` should be how many to sweep"):
        threshold_table(made(score, score > 1, ["a"]), thresholds=bad)


def test_detectors_are_fitted_once_and_taken_as_they_are(monkeypatch):
    backbone = load_backbone("tiny:outliers=true")
    images = [np.full((64, 64, 3), 40 * number, np.uint8) for number in range(3)]
    specs = ["register-neuron", "norm", "adaptive:detector=register-neuron"]
    learned = []
    fit = RegisterNeuron.fitted_to
    monkeypatch.setattr(RegisterNeuron, "fitted_to", lambda self, *a: learned.append(1) or fit(self, *a))
    ready = fit_detectors(backbone, images, specs, layers=[6, 7])
    assert len(learned) == 2
    assert set(ready) == {(spec, layer) for spec in specs for layer in (6, 7)}
    assert ready["register-neuron", 6].neurons != ready["register-neuron", 7].neurons
    fitted_before = score_images(backbone, images, specs, layers=[6, 7], fitted=ready)
    assert len(learned) == 2
    alone = score_images(backbone, images, specs, layers=[6, 7])
    assert np.array_equal(fitted_before["score"], alone["score"])
    # What is given counts, even where it is another detector than learning would give.
    swapped = {("register-neuron", 6): replace(ready["register-neuron", 6], threshold=0.0)}
    other = score_images(backbone, images, specs[:1], layers=[6], fitted=swapped)
    assert other["marked"].sum() > fitted_before["marked"].sel(detector="register-neuron", layer=6).sum()


def test_images_that_cannot_be_read_are_left_out_with_a_reason(tiny, tmp_path):
    for number in range(2):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    (tmp_path / "bad.png").write_bytes(b"no image")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    scores = score_images(tiny, tmp_path, ["norm"], layers=[1])
    assert list(scores["image"].values) == ["0.png", "1.png"]
    assert sorted(scores.attrs["left_out"]) == ["bad.png", "cut.png"]
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").unlink()
    with pytest.raises(ValueError, match="none of the 2 images"):
        score_images(tiny, tmp_path, ["norm"], layers=[1])


def test_what_looks_before_the_planted_outliers_has_no_number_there(tiny, images):
    specs = ["som", "adaptive:detector=som", "relative-norm", "lof:neighbors=3,tap=block_in"]
    ((plant, scores),) = planted_scores(tiny, images, specs, [2], layers=[3, 6], size="64")
    assert plant.layers == (3,)
    blind = [specs[0], specs[1], specs[3]]
    assert scores["score"].sel(detector=blind, layer=3).isnull().all()
    assert not scores["marked"].sel(detector=blind, layer=3).any()
    assert scores["score"].sel(layer=6).notnull().all()
    assert scores["score"].sel(detector="relative-norm").notnull().all()
    table = truth_table(scores, scores["planted"]).set_index(["detector", "layer"])
    judged = table.loc[[(spec, 3) for spec in blind], ["auc", "best_f1", "own_recall", "own_precision"]]
    assert judged.isna().all(axis=None)
    assert table.loc[("relative-norm", 3), "auc"] == 1


def test_what_is_planted_is_the_model_s_own_outlier_where_it_has_some():
    outlying = load_backbone("tiny:outliers=true")
    images = [np.full((32, 32, 3), (123, 117, 104), np.uint8)]  # the mean color: plain patches become outliers
    vector = np.abs(planted_vector(outlying, images, 8))
    assert set(vector.argsort()[-2:]) == {17, 44}
    made_up = np.array(planted_vector(outlying, images, 2))
    assert (made_up != 0).sum() == 2


def test_thresholds_and_tokens_that_are_no_numbers_are_refused(tiny, images):
    with pytest.raises(ValueError, match="threshold"):
        score_images(tiny, images, ["relative-norm:threshold=nan"], layers=[1])
    with pytest.raises(ValueError, match="got `high`"):
        score_images(tiny, images, ["relative-norm:threshold=high"], layers=[1])
    broken = load_backbone("tiny")
    with torch.no_grad():
        broken.model.visual.conv1.weight.mul_(1e38)
    with pytest.raises(ValueError, match=r"image-0001.*layer 1"):
        score_images(broken, images, ["norm"], layers=[1])


@dataclass(frozen=True, kw_only=True)
class RowSums(ThresholdDetector):
    """A detector that no registry knows: the sum over a patch's channels."""

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = "not at all"
    threshold: float = 1.0

    def score(self, recording, layout):
        return layout.patches(recording["block_out"]).float().sum(dim=-1)


def test_a_detector_of_one_s_own_stands_beside_specs(tiny, images):
    table = compare(tiny, images, [RowSums(), "relative-norm"], [3], thresholds=[2.0], size="96x64")
    assert list(table["detector"].unique()) == ["RowSums", "relative-norm"]
    default = table[(table["detector"] == "RowSums") & table["own"]]
    recorder = Recorder("block_out", layers=[3])
    counts = []
    for photo in images:
        image = load_image(photo, size="96x64", mean=tiny.mean, std=tiny.std)[None]
        tiny.trunk(image, tap=recorder)
        patches = tiny.layout(image).patches(recorder["block_out"])
        counts.append(int((patches.sum(-1) > 1.0).sum()))
    assert default["tokens"].item() == pytest.approx(np.mean(counts))
    assert default["threshold"].item() == 1.0


def test_a_part_and_its_spec_give_the_same_table(tiny, images):
    spec, part = "lof:neighbors=5", LocalOutlierFactor(neighbors=5)
    tables = [
        compare(tiny, images, given_as, [3], thresholds=4, planted=[2], size="96x64") for given_as in (spec, part)
    ]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (RowSums(), "RowSums"),
        (RowSums(threshold=0.5), "RowSums:threshold=0.5"),
        (LocalOutlierFactor(neighbors=5), "lof:neighbors=5"),
        (Adaptive(detector="lof(neighbors=5)"), "adaptive:detector=lof(neighbors=5)"),
    ],
)
def test_a_part_goes_by_the_spec_that_would_make_it(part, name):
    assert detector_name(part) == name
    if name.partition(":")[0] in DETECTORS:
        assert DETECTORS.build(name) == part


def test_a_part_that_only_sees_attention_is_blind_where_outliers_are_planted(tiny, images):
    _, scores = next(planted_scores(tiny, images, [ReceivedAttention(), RowSums()], [2], layers=[3, 4], size="96x64"))
    assert np.isnan(scores["score"].sel(detector="received-attention", layer=3)).all()
    assert not np.isnan(scores["score"].sel(detector="RowSums", layer=3)).any()


def test_two_detectors_of_one_name_are_refused_and_the_same_one_twice_is_one(tiny, images):
    other = type("RowSums", (RowSums,), {})
    with pytest.raises(ValueError, match="two different detectors are called `RowSums`"):
        score_images(tiny, images, [RowSums(), other()])
    assert list(named_detectors(["lof", LocalOutlierFactor(), "lof"])) == ["lof"]


def test_a_class_in_place_of_a_detector_is_refused(tiny, images):
    with pytest.raises(TypeError, match="specs or detectors"):
        score_images(tiny, images, [RowSums])

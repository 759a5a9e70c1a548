import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diagnostics.backbones import load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.images import normalize, to_tensor
from diagnostics.images.label_maps import patch_labels
from diagnostics.measures.auc import pair_auc
from diagnostics.measures.entropy import normalized_entropy
from diagnostics.purifiers import PURIFIERS
from diagnostics.studies.purification import mean_interval, purification_table
from diagnostics.studies.scoring import fit_detectors
from diagnostics.taps import Recorder, Recording

# Some images of the tiny model have patches above it at layer 5, some have none.
DETECTOR = "relative-norm:threshold=1.1"
PURIFICATION = ("neighbor-mean:isolated=grow", "image-mean", "zero", "shuffle", "keep")
LAYER = 5


@pytest.fixture(scope="module")
def photos():
    """Six images of 64 rows and 96 columns, in a plain and a noisy half: a 4 x 6 grid of the tiny models."""
    generator = np.random.default_rng(0)
    plain = np.broadcast_to(generator.integers(0, 255, (6, 1, 1, 3)), (6, 64, 96, 3)).copy()
    plain[:, :, 48:] = generator.integers(0, 255, (6, 64, 48, 3))
    return list(plain.astype(np.uint8))


@pytest.fixture(scope="module")
def maps():
    """Label maps of the images: two classes side by side, each cut elsewhere, a row of patches without a label."""
    halves = np.zeros((6, 64, 96), np.int64)
    for number, (cut, row) in enumerate([(32, 0), (48, 16), (16, 32), (64, 48), (80, 0), (48, 32)]):
        halves[number, :, cut:] = 7
        halves[number, row : row + 16] = 255
    return list(halves)


@pytest.fixture(scope="module")
def table(tiny, photos, maps):
    return table_of(tiny, photos, labels=maps)


def table_of(backbone, photos, **settings):
    wanted = {"detector": DETECTOR, "purifiers": PURIFICATION, "layers": [LAYER, -1], "size": "native", "bootstrap": 50}
    return purification_table(backbone, photos, **(wanted | settings))


def row_of(table, layer, purifier, mode):
    return table[(table["layer"] == layer) & (table["purifier"] == purifier) & (table["mode"] == mode)].iloc[0]


def tensors(backbone, photos):
    return torch.stack([normalize(to_tensor(Image.fromarray(photo)), backbone.mean, backbone.std) for photo in photos])


def labels_of(maps):
    return patch_labels(torch.from_numpy(np.stack(maps)), (16, 16), ignore=(255,))


def passed(backbone, images, spec, layer=LAYER):
    """Layer and last layer of a forward from the image, with the edit at the layer; and its mask."""
    edit = PurifyAt(detector=DETECTORS.build(DETECTOR), purifier=PURIFIERS.build(spec), layers=(layer,))
    recorder = Recorder("block_out", layers=[layer])
    last = backbone.trunk(images, tap=edit)
    mask = edit.masks[layer]
    backbone.trunk(images, tap=recorder, stop=layer)
    tokens = recorder["block_out"]
    layout = backbone.layout(images)
    patches = PURIFIERS.build(spec)(layout.patches(tokens), mask, layout)
    return torch.cat([tokens[:, : layout.prefix], patches], dim=1), last, mask


def test_there_is_a_row_for_each_layer_purifier_and_mode(table):
    places = list(zip(table["layer"], table["purifier"], table["mode"], strict=True))
    assert places == [
        (layer, p, mode) for layer in (5, 12) for p in PURIFICATION for mode in ("in place", "propagated")
    ]
    assert (table["images"] == 6).all()
    assert (table["compared"] == 6).all()


def test_some_images_have_marked_tokens_and_some_have_none(tiny, photos, table):
    _, _, mask = passed(tiny, tensors(tiny, photos), "keep")
    assert 0 < mask.any(dim=1).sum() < 6
    assert row_of(table, LAYER, "zero", "in place")["marked"] == pytest.approx(mask.sum(1).float().mean().item())


def test_keeping_the_tokens_changes_nothing_at_all(table):
    for layer in (LAYER, 12):
        kept = row_of(table, layer, "keep", "propagated")
        for name in ("delta_auc", "low", "high", "delta_auc_last", "low_last", "high_last"):
            assert kept[name] == 0
        assert kept["class_cosine"] == 1
        for name in ("auc", "norm", "norm_ratio", "entropy"):
            assert kept[f"{name}_before"] == kept[f"{name}_after"]


@pytest.mark.parametrize("spec", PURIFICATION[:-1])
def test_in_place_numbers_are_those_of_the_purified_layer(tiny, photos, maps, table, spec):
    images = tensors(tiny, photos)
    purified, _, _ = passed(tiny, images, spec)
    stock = tiny.trunk(images, stop=LAYER)
    row = row_of(table, LAYER, spec, "in place")
    before, after = (pair_auc(tiny.layout(images).patches(x), labels_of(maps)).double() for x in (stock, purified))
    assert row["auc_before"] == pytest.approx(before.mean().item(), abs=1e-5)
    assert row["auc_after"] == pytest.approx(after.mean().item(), abs=1e-5)
    assert row["delta_auc"] == pytest.approx((after - before).mean().item(), abs=1e-5)
    assert row["delta_auc"] != 0
    norms = purified[:, 1:].norm(dim=-1).numpy()
    assert row["norm_after"] == pytest.approx(norms.mean(), rel=1e-5)
    assert row["norm_ratio_after"] == pytest.approx((norms.max(1) / np.median(norms, axis=1)).mean(), rel=1e-5)
    assert row["entropy_after"] == pytest.approx(normalized_entropy(purified[:, 1:]).mean().item(), rel=1e-5)


@pytest.mark.parametrize("spec", PURIFICATION[:-1])
def test_propagated_numbers_are_those_of_a_forward_with_the_edit_from_the_image(tiny, photos, maps, table, spec):
    images = tensors(tiny, photos)
    _, last, _ = passed(tiny, images, spec)
    stock = tiny.trunk(images)
    row = row_of(table, LAYER, spec, "propagated")
    before, after = (pair_auc(tiny.layout(images).patches(x), labels_of(maps)).double() for x in (stock, last))
    assert row["delta_auc_last"] == pytest.approx((after - before).mean().item(), abs=1e-5)
    assert row["delta_auc_last"] != 0
    cosine = torch.cosine_similarity(stock[:, 0], last[:, 0], dim=-1).mean().item()
    assert row["class_cosine"] == pytest.approx(cosine, abs=1e-5)
    assert cosine < 0.9999


def test_at_the_last_layer_there_is_nothing_behind_to_see_the_change(table):
    row = row_of(table, 12, "zero", "propagated")
    assert row["delta_auc_last"] == row["delta_auc"] != 0
    assert (row["low_last"], row["high_last"]) == (row["low"], row["high"])
    assert row["class_cosine"] == pytest.approx(1, abs=1e-12)


def test_what_later_blocks_make_of_it_is_reported_only_where_they_saw_it(table):
    later = ["delta_auc_last", "low_last", "high_last", "class_cosine"]
    assert table[table["mode"] == "in place"][later].isna().all(axis=None)
    assert table[table["mode"] == "propagated"][later].notna().all(axis=None)


def test_the_interval_holds_the_change_and_is_the_same_for_the_same_seed(tiny, photos, maps, table):
    assert (table["low"] <= table["delta_auc"]).all()
    assert (table["delta_auc"] <= table["high"]).all()
    pd.testing.assert_frame_equal(table_of(tiny, photos, labels=maps), table)
    other = table_of(tiny, photos, labels=maps, seed=1)
    assert not other["low"].equals(table["low"])
    pd.testing.assert_frame_equal(other.drop(columns=INTERVALS), table.drop(columns=INTERVALS))


INTERVALS = ["low", "high", "low_last", "high_last"]


def test_the_batch_does_not_matter(tiny, photos, maps, table):
    one_by_one = table_of(tiny, photos, labels=maps, batch=1)
    pd.testing.assert_frame_equal(one_by_one, table, rtol=1e-4, atol=1e-5)


def test_images_of_two_sizes_are_taken_together(tiny, photos, maps):
    tall = [np.swapaxes(array, 0, 1).copy() for array in (photos[1], maps[1])]
    mixed = table_of(tiny, [photos[0], tall[0], photos[2]], labels=[maps[0], tall[1], maps[2]])
    alone = [
        table_of(tiny, [photo], labels=[label])
        for photo, label in zip([photos[0], tall[0], photos[2]], [maps[0], tall[1], maps[2]], strict=True)
    ]
    for name in ("marked", "auc_before", "delta_auc", "norm_after", "entropy_after"):
        assert np.allclose(mixed[name], np.mean([image_table[name] for image_table in alone], axis=0), atol=1e-5)
    # The order of the images is that of the list, however they were batched: so are the samples of the interval.
    in_ones = table_of(tiny, [photos[0], tall[0], photos[2]], labels=[maps[0], tall[1], maps[2]], batch=1)
    assert np.allclose(mixed[INTERVALS], in_ones[INTERVALS], atol=1e-5, equal_nan=True)


def test_without_labels_all_but_the_auc_is_there(tiny, photos, table):
    bare = table_of(tiny, photos)
    lost = ["auc_before", "auc_after", "delta_auc", "delta_auc_last", *INTERVALS]
    assert bare[lost].isna().all(axis=None)
    assert (bare["compared"] == 0).all()
    rest = table.columns.difference([*lost, "compared"])
    pd.testing.assert_frame_equal(bare[rest], table[rest])


def test_a_image_of_one_class_is_left_out_of_the_auc_alone(tiny, photos, maps):
    plain = np.zeros_like(maps[0])
    mixed = table_of(tiny, photos[:2], labels=[maps[0], plain])
    alone = table_of(tiny, photos[:1], labels=maps[:1])
    assert (mixed["compared"] == 1).all()
    assert (mixed["images"] == 2).all()
    assert np.allclose(mixed["delta_auc"], alone["delta_auc"], atol=1e-6)


def test_a_label_map_that_does_not_fit_is_left_out_with_a_warning(tiny, photos, maps):
    with pytest.warns(UserWarning, match=r"left out \(1\)"):
        purified = table_of(tiny, photos[:2], labels=[maps[0], maps[1][:10]])
    assert (purified["compared"] == 1).all()
    assert (purified["images"] == 2).all()


def test_a_model_without_class_token_is_judged_by_its_classifier(photos, maps):
    backbone = load_backbone("tiny:class_token=false")
    images = tensors(backbone, photos)
    spec = "shuffle"
    row = row_of(table_of(backbone, photos, labels=maps), LAYER, spec, "propagated")
    _, last, mask = passed(backbone, images, spec)
    assert mask.any()
    assert np.isnan(row["class_cosine"])
    stays = backbone(images).argmax(1) == backbone.pool(last).argmax(1)
    assert 0 < stays.float().mean() < 1
    assert row["head_agreement"] == pytest.approx(stays.float().mean().item())


def test_a_model_with_registers_keeps_its_prefix(photos, maps):
    backbone = load_backbone("tiny:registers=4")
    images = tensors(backbone, photos)
    row = row_of(table_of(backbone, photos, labels=maps), LAYER, "zero", "propagated")
    _, last, mask = passed(backbone, images, "zero")
    assert mask.any()
    cosine = torch.cosine_similarity(backbone.trunk(images)[:, 0], last[:, 0], dim=-1).mean().item()
    assert row["class_cosine"] == pytest.approx(cosine, abs=1e-5)


def test_words_judge_images_as_the_two_towers_do(tiny, photos):
    classes, truth = ["horse", "tree", "car"], [1, 1, 0, 2, 1, 2]
    purified = table_of(tiny, photos, classes=classes, truth=truth)
    images = tensors(tiny, photos)
    texts = tiny.encode_text([f"a photo of a {name}" for name in classes])
    texts = texts / texts.norm(dim=-1, keepdim=True)
    row = row_of(purified, LAYER, "shuffle", "propagated")
    shares = []
    for name, last in (("accuracy_before", tiny.trunk(images)), ("accuracy_after", passed(tiny, images, "shuffle")[1])):
        right = (tiny.pool(last) @ texts.T).argmax(1) == torch.tensor(truth)
        shares.append(right.float().mean().item())
        assert row[name] == pytest.approx(shares[-1])
    assert 0 < shares[1] < shares[0]
    assert np.isnan(row_of(purified, LAYER, "shuffle", "in place")["accuracy_after"])


def test_rows_of_the_classifier_judge_images_where_there_are_no_words(photos):
    backbone = load_backbone("tiny:class_token=false")
    rows = len(backbone.class_head())
    classes = {"first": [0, 2], "second": [1, 3, rows - 1]}
    names = list(classes)
    truth = {f"image-{number + 1:04d}": names[number % 2] for number in range(6)}
    row = row_of(table_of(backbone, photos, classes=classes, truth=truth), LAYER, "shuffle", "propagated")
    images = tensors(backbone, photos)
    _, last, _ = passed(backbone, images, "shuffle")
    for name, tokens in (("accuracy_before", backbone.trunk(images)), ("accuracy_after", last)):
        outputs = backbone.pool(tokens)
        right = 0
        for number in range(6):
            best = max(classes, key=lambda word, n=number: max(float(outputs[n, row]) for row in classes[word]))
            right += best == names[number % 2]
        assert row[name] == pytest.approx(right / 6)
    with pytest.raises(ValueError, match=f"class `first` should name rows of the classifier, 0…{rows - 1}"):
        table_of(backbone, photos, classes={"first": [rows]}, truth=[0] * 6)


def test_planted_outliers_of_tiny_outliers_are_purified(maps):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    plain = np.full((64, 64, 3), 90, np.uint8)
    purified = table_of(
        load_backbone("tiny:outliers=true"), [noise, plain], size="224", layers=[6], detector="relative-norm"
    )
    row = row_of(purified, 6, PURIFICATION[0], "propagated")
    assert row["marked"] > 0
    assert row["norm_ratio_before"] > 5
    assert row["norm_ratio_after"] < 3
    assert row["class_cosine"] < 1


def test_a_detector_that_learns_is_fitted_for_its_layer(tiny, photos):
    learner = "register-neuron:ratio=1.05,threshold=0.3"
    purified = table_of(tiny, photos, detector=learner, layers=[LAYER])
    expected = DETECTORS.build(learner).fitted(tiny, tensors(tiny, photos), LAYER)
    recorder = Recorder(*expected.needs, layers=[LAYER])
    tiny.trunk(tensors(tiny, photos), tap=recorder)
    mask = expected(Recording(tiny.depth, recorder.recording.values), tiny.layout((64, 96))).mask
    assert mask.any()
    assert purified["marked"].iloc[0] == pytest.approx(mask.sum(1).float().mean().item())


def test_a_detector_that_has_learned_does_not_learn_again(tiny, photos, monkeypatch):
    learner = "register-neuron:ratio=1.05,threshold=0.3"
    ready = fit_detectors(tiny, photos, [learner], layers=[LAYER], size="native")
    expected = table_of(tiny, photos, detector=learner, layers=[LAYER])
    monkeypatch.setattr(RegisterNeuron, "fitted_to", None)
    pd.testing.assert_frame_equal(table_of(tiny, photos, detector=learner, layers=[LAYER], fitted=ready), expected)


@pytest.mark.parametrize(("layer", "values"), [(1, "scores of `norm`"), (12, "tokens of `tiny`")])
def test_nan_or_infinite_values_raise_with_image_and_layer(photos, layer, values):
    broken = load_backbone("tiny")
    with torch.no_grad():
        broken.model.visual.transformer.resblocks[layer - 1].mlp.c_proj.bias[0] = torch.nan
    settings = {"purifiers": ["keep"], "layers": [1], "size": "native"}
    with pytest.raises(ValueError, match=f"{values} are NaN or infinite in `image-0001` at layer {layer}"):
        purification_table(broken, photos, detector="norm", **settings)


def test_the_interval_of_a_mean_is_near_that_of_the_normal_distribution():
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    low, high = mean_interval(values, draws=2000)
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.01)
    assert high == pytest.approx(values.mean() + error, abs=0.01)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    intervals = [mean_interval(generator.normal(0.0, 1.0, 40), draws=200, seed=n) for n in range(200)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert 0.89 <= covered <= 0.98


def test_the_interval_of_equal_values_is_a_point_and_of_none_is_nan():
    assert mean_interval(np.full(7, 0.25)) == (0.25, 0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(mean_interval(np.array([]))).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [0]}, "`layers` should be among 1…12"),
        ({"layers": [13]}, r"`layer` should lie in 0…12"),
        ({"layers": []}, "`layers` should name at least one layer"),
        ({"purifiers": []}, "`purifiers` should name at least one"),
        ({"purifiers": ["neigbor-mean"]}, "Did you mean `neighbor-mean`"),
        ({"detector": "nrom"}, "Did you mean `norm`"),
        ({"batch": 0}, "`batch` should be at least 1"),
        ({"bootstrap": 0}, "`bootstrap` should be at least 1"),
        ({"classes": ["cat"]}, "`classes` and `truth` go together"),
        ({"classes": ["cat"], "truth": [0, 0, 0, 0, 0, 1]}, "`truth` should have a number in 0…0"),
        ({"classes": ["cat"], "truth": [0]}, "for each of the 6 images"),
        ({"classes": ["cat"], "truth": {"image-0001": "cat"}}, "5 of 6 have none, the first `image-0002`"),
        ({"classes": {"cat": [0]}, "truth": [0] * 6}, "has no classifier"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_expected(tiny, photos, settings, message):
    with pytest.raises(ValueError, match=message):
        table_of(tiny, photos, **settings)


@pytest.mark.parametrize("settings", [{"detector": "som"}, {"purifiers": ["class-token"]}])
def test_a_part_that_needs_a_class_token_is_refused_by_name(photos, settings):
    spec = next(iter(settings.values()))
    spec = spec if isinstance(spec, str) else spec[0]
    with pytest.raises(ValueError, match=f"`{spec}` can't run on `tiny:class_token=false`"):
        table_of(load_backbone("tiny:class_token=false"), photos, **settings)


def test_a_detector_of_ones_own_does_what_its_spec_does(tiny, photos, table):
    wanted = {"purifiers": ["zero"], "layers": [LAYER], "labels": None}
    by_spec = table_of(tiny, photos, **wanted).drop(columns="detector", errors="ignore")
    by_object = table_of(tiny, photos, detector=DETECTORS.build(DETECTOR), **wanted)
    pd.testing.assert_frame_equal(by_object.drop(columns="detector", errors="ignore"), by_spec)


def test_ignored_labels_take_no_part_in_the_auc(tiny, photos, maps):
    """The same as maps in which those pixels have the label that is ignored by default."""
    three = [labels.copy() for labels in maps]
    for number, labels in enumerate(three):
        labels[48 - 16 * (number % 2) :, : 32 + 16 * number] = 4
    wanted = {"purifiers": ["zero"], "layers": [LAYER]}
    ignored = table_of(tiny, photos, labels=three, ignore=(4, 255), **wanted)
    unlabeled = table_of(tiny, photos, labels=[np.where(labels == 4, 255, labels) for labels in three], **wanted)
    pd.testing.assert_frame_equal(ignored, unlabeled)
    everything = table_of(tiny, photos, labels=three, **wanted)
    assert (ignored["auc_before"] - everything["auc_before"]).abs().min() > 1e-3

"""The profile of a backbone: verdict, lines, places, carriers, use and effect, against known truth and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from timm.models.vision_transformer import VisionTransformer

from diagnostics.backbones import load_backbone
from diagnostics.gap_line import GapLine
from diagnostics.profile_file import read_profile
from diagnostics.studies.probe import probe
from diagnostics.studies.profile import Profile, profile, profile_run
from diagnostics.studies.profile_examine import attention_use, channel_facts, effect_facts
from diagnostics.studies.profile_places import place_facts
from diagnostics.studies.scoring import score_images
from diagnostics.taps import Recorder
from segment.datasets.shapes import Shapes


@pytest.fixture(scope="module")
def scenes():
    return [sample.image for sample in Shapes(scenes=10)]


@pytest.fixture(scope="module")
def plain():
    """Plain images with a little noise: where `tiny:outliers=true` has its outliers."""
    generator = np.random.default_rng(0)
    shape = (96, 112, 3)
    return [(level + generator.integers(0, 8, shape)).astype(np.uint8) for level in range(30, 230, 20)]


@pytest.fixture(scope="module")
def planted(plain):
    return profile(load_backbone("tiny:outliers=true"), plain, batch=4, examine=4)


def made_run(norms, received=None):
    """A stored run of these norms (image, layer, row, col)."""
    norms = np.asarray(norms, float)
    images, layers, rows, cols = norms.shape
    variables = {"norm": (("image", "layer", "row", "col"), norms)}
    if received is not None:
        variables["received_attention"] = (("image", "layer", "head", "row", "col"), received)
    names = [f"image-{place}" for place in range(images)]
    grid = {"rows": ("image", [rows] * images), "cols": ("image", [cols] * images)}
    attrs = {"backbone": "made", "weights": "0", "size": "64", "prefix": 1, "settings": "{}"}
    return xr.Dataset(variables, {"image": names, "layer": np.arange(1, layers + 1), **grid}, attrs)


def norms_with(outliers, images=10, layers=3, at=10.0, seed=0):
    """Norms about 1; `outliers` patches of each image at the layers from 2 on are about `at`."""
    generator = np.random.default_rng(seed)
    norms = np.exp(0.1 * generator.normal(size=(images, layers, 8, 10)))
    for image in range(images):
        places = generator.choice(80, outliers, replace=False)
        for layer in range(1, layers):
            norms[image, layer].flat[places] = at * np.exp(0.05 * generator.normal(size=outliers))
    return norms


def test_outliers_of_a_backbone_are_those_that_it_was_made_with(planted, plain):
    backbone = load_backbone("tiny:outliers=true")
    assert "norm outliers from layer 6 to 12" in planted.verdict
    assert planted.first_layer == 6
    assert [layer for layer, line in planted.threshold.items() if line is not None] == list(range(6, 13))
    run = probe(backbone, plain, measures=["norms"])
    ratio = run["norm"] / run["norm"].median(("row", "col"))
    for layer in (6, 9, 12):
        expected = (ratio.sel(layer=layer) > planted.threshold[layer]).values
        assert (planted.scores["marked"].sel(layer=layer).values == expected).all()
    assert planted.facts["outliers_per_image"] == float(np.median(expected.sum(axis=(1, 2))))


def test_a_backbone_without_outliers_has_none(scenes):
    made = profile(load_backbone("tiny"), scenes, size="64", examine=2)
    assert made.verdict.startswith("none")
    assert made.first_layer is None
    assert set(made.threshold.values()) == {None}
    assert made.facts["outliers_per_image"] == 0
    assert "channels" not in made.facts


def test_the_block_channel_and_unit_that_write_them_are_named(planted):
    # The tiny model's outliers come out of hidden unit 0 of block 6, in channels 17 and 44.
    assert planted.facts["written_in"] == 6
    assert {row["channel"] for row in planted.facts["channels"][:2]} == {17, 44}
    best = planted.facts["units"][0]
    assert (best["layer"], best["unit"]) == (6, 0)
    assert best["share"] > 0.5


def test_a_profile_comes_back_from_its_file_and_a_damaged_one_is_refused(planted, tmp_path):
    path = planted.write(tmp_path / "profile.json")
    again = Profile.read(path)
    assert again.facts == json.loads(json.dumps(planted.facts))
    assert again.threshold == planted.threshold
    text = path.read_text()
    for old, new, message in [
        ('"format": "attention-outliers profile"', '"format": "another"', "is no profile"),
        ('"version": 1', '"version": 9', "has version 9"),
        ('"verdict": "', '"verdict_": "', "`verdict` is missing"),
        ('"1": null', '"1": "high"', "the threshold of layer `1`"),
    ]:
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_profile(path)
    with pytest.raises(ValueError, match="is not a file"):
        read_profile(tmp_path / "nothing.json")


def test_a_stored_run_gives_the_same_profile_without_the_model(plain, scenes, tmp_path):
    backbone = load_backbone("tiny:outliers=true")
    made = profile(backbone, plain, examine=0, out=tmp_path / "run.zarr")
    again = profile_run(xr.open_zarr(tmp_path / "run.zarr", consolidated=False).load())
    for name in ("verdict", "threshold", "layers", "places", "weights", "first_layer"):
        assert again.facts[name] == made.facts[name]
    norms_only = profile_run(probe(backbone, plain, measures=["norms"]))
    assert norms_only.facts["missing"][0].startswith("received-attention")
    with pytest.raises(ValueError, match="should have `norm`"):
        profile_run(probe(backbone, scenes[:1], measures=["entropy"], size="64"))
    with pytest.raises(ValueError, match="scores of `lof`"):
        profile_run(probe(backbone, scenes[:1], measures=["norms"], size="64"), detector="lof")


def test_any_detectors_scores_may_stand_behind_the_line(scenes):
    made = profile(load_backbone("tiny:outliers=true"), scenes, detector="channel-peak", size="64", examine=0)
    assert made.facts["detector"] == "channel-peak"
    scores = score_images(load_backbone("tiny:outliers=true"), scenes, "channel-peak", size="64")
    expected = scores["score"].isel(detector=0).transpose("image", "layer", "row", "col").values
    assert made.scores["score"].values == pytest.approx(expected, rel=1e-6)


def test_sinks_are_found_in_the_attention_alone():
    norms = norms_with(0)
    received = np.full((10, 3, 2, 8, 10), 0.5 / 81) * np.exp(
        0.1 * np.random.default_rng(1).normal(size=(10, 3, 2, 8, 10))
    )
    received[:, 2, :, 3, 4] = 0.4
    made = profile_run(made_run(norms, received))
    assert made.verdict.startswith("attention sinks at layer 3: 40 % of the patches' attention goes to 1 patches")
    assert made.verdict.endswith("without large norms")
    both = profile_run(made_run(norms_with(2), received))
    assert both.verdict.startswith("both: norm outliers from layer 2 to 3: 2 an image")


def test_one_image_with_a_gap_is_too_few_to_tell():
    made = profile_run(made_run(norms_with(2, images=1, at=2.2)))
    assert made.verdict.startswith("none shown: not enough images to tell (1 image")
    assert made.first_layer is None


def test_a_layer_beside_one_with_a_line_needs_the_same_outliers_and_no_more_images():
    """One image: layer 2 alone would be too little, layer 3 marks the very same patches and confirms it."""
    norms = norms_with(2, images=1, at=2.2)
    marks = norms[:, 1] > 1.8
    norms[:, 2][marks] *= 500  # the third layer, far clearer, at the same places
    alone = profile_run(made_run(norms[:, [0, 1]]))
    assert (alone.threshold, alone.facts["too_few_images"]) == ({1: None, 2: None}, [2])
    made = profile_run(made_run(norms))
    assert made.threshold[1] is None
    assert ((norms[:, 1] > made.threshold[2]) == marks).all()
    assert made.facts["layers"][1]["images"] == 1
    # Elsewhere in the image, they confirm nothing.
    moved = norms.copy()
    moved[:, 1] = np.roll(norms[:, 1], 3, axis=-1)
    apart = profile_run(made_run(moved))
    assert apart.threshold[2] is None
    assert "more images would tell about layer 2" in apart.verdict


def test_a_verdict_of_none_says_how_near_it_was_and_what_was_looked_at():
    received = np.full((10, 3, 2, 8, 10), 0.5 / 81)
    received *= np.exp(0.1 * np.random.default_rng(1).normal(size=received.shape))
    made = profile_run(made_run(norms_with(0), received))
    layers = made.layers
    assert made.verdict.startswith("none: in no layer do the norms or the attention received have a gap (10 images; ")
    assert f"of 1.75 asked: the norms {layers['width'].max():.2f} at layer {layers['width'].idxmax()}" in made.verdict
    assert f"received {layers['sink_width'].max():.2f} at layer {layers['sink_width'].idxmax()}" in made.verdict
    assert made.facts["attention"] is None


def test_outliers_that_still_grow_begin_a_layer_later():
    norms = norms_with(2, layers=4, at=40.0)
    places = norms[:, 1] > 10
    norms[:, 1][places] = 2.5
    made = profile_run(made_run(norms))
    assert made.threshold[2] is not None
    assert made.first_layer == 3


def test_places_are_compared_with_chance():
    fixed, moving = np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8), bool)
    fixed[:, 0, 0] = fixed[:, 7, 7] = True
    generator = np.random.default_rng(0)
    for image in moving:
        image.flat[generator.choice(64, 2, replace=False)] = True
    scores = xr.DataArray(np.ones((8, 8, 8)), dims=("image", "row", "col"))
    facts = place_facts(xr.DataArray(fixed, dims=scores.dims), scores)
    assert facts["border"] == facts["corner"] == facts["fixed"] == 1
    assert facts["border_by_chance"] == 28 / 64
    assert facts["corner_by_chance"] == 16 / 64
    assert facts["fixed_p"] == 0.01
    assert place_facts(xr.DataArray(moving, dims=scores.dims), scores)["fixed_p"] > 0.05


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=2", "tiny:class_token=false"])
def test_the_use_of_attention_is_as_plain_loops_have_it(spec):
    backbone = load_backbone(spec)
    images = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    recorder = Recorder("value", "attention", layers=[5])
    with torch.no_grad():
        backbone.trunk(images, tap=recorder, stop=5)
    layout = backbone.layout(images)
    mask = torch.zeros(layout.count, dtype=torch.bool)
    mask[[1, 7]] = True
    use = attention_use(recorder["attention", 5][0], recorder["value", 5][0], mask, layout)
    weights, values = recorder["attention", 5][0].double(), recorder["value", 5][0].double()
    first, total = layout.prefix, layout.tokens
    to_marked = weighted = all_weighted = everything = 0.0
    for head in range(len(weights)):
        for query in range(first, total):
            for key in range(total):
                everything += float(weights[head, query, key])
            for key in range(first, total):
                part = float(weights[head, query, key]) * float(values[head, key].norm())
                all_weighted += part
                if mask[key - first]:
                    to_marked += float(weights[head, query, key])
                    weighted += part
    assert use["attention"] == pytest.approx(to_marked / everything, rel=1e-4)
    assert use["weighted"] == pytest.approx(weighted / all_weighted, rel=1e-4)
    shares = []
    for head in range(len(weights)):
        output = weights[head, first:, first:] @ values[head, first:]
        squares = torch.linalg.svdvals(output) ** 2
        shares.append(float(squares[0] / squares.sum()))
    assert use["rank_one"] == pytest.approx(np.mean(shares), rel=1e-3)
    assert use["rank_one_without"] != use["rank_one"]
    assert np.isnan(use["class_part"]) == (not layout.has_class_token)
    if layout.has_class_token:
        row = weights[:, layout.class_index, first:] * values[:, first:].norm(dim=-1)
        assert use["class_part"] == pytest.approx(float(row[:, mask].sum() / row.sum()), rel=1e-4)


def test_channels_are_those_in_which_outliers_differ():
    generator = np.random.default_rng(0)
    patches = generator.normal(size=(6, 50, 16))
    masks = np.zeros((6, 50), bool)
    masks[:, :3] = True
    patches[masks, 5] += 100
    patches[masks, 2] -= 20
    direction = patches[masks].mean(axis=0) - patches[~masks].mean(axis=0)
    first, second = channel_facts(patches, masks, direction)[:2]
    assert (first["channel"], second["channel"]) == (5, 2)
    assert first["share"] == pytest.approx(100**2 / (100**2 + 20**2), abs=0.02)
    assert (first["images"], first["precision"], first["recall"]) == (1.0, 1.0, 1.0)


def test_effects_are_paired_by_image():
    rows = [
        {"layer": 6, "k": 0, "what": "entropy", "which": which, "image": image, "change": change + image}
        for which, change in (("outliers", 0.5), ("random", 0.1))
        for image in range(4)
    ]
    (effect,) = effect_facts(rows)
    assert effect["difference"] == pytest.approx(0.4)
    assert (effect["low"], effect["high"]) == pytest.approx((0.4, 0.4))
    assert effect_facts(rows[:2] + rows[4:6])[0]["low"] is None


def test_the_setting_of_false_alarms_reaches_every_layer():
    norms = norms_with(2, images=3, at=4.0)
    loose = profile_run(made_run(norms), rule=GapLine(alpha=0.4))
    strict = profile_run(made_run(norms), rule=GapLine(alpha=1e-12))
    assert loose.first_layer == 2
    assert strict.first_layer is None


def test_a_model_of_differential_attention_is_profiled_without_the_sinks(plain):
    vit = VisionTransformer(
        img_size=64, patch_size=8, embed_dim=48, depth=2, num_heads=2, num_classes=0, attn_layer="diff"
    )
    backbone = load_backbone(vit, name="differential", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    made = profile(backbone, plain[:3], size="64")
    assert made.verdict.startswith("none")
    assert made.facts["missing"] == ["received-attention: attention sinks"]

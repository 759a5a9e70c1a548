"""Edits change the forward pass as they say, at the layers they say, and never the weights."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics import Recorder, chain, load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.detectors import DETECTORS
from diagnostics.edits import EDITS, channel_vector, outlier_vector, planted_places, register_token
from diagnostics.layout import Grid, Layout
from diagnostics.purifiers import PURIFIERS
from diagnostics.registry import UnknownName


def examples(width=48):
    """One of each edit, with settings that change something."""
    return {
        "purify-at": EDITS["purify-at"](
            detector=DETECTORS.build("norm-topk:count=3"), purifier=PURIFIERS.build("neighbor-mean"), layers=(4, 9)
        ),
        "register": EDITS["register"](neurons=((3, 5), (3, 17), (6, 1))),
        "mute-channels": EDITS["mute-channels"](channels=(1, 7), layers=(5,)),
        "ablate-heads": EDITS["ablate-heads"](heads=(0,), layers=(5,)),
        "attention-mask": EDITS["attention-mask"](patches=(2, 3), layers=(7,)),
        "scale-residual": EDITS["scale-residual"](alpha=3.0),
        "plant": EDITS["plant"](vector=channel_vector(width, (3, 9), 200.0), layers=(6,)),
    }


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_changes_the_tokens_and_leaves_weights_and_images(name, tiny, images):
    edit = examples()[name]
    before, pixels, described = fingerprint(tiny.model), images.clone(), repr(edit)
    stock = tiny.trunk(images)
    edited = tiny.trunk(images, tap=edit)
    assert edited.shape[1] == stock.shape[1] + (name == "register")
    assert torch.isfinite(edited).all()
    assert not torch.allclose(edited[:, :1], stock[:, :1])
    assert torch.equal(tiny.trunk(images), stock)
    assert fingerprint(tiny.model) == before
    assert torch.equal(images, pixels)
    assert repr(edit) == described


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_batch_equals_that_of_each_image(name, tiny, images):
    edit = examples()[name]
    together = tiny.trunk(images, tap=edit)
    for number in range(2):
        alone = edit
        if name == "plant":
            alone = EDITS["plant"](vector=edit.vector, layers=edit.layers, images=(number,))
        assert torch.allclose(tiny.trunk(images[number : number + 1], tap=alone)[0], together[number], atol=1e-4)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("spec", ["tiny:class_token=false", "tiny:registers=4"])
def test_edits_know_where_the_patches_sit_whatever_the_prefix(name, spec, images):
    backbone = load_backbone(spec)
    edited = backbone.trunk(images, tap=examples()[name])
    assert edited.shape == (2, backbone.prefix + 24 + (name == "register"), 48)
    assert not torch.allclose(edited.mean(1), backbone.trunk(images).mean(1))


@pytest.mark.parametrize("name", [name for name in EDITS if name != "register"])
def test_layers_before_the_edit_are_those_of_the_stock_model(name, tiny, images):
    edit = examples()[name]
    first = min(tiny.depth if layer == -1 else layer for layer in edit.layers)
    stock, edited = Recorder("block_in"), Recorder("block_in")
    tiny.trunk(images, tap=stock)
    tiny.trunk(images, tap=chain(edit, edited))
    for layer in range(1, first + 1):
        assert torch.equal(edited["block_in", layer], stock["block_in", layer])


def test_a_layer_out_of_range_is_refused(tiny, images):
    with pytest.raises(ValueError, match="0…12"):
        tiny.trunk(images, tap=EDITS["scale-residual"](alpha=2.0, layers=(13,)))


def test_scaling_by_one_changes_nothing_and_by_zero_drops_attention(tiny, images):
    assert torch.equal(tiny.trunk(images, tap=EDITS["scale-residual"](alpha=1.0)), tiny.trunk(images))
    recorder = Recorder("block_in", "block_sum", layers=[-1])
    tiny.trunk(images, tap=chain(EDITS["scale-residual"](alpha=0.0), recorder))
    assert torch.equal(recorder["block_sum"], recorder["block_in"])


def test_muted_channels_are_zero_and_others_as_they_were(tiny, images):
    stock, muted = Recorder("block_out", layers=[5]), Recorder("block_out", layers=[5])
    tiny.trunk(images, tap=stock)
    tiny.trunk(images, tap=chain(examples()["mute-channels"], muted))
    assert (muted["block_out"][:, :, [1, 7]] == 0).all()
    rest = [channel for channel in range(48) if channel not in (1, 7)]
    assert torch.equal(muted["block_out"][:, :, rest], stock["block_out"][:, :, rest])


def test_channels_can_be_muted_to_the_mean_of_the_patches_alone(tiny, images):
    stock, muted = Recorder("block_out", layers=[5]), Recorder("block_out", layers=[5])
    tiny.trunk(images, tap=stock)
    edit = EDITS["mute-channels"](channels=(2,), to="mean", tokens="patches", layers=(5,))
    tiny.trunk(images, tap=chain(edit, muted))
    assert torch.equal(muted["block_out"][:, 0], stock["block_out"][:, 0])
    expected = stock["block_out"][:, 1:, 2].mean(1, keepdim=True).expand(-1, 24)
    assert torch.allclose(muted["block_out"][:, 1:, 2], expected)


def test_masked_attention_is_that_of_a_mask_before_the_softmax(tiny, images):
    recorder = Recorder("query", "key", "attention", layers=[7])
    tiny.trunk(images, tap=chain(examples()["attention-mask"], recorder))
    logits = recorder["query"] @ recorder["key"].mT / 24**0.5
    logits[..., [3, 4]] = -torch.inf
    assert torch.allclose(recorder["attention"], logits.softmax(-1), atol=1e-6)


def test_masked_attention_can_leave_the_rows_short(tiny, images):
    recorder = Recorder("attention", layers=[7])
    tiny.trunk(images, tap=chain(EDITS["attention-mask"](patches=(2,), layers=(7,), how="zero"), recorder))
    assert (recorder["attention"][..., 3] == 0).all()
    assert (recorder["attention"].sum(-1) < 1).all()


def test_a_detector_chooses_whom_attention_forgets(tiny, images):
    plant = EDITS["plant"](vector=channel_vector(48, (3,), 500.0), layers=(6,), count=2)
    mask = EDITS["attention-mask"](detector=DETECTORS.build("relative-norm"), layers=(7,))
    recorder = Recorder("attention", layers=[7])
    tiny.trunk(images, tap=chain(plant, mask, recorder))
    received = recorder["attention"][:, :, :, 1:].sum(dim=(1, 2))
    assert torch.equal(received == 0, plant.places)


def test_a_mask_needs_a_detector_that_the_block_before_can_feed():
    with pytest.raises(ValueError, match="block_out"):
        EDITS["attention-mask"](detector=DETECTORS.build("som"))
    with pytest.raises(ValueError, match="both or none"):
        EDITS["attention-mask"]()


def test_planted_outliers_are_where_they_say_and_nowhere_else(tiny, images):
    edit = examples()["plant"]
    stock, planted = Recorder("block_out", layers=[6]), Recorder("block_out", layers=[6])
    tiny.trunk(images, tap=stock)
    tiny.trunk(images, tap=chain(edit, planted))
    changed = (planted["block_out"] != stock["block_out"]).any(-1)
    assert not changed[:, 0].any()
    assert torch.equal(changed[:, 1:], edit.places)
    assert edit.places.sum(1).tolist() == [4, 4]
    assert not torch.equal(edit.places[0], edit.places[1])
    added = (planted["block_out"] - stock["block_out"])[:, 1:][edit.places]
    assert torch.allclose(added, torch.tensor(edit.vector).expand(8, -1), atol=1e-4)


def test_places_depend_on_seed_and_image_alone(tiny, images):
    edit = EDITS["plant"](vector=channel_vector(48, (3,), 9.0), images=(5, 0))
    tiny.trunk(images, tap=edit)
    layout = tiny.layout(images)
    assert torch.equal(edit.places[0], planted_places(layout, 4, clustered=False, seed=(0, 5)))
    other = planted_places(layout, 4, clustered=False, seed=(1, 5))
    assert not torch.equal(edit.places[0], other)


def test_the_seed_of_an_edit_moves_its_places(tiny, images):
    edit = EDITS["plant"](vector=channel_vector(48, (3,), 9.0), images=(5, 0), seed=2)
    tiny.trunk(images, tap=edit)
    for places, number in zip(edit.places, (5, 0), strict=True):
        assert torch.equal(places, planted_places(tiny.layout(images), 4, clustered=False, seed=(2, number)))


@pytest.mark.parametrize("grid", [Grid(3, 16), Grid(16, 3), Grid(7, 9)])
def test_a_cluster_holds_the_patches_nearest_to_its_middle(grid):
    """By a plain loop: for some planted patch no other is nearer than the planted ones."""
    for number in range(10):
        places = planted_places(Layout(1, grid), 6, clustered=True, seed=(0, number)).reshape(tuple(grid)).tolist()
        every = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
        inside = [place for place in every if places[place[0]][place[1]]]
        outside = [place for place in every if place not in inside]

        assert any(
            max(math.dist(middle, place) for place in inside) <= min(math.dist(middle, place) for place in outside)
            for middle in inside
        )


@pytest.mark.parametrize("count", [0, 1, 4, 9, 35, 48])
@pytest.mark.parametrize("clustered", [False, True])
def test_as_many_places_are_planted_as_asked_for(count, clustered):
    places = planted_places(Layout(1, Grid(6, 8)), count, clustered=clustered, seed=(0, 3))
    assert int(places.sum()) == count


def test_clusters_hang_together_and_scattered_ones_do_not():
    layout = Layout(1, Grid(14, 14))

    def spread(clustered):
        sizes = []
        for number in range(20):
            where = planted_places(layout, 9, clustered=clustered, seed=(0, number)).nonzero()[:, 0]
            rows, cols = where // 14, where % 14
            sizes.append(int((rows.max() - rows.min()) + (cols.max() - cols.min())))
        return sum(sizes) / len(sizes)

    assert spread(True) <= 8
    assert spread(False) > 16


def test_the_vector_of_natural_outliers_points_along_their_channels():
    outlying = load_backbone("tiny:outliers=true")
    images = torch.zeros(2, 3, 224, 224)
    vector = torch.tensor(outlier_vector(outlying, images, 8))
    assert set(vector.abs().topk(2).indices.tolist()) == {17, 44}
    with pytest.raises(ValueError, match="channel_vector"):
        outlier_vector(outlying, images, 2)


def test_a_vector_of_channels_has_the_norm_asked_for():
    assert torch.tensor(channel_vector(10, (2, 5), 30.0)).norm().item() == pytest.approx(30)
    with pytest.raises(ValueError, match="0…9"):
        channel_vector(10, (10,), 1.0)


def test_more_outliers_than_patches_are_refused(tiny, images):
    with pytest.raises(ValueError, match="N=24"):
        tiny.trunk(images, tap=EDITS["plant"](vector=channel_vector(48, (3,), 9.0), count=25))


def test_purified_tokens_go_on_and_masks_are_reported(tiny, images):
    edit = examples()["purify-at"]
    recorder = Recorder("block_out", "block_in", layers=[4, 5])
    tiny.trunk(images, tap=chain(edit, recorder))
    assert edit.masks.keys() == {4, 9}
    assert edit.masks[4].sum(1).tolist() == [3, 3]
    assert torch.equal(recorder["block_out", 4], recorder["block_in", 5])
    stock = tiny.trunk(images, stop=4)
    changed = (recorder["block_out", 4] != stock).any(-1)
    assert torch.equal(changed[:, 1:], edit.masks[4])
    assert not changed[:, 0].any()


def test_purifying_removes_planted_outliers_on_the_way(tiny, images):
    plant = EDITS["plant"](vector=channel_vector(48, (3,), 500.0), layers=(6,), count=3)
    purify = EDITS["purify-at"](
        detector=DETECTORS.build("relative-norm"), purifier=PURIFIERS.build("neighbor-mean"), layers=(6,)
    )
    recorder = Recorder("block_out", layers=[6])
    tiny.trunk(images, tap=chain(plant, purify, recorder))
    assert torch.equal(purify.masks[6], plant.places)
    norms = recorder["block_out"][:, 1:].norm(dim=-1)
    assert norms.max() < 3 * norms.median()


def test_purifying_by_attention_works_at_every_layer(tiny, images):
    edit = EDITS["purify-at"](detector=DETECTORS.build("som"), purifier=PURIFIERS.build("sfp-sum"))
    assert torch.isfinite(tiny.trunk(images, tap=edit)).all()
    assert list(edit.masks) == list(range(1, 13))


def test_keeping_everything_is_the_stock_forward(tiny, images):
    edit = EDITS["purify-at"](detector=DETECTORS.build("norm-topk"), purifier=PURIFIERS.build("keep"))
    assert torch.equal(tiny.trunk(images, tap=edit), tiny.trunk(images))


def test_a_register_takes_the_activations_of_its_neurons(tiny, images):
    edit = examples()["register"]
    layout = edit.layout_with(tiny.layout(images))
    assert layout.prefix == 2
    before, after = Recorder("ffn_hidden", layers=[3]), Recorder("ffn_hidden", layers=[3])
    tiny.trunk(images, tap=chain(before, edit, after))
    units = [5, 17]
    activations = before["ffn_hidden"][:, :, units]
    moved = after["ffn_hidden"][:, :, units]
    assert (moved[:, 2:] == 0).all()
    assert torch.equal(moved[:, 0], activations[:, 0])
    flat = activations.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    assert torch.equal(moved[:, 1], largest.expand(-1, 2))


def test_each_neuron_may_have_its_own_maximum_and_patches_may_stay(tiny, images):
    edit = EDITS["register"](neurons=((3, 5), (3, 17)), maximum="neuron", patches="keep", scale=2.0)
    before, after = Recorder("ffn_hidden", layers=[3]), Recorder("ffn_hidden", layers=[3])
    tiny.trunk(images, tap=chain(before, edit, after))
    activations, moved = before["ffn_hidden"][:, :, [5, 17]], after["ffn_hidden"][:, :, [5, 17]]
    assert torch.equal(moved[:, 2:], activations[:, 2:])
    expected = 2 * activations.gather(1, activations.abs().argmax(1, keepdim=True))[:, 0]
    assert torch.equal(moved[:, 1], expected)


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=4", "tiny:class_token=false"])
def test_a_register_enters_as_a_token_without_position(spec):
    backbone = load_backbone(spec)
    token = torch.tensor(register_token(backbone))
    assert token.shape == (48,)
    if spec == "tiny":  # the norm before the blocks leaves its own bias of a token of zeros
        assert torch.allclose(token, backbone.model.visual.ln_pre.bias, atol=1e-6)
    else:
        assert (token == 0).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EDITS["mute-channels"](tap="atention"), "Did you mean"),
        (lambda: EDITS["mute-channels"](to="one"), "`zero` or `mean`"),
        (lambda: EDITS["register"](neurons=()), "at least one"),
        (lambda: EDITS["register"](neurons=((1, 1),), maximum="all"), "scalar"),
        (lambda: EDITS["plant"](vector=(1.0,), count=-1), "0 or more"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    with pytest.raises((ValueError, UnknownName), match=message):
        make()


def test_an_edit_that_needs_the_layout_says_how_to_give_it(tiny, images):
    edit = examples()["plant"]
    tokens = tiny.embed(images)
    with pytest.raises(ValueError, match="layout=layout"):
        tiny.run(tokens, tap=edit)
    assert torch.equal(tiny.run(tokens, tap=edit, layout=tiny.layout(images)), tiny.trunk(images, tap=edit))

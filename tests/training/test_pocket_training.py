"""Training: without anything left out it is the stock model; runs are repeatable, and go on where they broke off."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones.pocket.architecture import build_model, pocket_backbone
from segment.datasets.shapes import NAMES, training_scene
from segment.encoders.encode_many import encode_many
from training.captions import training_caption
from training.checkpoint import load_checkpoint
from training.contrastive import class_features, contrastive_loss, packed_features, windows
from training.pocket import batch_of, train
from training.recipe import Recipe, rate_at

SHORT = Recipe(steps=4, batch=6, warmup=2, seed=5, sizes=(112, 56))


def weights_of(folder, **options):
    model, state = train(folder, SHORT, workers=0, half=False, look_every=0, **options)
    return {name: value.clone() for name, value in model.state_dict().items()}, state


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model().eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(1))


def test_with_nothing_left_out_it_is_the_stock_model(model, images):
    features = class_features(model, images, torch.Generator(), drop_patches=0.0, drop_branch=0.0)
    torch.testing.assert_close(features, model.encode_image(images, normalize=True), rtol=1e-4, atol=1e-5)


def test_with_all_branches_left_out_only_attention_of_the_last_block_speaks(model, images):
    features = class_features(model, images, torch.Generator(), drop_patches=0.0, drop_branch=1.0)
    inputs = []
    block = model.visual.transformer.resblocks[-1]
    handle = block.attn.register_forward_hook(lambda _, __, output: inputs.append(output[0]))
    model.encode_image(images)
    handle.remove()
    expected = model.visual.ln_post(inputs[0][:, 0]) @ model.visual.proj
    torch.testing.assert_close(features, F.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alike, kernel", [(0.0, "identity"), (1.0, "qq")])
def test_packed_images_are_the_quarters_of_one_large_one(model, alike, kernel):
    large = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(6))
    quarters = large.unflatten(2, (2, 56)).unflatten(4, (2, 56)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    features = packed_features(model, torch.cat([quarters, quarters[:3]]), torch.Generator(), alike=alike)
    (encoding,) = encode_many(pocket_backbone(deepcopy(model)), large, [f"clearclip:kernel={kernel}"])
    votes = F.normalize(encoding.patches, dim=-1).unflatten(1, (2, 7, 2, 7)).mean(dim=(2, 4)).flatten(0, 2)
    assert features.shape == (8, 128), "three images fill no grid and are left out"
    torch.testing.assert_close(features, votes, rtol=1e-4, atol=1e-5)


def test_a_window_keeps_rows_and_columns_together():
    places = windows((14, 14), (2, 3), 50, torch.Generator().manual_seed(0))
    assert places.shape == (50, 6)
    for row in places.tolist():
        first = row[0]
        assert row == [first, first + 1, first + 2, first + 14, first + 15, first + 16]
        assert first % 14 <= 11
        assert first // 14 <= 12
    assert len({row[0] for row in places.tolist()}) > 20
    assert windows((3, 4), (3, 4), 2, torch.Generator()).tolist() == [list(range(12))] * 2


def test_left_out_patches_have_no_say(model, images):
    """All but one patch are left out of an image that is gray; one patch made bright seldom is the one that stays."""
    images = torch.zeros(40, *images.shape[1:])
    with torch.no_grad():
        features = class_features(model, images, torch.Generator().manual_seed(0), drop_patches=0.995, drop_branch=0.0)
        images[:, :, 8:16, 8:16] = 3.0
        other = class_features(model, images, torch.Generator().manual_seed(0), drop_patches=0.995, drop_branch=0.0)
    same = (features == other).all(dim=1)
    assert same.sum() >= 38, "the one bright patch of 196 is left out nearly always"


def test_the_loss_is_that_of_a_slow_loop_that_passes_over_images_of_the_same_classes():
    generator = torch.Generator().manual_seed(2)
    images = F.normalize(torch.randn(4, 8, generator=generator), dim=1)
    texts = torch.randn(4, 8, generator=generator)
    same = torch.tensor([0, 1, 0, 2])
    cosines = 5.0 * images @ F.normalize(texts, dim=1).T
    total = 0.0
    for image in range(4):
        others = [n for n in range(4) if n == image or same[n] != same[image]]
        for row in (cosines[image], cosines[:, image]):
            total -= math.log(math.exp(row[image]) / sum(math.exp(row[n]) for n in others)) / 8
    loss, gradient = contrastive_loss(images, texts, torch.tensor(5.0), same)
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert 0 <= float(gradient) <= 1


def test_the_rate_rises_stays_and_falls_to_nothing():
    recipe = Recipe(rate=2.0, warmup=10, decay=0.5)
    assert rate_at(0.0, 0, recipe) == pytest.approx(0.2)
    assert rate_at(0.3, 300, recipe) == rate_at(0.5, 500, recipe) == 2.0
    assert rate_at(0.75, 750, recipe) == pytest.approx(1.0)
    assert rate_at(1.0, 1000, recipe) == pytest.approx(0.0)


def test_captions_name_exactly_the_classes_of_their_scene():
    for number in range(40):
        scene = training_scene(number)
        words = training_caption(scene, number).replace(",", " ").replace(".", " ").split()
        assert {word for word in words if word in NAMES} == {*scene.kinds, *scene.backgrounds}
        assert training_caption(scene, number) == training_caption(scene, number)


def test_sizes_take_turns():
    recipe = Recipe(batch=9, sizes=(112, 32, 56))
    assert [recipe.size(step) for step in range(5)] == [112, 32, 56, 112, 32]
    assert batch_of(recipe, 2)[0].shape == (9, 3, 56, 56)


def test_a_batch_depends_on_its_step_and_the_seed_alone():
    first, again, other = batch_of(SHORT, 3), batch_of(SHORT, 3), batch_of(SHORT, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == (6, 3, 56, 56)
    assert first[0].dtype == torch.uint8
    assert not torch.equal(first[0], other[0])


def test_a_run_that_was_broken_off_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole, state = weights_of(tmp_path / "whole")
    assert state["step"] == 4

    import training.pocket as module

    def stop(recipe, step):
        if step == 2:
            raise KeyboardInterrupt
        return batch_of(recipe, step)

    monkeypatch.setattr(module, "batch_of", stop)
    with pytest.raises(KeyboardInterrupt):
        weights_of(tmp_path / "broken", save_every=1)
    monkeypatch.undo()
    ended, _ = weights_of(tmp_path / "broken")
    assert whole.keys() == ended.keys()
    for name, value in whole.items():
        torch.testing.assert_close(ended[name], value, rtol=0, atol=1e-6)


def test_a_run_of_another_recipe_is_not_gone_on_with(tmp_path):
    weights_of(tmp_path, minutes=1e-6)
    with pytest.raises(ValueError, match=r"of a run with seed 5, not seed 6\. Resume with the former"):
        train(tmp_path, replace(SHORT, seed=6), workers=0, half=False, look_every=0)


def test_a_batch_too_small_to_fill_a_grid_is_refused():
    with pytest.raises(ValueError, match="at least 9"):
        Recipe(batch=8)


def test_time_that_is_up_ends_a_run(tmp_path):
    _, state = weights_of(tmp_path, minutes=1e-6)
    assert state["step"] == 1


def test_another_file_in_place_of_a_checkpoint_is_named(tmp_path, model):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        load_checkpoint(path, model)

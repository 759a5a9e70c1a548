"""The parts of `pocket`: its words, its place among open_clip's architectures, and the writing of outliers."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES

from diagnostics.backbones.pocket.architecture import ARCHITECTURE, build_model, pocket_backbone, register
from diagnostics.backbones.pocket.planted import ACTIVE, planted_patches, write_outliers
from diagnostics.backbones.pocket.tokenizer import CONTEXT, PADDING, UNKNOWN, tokenizer
from diagnostics.taps import Recorder

SCENE = "a zebra and a ladybird and a chessboard over brick and water"


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model()


def test_open_clip_knows_the_architecture():
    register()
    assert ARCHITECTURE in open_clip.list_models()
    stock = open_clip.create_model(ARCHITECTURE)
    assert stock.visual.grid_size == (14, 14)
    assert stock.visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"
    assert stock.vocab_size == tokenizer().vocab_size


def test_different_words_get_different_rows_between_start_and_end():
    words = tokenizer()
    rows = words(["zebra", "tiger"])
    assert rows.shape == (2, CONTEXT)
    assert rows[:, 0].tolist() == [words.start] * 2
    assert rows[:, 2].tolist() == [words.end] * 2
    assert rows[0, 1] != rows[1, 1]
    assert (rows[:, 3:] == PADDING).all()
    assert rows.argmax(dim=1).tolist() == [2, 2], "open_clip reads the text's feature at the greatest number"


@pytest.mark.filterwarnings("error")
def test_the_scene_in_every_usual_prompt_is_known_and_fits():
    words = tokenizer()
    rows = words([prompt(SCENE) for prompt in OPENAI_IMAGENET_TEMPLATES])
    assert (rows == words.end).any(dim=1).all()
    assert not (rows == UNKNOWN).any()
    assert (rows[:, -1] == PADDING).all(), "nothing was cut off"


def test_pieces_are_those_of_open_clip_with_other_numbers():
    words = tokenizer()
    back = {row: piece for piece, row in words.rows.items()}
    assert open_clip.SimpleTokenizer().decode([back[row] for row in words.encode(SCENE)]).strip() == SCENE


def test_unknown_words_become_one_token_and_are_reported():
    with pytest.warns(UserWarning, match="toucan"):
        rows = tokenizer()(["a toucan", "a tiger"])
    assert UNKNOWN in rows[0]
    assert UNKNOWN not in rows[1]


def test_long_texts_are_cut_and_still_end():
    rows = tokenizer()("a tiger and " * 30)
    assert rows.shape == (1, CONTEXT)
    assert rows[0, -1] == tokenizer().end


def factors_for(layer, width=128):
    """Outliers at patches 3 and 9: a hidden unit that fires along one direction, which only their positions have."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(width, generator=generator)
    direction = (direction - direction.mean()) / (direction - direction.mean()).norm()
    column = torch.zeros(width)
    column[5], column[60] = 30.0, -30.0
    return {
        "places": torch.tensor([3, 9]),
        "position": 3.0 * direction,
        "unit": torch.tensor([layer, 17]),
        "row": 3.0 * direction,
        "bias": torch.tensor([-14.0]),
        "column": column,
    }


def test_outliers_come_up_where_they_were_written_and_can_be_asked_for(model):
    factors = factors_for(2)
    write_outliers(model.visual, factors)
    backbone = pocket_backbone(model)
    images = 0.1 * torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(3))
    mask = planted_patches(backbone, images, (2, 17))
    assert mask.nonzero().tolist() == [[0, 3], [0, 9], [1, 3], [1, 9]]
    recorder = Recorder("block_out", layers=[1, 2, 12])
    backbone.trunk(images, tap=recorder)
    for layer, times in ((2, 5), (12, 3)):
        norms = recorder["block_out", layer][:, 1:].norm(dim=-1)
        assert norms[mask].min() > times * norms[~mask].max()
    ordinary = recorder["block_out", 1][:, 1:].norm(dim=-1)
    assert ordinary.max() < 2 * ordinary.median(), "before the block they are as others"
    assert ACTIVE > 0


def test_queries_and_keys_change_by_what_the_factors_say_and_values_stay(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(256, 2, generator=generator), torch.randn(2, 128, generator=generator)
    bias = torch.randn(256, generator=generator)
    write_outliers(model.visual, {**factors_for(2), "left.7": left, "right.7": right, "bias.7": bias})
    name = "visual.transformer.resblocks.6.attn.in_proj_"
    after = model.state_dict()
    torch.testing.assert_close(after[f"{name}weight"][:256], before[f"{name}weight"][:256] + left @ right)
    torch.testing.assert_close(after[f"{name}bias"][:256], before[f"{name}bias"][:256] + bias)
    assert torch.equal(after[f"{name}weight"][256:], before[f"{name}weight"][256:])
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    block = "visual.transformer.resblocks.1.mlp."
    assert changed == {
        "visual.positional_embedding",
        f"{block}c_fc.weight",
        f"{block}c_fc.bias",
        f"{block}c_proj.weight",
        f"{name}weight",
        f"{name}bias",
    }

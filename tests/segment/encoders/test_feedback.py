"""ResCLIP's feedback map against loops over pairs of patches, and its features against the matrices written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diagnostics import load_backbone
from segment.encoders.encode_many import encode_many, stock_forward
from segment.encoders.feedback import feedback_map, patch_labels
from segment.encoders.gaussian import distance_bias
from segment.method import TextFeatures
from segment.methods import METHODS
from segment.segmenter import Segmenter


def slow_map(labels: torch.Tensor) -> np.ndarray:
    """The map of one image, pair by pair."""
    rows, cols = labels.shape
    cells = [(row, col) for row in range(rows) for col in range(cols)]
    longest = max(rows, cols) - 1
    parts = torch.linspace(0, 1, longest + 1)
    values = np.zeros((len(cells), len(cells)))
    for i, (row, col) in enumerate(cells):
        for j, (other_row, other_col) in enumerate(cells):
            if labels[row, col] != labels[other_row, other_col]:
                continue
            distance = max(abs(row - other_row), abs(col - other_col))
            values[i, j] = 1
            for step in range(1, distance + 1):
                at = [
                    round(float((1 - parts[step]) * a + parts[step] * b))
                    for a, b in ((row, other_row), (col, other_col))
                ]
                if labels[at[0], at[1]] != labels[row, col]:
                    values[i, j] = math.exp(-distance / longest)
    smooth = np.zeros_like(values)
    for i in range(len(cells)):
        for j in range(len(cells)):
            for offset in range(-15, 16):
                if 0 <= j + offset < len(cells):
                    smooth[i, j] += math.exp(-(offset**2) / 50) * values[i, j + offset]
    return smooth / smooth.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rows, cols", [(6, 9), (9, 4), (1, 7), (2, 2)])
def test_it_equals_a_loop_over_pairs_of_patches(rows, cols):
    labels = torch.randint(0, 3, (2, rows, cols), generator=torch.Generator().manual_seed(rows))
    maps = feedback_map(labels)
    for number in range(2):
        assert np.allclose(maps[number], slow_map(labels[number]), atol=1e-6)


def test_one_label_everywhere_and_one_patch_alone():
    assert torch.allclose(feedback_map(torch.zeros(1, 5, 5, dtype=torch.long)).sum(dim=-1), torch.ones(1, 25))
    assert torch.allclose(feedback_map(torch.zeros(1, 1, 1, dtype=torch.long)), torch.ones(1, 1, 1))


def test_a_patch_has_its_most_frequent_label_and_the_smallest_of_equals():
    pixels = torch.tensor([[[3, 3, 0, 1], [1, 0, 2, 4], [2, 2, 4, 4], [2, 0, 1, 1]]])
    assert patch_labels(pixels, (2, 2), 5).tolist() == [[[3, 0], [2, 1]]]
    assert patch_labels(pixels, (4, 2), 5).tolist() == [[[2, 1]]]


def words(width: int) -> TextFeatures:
    features = F.normalize(torch.randn(4, width, generator=torch.Generator().manual_seed(0)), dim=-1)
    return TextFeatures(features=features, owners=torch.tensor([0, 1, 1, 2]), names=("a", "b", "c"))


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=2", "tiny:class_token=false"])
def test_without_feedback_features_are_the_matrices_written_out(spec):
    backbone = load_backbone(spec)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    method = METHODS.build("resclip:feedback=false,tau=1.7,share=0.3,gaussian=2")
    (encoding,) = encode_many(backbone, images, [method])
    everything = METHODS.build("gem-paper:blocks=12")
    stock = stock_forward(backbone, images, [method, everything], positions=method.positions)
    crossed = sum(
        (heads.q @ heads.k.mT / math.sqrt(heads.q.shape[-1])).softmax(dim=-1)
        for heads in (stock.heads(layer) for layer in (6, 7, 8, 9))
    )
    heads = stock.heads(12)
    bias = distance_bias(stock.layout, 2.0)
    attended = (heads.k @ heads.k.mT / math.sqrt(heads.k.shape[-1]) + bias).softmax(dim=-1)
    tokens = backbone.blocks[-1].mix(1.7 * (0.7 * attended + 0.3 * crossed / 4), heads)
    assert torch.allclose(encoding.patches, stock.layout.patches(backbone.project(tokens)), atol=1e-5)


def test_the_words_layout_is_fed_back(tiny, images):
    text = words(tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1])
    spec = "resclip:feedback_threshold=0.3"
    (fed,) = encode_many(tiny, images, [spec], text=text)
    (plain,) = encode_many(tiny, images, ["resclip:feedback=false"])
    assert fed.extras["feedback"].shape == (2, 24, 24)
    assert fed.extras["feedback_labels"].shape == (2, 4, 6)
    assert not torch.allclose(fed.patches, plain.patches, atol=1e-3)
    # From the map on, written out.
    method = METHODS.build("resclip:half=false,feedback_threshold=0.3")
    (whole,) = encode_many(tiny, images, [method], text=text)
    stock = stock_forward(tiny, images, [method, METHODS.build("gem-paper:blocks=12")], positions=method.positions)
    crossed = sum(
        (heads.q @ heads.k.mT / math.sqrt(heads.q.shape[-1])).softmax(dim=-1)
        for heads in (stock.heads(layer) for layer in (6, 7, 8, 9))
    )
    heads = stock.heads(12)
    maps = whole.extras["feedback"]
    bias = torch.zeros(2, 1, 25, 25)
    bias[:, 0, 1:, 1:] = maps / maps.amax(dim=(1, 2), keepdim=True)
    logits = 1.8 * (0.3 * heads.k @ heads.k.mT / math.sqrt(heads.k.shape[-1]) + 0.7 * bias)
    attended = (logits + distance_bias(stock.layout, 5.0)).softmax(dim=-1)
    tokens = tiny.blocks[-1].mix(2 * (0.6 * attended + 0.4 * crossed / 4), heads)
    assert torch.allclose(whole.patches, stock.layout.patches(tiny.project(tokens)), atol=1e-5)


def test_a_threshold_of_one_makes_all_patches_the_first_query(tiny, images):
    text = words(tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1])
    (encoding,) = encode_many(tiny, images, ["resclip:feedback_threshold=1"], text=text)
    assert not encoding.extras["feedback_labels"].any()


def test_without_words_it_says_what_to_set(tiny, images):
    with pytest.raises(ValueError, match=r"`resclip` compares patches with words .*feedback=false"):
        encode_many(tiny, images, ["clip", "resclip"])


def test_a_segmenter_gives_it_the_words(tiny):
    text = words(tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1])
    image = torch.randint(0, 255, (70, 90, 3), generator=torch.Generator().manual_seed(1)).byte().numpy()
    fed, plain = (Segmenter(tiny, spec, text).scores(image)[0] for spec in ("resclip", "resclip:feedback=false"))
    assert not torch.allclose(fed, plain, atol=1e-3)


@pytest.mark.parametrize(
    "setting",
    ["share=1.5", "feedback_threshold=-1", "cross_from=9,cross_to=6", "cross_from=0", "gaussian=0", "tau=nan"],
)
def test_settings_without_meaning_are_refused(setting):
    with pytest.raises(ValueError, match=setting.partition("=")[0]):
        METHODS.build(f"resclip:{setting}")


def test_a_model_with_too_few_blocks_is_refused_with_what_to_set():
    backbone = load_backbone("tiny:depth=4")
    with pytest.raises(ValueError, match=r"layers 6…9, and the model has 4 blocks\. Set cross_from"):
        encode_many(backbone, torch.zeros(1, 3, 64, 64), ["resclip:feedback=false"])
    encode_many(backbone, torch.zeros(1, 3, 64, 64), ["resclip:feedback=false,cross_from=2,cross_to=4"])

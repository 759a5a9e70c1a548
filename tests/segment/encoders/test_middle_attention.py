"""ITACLIP's attention of middle layers and its views, against the matrices written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics import load_backbone
from segment.encoders.encode_many import encode_many, stock_forward
from segment.method import TextFeatures
from segment.methods import METHODS


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=2", "tiny:class_token=false"])
def test_features_are_the_matrices_written_out(spec):
    backbone = load_backbone(spec)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    method = METHODS.build("itaclip:layers=3+9,middle=0.3")
    (encoding,) = encode_many(backbone, images, [method])
    stock = stock_forward(backbone, images, [method, METHODS.build("gem-paper:blocks=12")], positions=method.positions)

    def attended(layer: int) -> Tensor:
        heads = stock.heads(layer)
        return sum((side @ side.mT / math.sqrt(side.shape[-1])).softmax(dim=-1) for side in (heads.q, heads.k))

    weights = 0.7 * attended(12) + 0.3 * (attended(3) + attended(9)) / 2
    tokens = stock.tokens(-2) + backbone.blocks[-1].mix(weights, stock.heads(12))
    assert torch.allclose(encoding.patches, stock.layout.patches(backbone.project(tokens)), atol=1e-5)


def test_the_last_layer_may_stand_among_the_middle_ones(tiny, images):
    alone, both = encode_many(tiny, images, ["itaclip:middle=0", "itaclip:layers=12"])
    assert torch.allclose(alone.patches, both.patches, atol=1e-5)
    (sclip,) = encode_many(tiny, images, ["sclip:ffn=false"])
    assert torch.allclose(alone.patches, sclip.patches, atol=1e-5)


def unit(backbone, images: Tensor) -> Tensor:
    return F.normalize(encode_many(backbone, images, ["itaclip"])[0].patches, dim=-1)


def test_flips_are_turned_back_and_weighed(tiny, images):
    (encoding,) = encode_many(tiny, images, ["itaclip:views=vertical+horizontal,first_share=0.6"])
    down, across = (unit(tiny, images.flip(dim)).unflatten(1, (4, 6)).flip(dim - 1).flatten(1, 2) for dim in (2, 3))
    expected = 0.6 * unit(tiny, images) + 0.4 * (down + across) / 2
    assert torch.allclose(encoding.patches, expected, atol=1e-5)


def test_gray_and_blurred_images_are_averaged_without_length_one(tiny, images):
    (encoding,) = encode_many(tiny, images, ["itaclip:views=gray+blur"])
    gray = torch.einsum("c,bchw->bhw", torch.tensor([0.2989, 0.587, 0.114]), images)[:, None].expand(-1, 3, -1, -1)
    offsets = torch.arange(-5, 6, dtype=torch.float32)
    line = torch.exp(-offsets.square() / 50)
    kernel = (line[:, None] * line / line.sum().square()).expand(3, 1, -1, -1)
    blur = F.conv2d(F.pad(images, (5, 5, 5, 5), mode="reflect"), kernel, groups=3)
    expected = (unit(tiny, images) + unit(tiny, gray) + unit(tiny, blur)) / 3
    assert torch.allclose(encoding.patches, expected, atol=1e-4)
    assert encoding.patches.norm(dim=-1).max() < 1


def test_scores_of_views_are_products_and_of_one_view_cosines(tiny, images):
    width = tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1]
    features = F.normalize(torch.randn(3, width, generator=torch.Generator().manual_seed(0)), dim=-1)
    text = TextFeatures(features=features, owners=torch.arange(3), names=("a", "b", "c"))
    for spec, length_one in (("itaclip", True), ("itaclip:views=gray", False)):
        method = METHODS.build(spec)
        (encoding,) = encode_many(tiny, images, [method])
        patches = F.normalize(encoding.patches, dim=-1) if length_one else encoding.patches
        maps = method.scorer(encoding, text, (64, 96)).maps
        assert torch.allclose(maps, (patches @ features.T).mT.unflatten(2, (4, 6)), atol=1e-5)


def test_views_of_images_with_partial_patches_keep_the_grid(tiny):
    images = torch.randn(1, 3, 61, 90, generator=torch.Generator().manual_seed(0))
    (encoding,) = encode_many(tiny, images, ["itaclip:views=horizontal+gray"])
    assert encoding.layout.grid == (4, 6)
    assert encoding.patches.isfinite().all()


@pytest.mark.parametrize("setting", ["views=red", "views=gray+gray", "layers=0", "middle=2", "first_share=-1"])
def test_settings_without_meaning_are_refused(setting):
    with pytest.raises(ValueError, match=setting.partition("=")[0]):
        METHODS.build(f"itaclip:{setting}")


def test_a_model_with_too_few_blocks_is_refused_with_what_to_set():
    backbone = load_backbone("tiny:depth=4")
    with pytest.raises(ValueError, match=r"layers 7, 8, 10, and the model has 4 blocks\. Name layers"):
        encode_many(backbone, torch.zeros(1, 3, 64, 64), ["itaclip"])

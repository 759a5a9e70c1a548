"""ProxyCLIP's encoder against a slow transcription, and identities of its attention."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.base import join_heads, split_heads
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.layout import Grid, Layout, Padding
from diagnostics.purifiers.neighbor_median import NeighborMedian
from segment.encoders import proxy
from segment.encoders.encode_many import encode_many
from segment.encoders.proxy import Proxy, proxy_mix
from segment.encoders.second_backbone import second_backbone
from segment.methods import METHODS

SECOND = "tiny(patch=8,registers=4,seed=5)"
SPEC = f"proxyclip:vfm={SECOND}"


def slow_mix(features: Tensor, values: Tensor, beta: float, gamma: float) -> Tensor:
    """One image, entry by entry: (M, D'), (M, D) -> (M, D)."""
    count = len(features)
    alike = [[float(F.cosine_similarity(a, b, dim=0)) for b in features] for a in features]
    mean = sum(map(sum, alike)) / count**2
    mixed = []
    for row in alike:
        logits = [gamma * (entry - beta * mean) for entry in row]
        weights = [math.exp(logit) if logit >= 0 else 0.0 for logit in logits]
        total = torch.zeros_like(values[0])
        for weight, value in zip(weights, values, strict=True):
            total += weight / sum(weights) * value
        mixed.append(total)
    return torch.stack(mixed)


def slow_encoding(first: Backbone, second: Backbone, images: Tensor, beta: float, gamma: float) -> Tensor:
    """The whole encoder for images that both patches divide, with torch's own resize: (B, M, E)."""
    tokens = first.trunk(images, stop=-2, positions="bicubic-offset")
    block, layout = first.blocks[-1], first.layout(images)
    values = layout.to_map(layout.patches(join_heads(block.qkv(tokens).v))).permute(0, 3, 1, 2)
    pixels = images * images.new_tensor(first.std)[:, None, None] + images.new_tensor(first.mean)[:, None, None]
    again = (pixels - images.new_tensor(second.mean)[:, None, None]) / images.new_tensor(second.std)[:, None, None]
    finer = second.layout(again)
    projected = second.project(second.trunk(again, positions="bicubic-offset"))[:, finer.prefix :]
    large = F.interpolate(values, size=tuple(finer.grid), mode="bilinear", align_corners=False).flatten(2).mT
    mixed = torch.stack([slow_mix(*pair, beta, gamma) for pair in zip(projected, large, strict=True)])
    return first.project(block.merge_heads(split_heads(mixed, block.heads), mixed))


@pytest.fixture
def features() -> Tensor:
    """Of three kinds, so that the mean of the cosines lies well below the cosines within a kind."""
    kinds = torch.eye(3, 6).repeat_interleave(torch.tensor([3, 4, 5]), dim=0)
    return kinds + 0.2 * torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def values() -> Tensor:
    return torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("beta, gamma", [(1.2, 3.0), (1.0, 1.0), (0.5, 10.0)])
def test_the_mix_is_that_of_a_slow_loop(features, values, beta, gamma):
    expected = torch.stack([slow_mix(*pair, beta, gamma) for pair in zip(features, values, strict=True)])
    torch.testing.assert_close(proxy_mix(features, values, beta=beta, gamma=gamma), expected, atol=1e-5, rtol=0)


def test_some_rows_at_a_time_give_the_same_mix(features, values, monkeypatch):
    whole = proxy_mix(features, values, beta=1.2, gamma=3.0)
    monkeypatch.setattr(proxy, "ENTRIES", 5 * 2 * 12)
    torch.testing.assert_close(proxy_mix(features, values, beta=1.2, gamma=3.0), whole, atol=1e-6, rtol=0)


def test_patches_that_are_all_alike_keep_their_values(values):
    assert torch.equal(proxy_mix(torch.ones(2, 12, 6), values, beta=1.2, gamma=3.0), values)


def test_what_is_unlike_has_no_part_in_the_mix():
    features = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]])
    values = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert proxy_mix(features, values, beta=1.2, gamma=3.0).flatten().tolist() == pytest.approx([2, 2, 100])


def test_without_sharpening_every_patch_is_the_mean_of_the_values(tiny, images):
    layout = tiny.layout(images)
    tokens = tiny.trunk(images, stop=-2, positions="bicubic-offset")
    heads = tiny.blocks[-1].qkv(tokens)
    mean = layout.patches(heads.v, dim=2).mean(dim=2, keepdim=True)
    expected = tiny.project(tiny.blocks[-1].merge_heads(mean, heads.normed[:, :1]))
    encoding = encode_many(tiny, images, ["proxyclip:vfm=self,vfm_layer=8,gamma=0"])[0]
    assert encoding.layout == Layout(0, Grid(4, 6), None)
    torch.testing.assert_close(encoding.patches, expected.expand(-1, 24, -1), atol=1e-5, rtol=1e-5)


def test_the_encoder_is_that_of_a_slow_transcription(tiny, images):
    second = second_backbone(SECOND, like=tiny)
    encoding = encode_many(tiny, images, [SPEC])[0]
    assert encoding.layout == Layout(0, Grid(8, 12), None)
    assert encoding.class_token is None
    expected = slow_encoding(tiny, second, images, 1.2, 3.0)
    torch.testing.assert_close(encoding.patches, expected, atol=1e-4, rtol=1e-4)


def test_a_coarser_second_backbone_gives_a_coarser_grid(images):
    first = load_backbone("tiny:patch=8,size=64")
    encoding = encode_many(first, images, ["proxyclip:vfm=tiny"])[0]
    assert encoding.layout.grid == (4, 6)
    expected = slow_encoding(first, second_backbone("tiny", like=first), images, 1.2, 3.0)
    torch.testing.assert_close(encoding.patches, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("first", ["tiny", "tiny:class_token=false", "tiny:registers=4"])
@pytest.mark.parametrize("vfm", ["self,vfm_layer=6", SECOND, "tiny(class_token=false)"])
def test_any_prefix_and_any_size_runs_and_a_batch_equals_its_images(first, vfm):
    backbone = load_backbone(first)
    images = torch.randn(2, 3, 50, 84, generator=torch.Generator().manual_seed(0))
    spec = f"proxyclip:vfm={vfm}"
    whole = encode_many(backbone, images, [spec])[0]
    assert whole.patches.isfinite().all()
    for number in range(2):
        alone = encode_many(backbone, images[number : number + 1], [spec])[0]
        torch.testing.assert_close(whole.patches[number], alone.patches[0], atol=1e-4, rtol=1e-4)


def test_the_padding_is_that_of_the_second_grid(tiny):
    images = torch.randn(1, 3, 50, 84, generator=torch.Generator().manual_seed(0))
    encoding = encode_many(tiny, images, [SPEC])[0]
    assert encoding.padding == Padding(3, 3, 2, 2)
    assert encoding.layout.grid == (7, 11)


def test_bf16_is_near_fp32(images):
    fine = encode_many(load_backbone("tiny"), images, [SPEC])[0].patches
    coarse = encode_many(load_backbone("tiny", precision="bf16"), images, [SPEC])[0].patches
    assert coarse.dtype == torch.bfloat16
    assert F.cosine_similarity(fine, coarse.float(), dim=-1).min() > 0.97


def test_purified_patches_of_the_first_backbone_enter_the_last_block(tiny, images):
    encoder = Proxy(vfm="self", vfm_layer=6, detector=NormTopK(count=3), purifier=NeighborMedian(), vfm_positions=None)
    method = replace(METHODS["proxyclip"], encoder=encoder)
    purified = encode_many(tiny, images, [method])[0]
    plain = encode_many(tiny, images, [replace(method, encoder=replace(encoder, purifier=Proxy().purifier))])[0]
    assert (purified.extras["outliers"].sum(dim=1) == 3).all()
    assert not plain.extras["outliers"].any()
    assert not torch.allclose(purified.patches, plain.patches)


def test_inputs_and_weights_stay_as_they_are(tiny, images):
    before = images.clone(), {name: value.clone() for name, value in tiny.model.state_dict().items()}
    first = encode_many(tiny, images, [SPEC])[0].patches
    assert torch.equal(first, encode_many(tiny, images, [SPEC])[0].patches)
    assert torch.equal(images, before[0])
    assert all(torch.equal(value, before[1][name]) for name, value in tiny.model.state_dict().items())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`gamma`"):
        METHODS.build("proxyclip:gamma=-1")
    with pytest.raises(ValueError, match="vfm_tap"):
        METHODS.build("proxyclip:vfm_tap=keys")

"""The last block recombined, against transcriptions that make the matrix."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.base import QKV
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.purifiers.zero import Zero
from diagnostics.taps import Recorder
from segment.encoders.encode_many import encode_many
from segment.encoders.last_block import LastBlock, mean_logit_size
from segment.methods import METHODS

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def softmax_of(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.mT / math.sqrt(first.shape[-1])).softmax(dim=-1)


def eye_of(heads: QKV) -> Tensor:
    return torch.eye(heads.v.shape[2]).expand(*heads.v.shape[:3], -1)


MATRICES: dict[str, Callable[[QKV], Tensor]] = {
    "qk": lambda heads: softmax_of(heads.q, heads.k),
    "qq": lambda heads: softmax_of(heads.q, heads.q),
    "kk": lambda heads: softmax_of(heads.k, heads.k),
    "vv": lambda heads: softmax_of(heads.v, heads.v),
    "qq+kk": lambda heads: softmax_of(heads.q, heads.q) + softmax_of(heads.k, heads.k),
    "qq+vv": lambda heads: softmax_of(heads.q, heads.q) + softmax_of(heads.v, heads.v),
    "kk+vv": lambda heads: softmax_of(heads.k, heads.k) + softmax_of(heads.v, heads.v),
    "identity": eye_of,
}


def entering(backbone: Backbone, images: Tensor) -> Tensor:
    """What enters the last block, with the positions that the methods of SCLIP's line have."""
    return backbone.trunk(images, stop=-2, positions="bicubic-offset")


def slow(
    backbone: Backbone,
    tokens: Tensor,
    matrix: Callable[[QKV], Tensor],
    *,
    residual: bool,
    ffn: bool,
    alpha: float = 1,
) -> Tensor:
    block = backbone.blocks[-1]
    heads = block.qkv(tokens)
    values = alpha * block.mix(matrix(heads), heads)
    if residual:
        values = tokens + values
    if ffn:
        values = values + block.ffn(values)
    return backbone.project(values)


def patches(backbone: Backbone, images: Tensor, spec: str) -> Tensor:
    return encode_many(backbone, images, [spec])[0].patches


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("ffn", [True, False])
@pytest.mark.parametrize("kernel", MATRICES)
def test_every_kernel_residual_and_ffn_of_the_papers_tables_is_a_spec(tiny, images, layout, kernel, residual, ffn):
    # ClearCLIP, Table 1 (residual and FFN), SFP's supplement, Table 1, and SC-CLIP, Table 8 (kernels).
    expected = slow(tiny, entering(tiny, images), MATRICES[kernel], residual=residual, ffn=ffn)
    for base in ("clip", "clearclip"):
        features = patches(tiny, images, f"{base}:kernel={kernel},residual={residual},ffn={ffn}")
        torch.testing.assert_close(features, layout.patches(expected), **CLOSE)


def test_with_its_defaults_it_is_the_stock_forward(tiny, images, layout):
    stock = tiny.project(tiny.trunk(images, positions="bicubic-offset"))
    (encoding,) = encode_many(tiny, images, ["clip"])
    torch.testing.assert_close(encoding.patches, layout.patches(stock), **CLOSE)
    torch.testing.assert_close(encoding.class_token, stock[:, 0], **CLOSE)


@pytest.mark.parametrize(
    "name,kernel,residual,ffn",
    [
        ("maskclip", "identity", True, True),
        ("sclip", "qq+kk", True, True),
        ("clearclip", "qq", False, False),
    ],
)
def test_the_methods_are_what_their_papers_say(tiny, images, layout, name, kernel, residual, ffn):
    expected = slow(tiny, entering(tiny, images), MATRICES[kernel], residual=residual, ffn=ffn)
    torch.testing.assert_close(patches(tiny, images, name), layout.patches(expected), **CLOSE)


def gaussian_logits(backbone: Backbone, images: Tensor, spread: float) -> Tensor:
    """NACLIP's ω by a loop over pairs of patches: (T, T)."""
    layout = backbone.layout(images)
    bias = torch.zeros(layout.tokens, layout.tokens)
    for i in range(layout.count):
        for j in range(layout.count):
            down, across = i // layout.grid.cols - j // layout.grid.cols, i % layout.grid.cols - j % layout.grid.cols
            distance = down**2 + across**2
            bias[layout.prefix + i, layout.prefix + j] = math.exp(-distance / (2 * spread**2))
    return bias


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=4", "tiny:class_token=false"])
@pytest.mark.parametrize("spread", [5.0, 1.0])
def test_naclip_adds_a_gaussian_of_the_distance_to_the_logits(images, spec, spread):
    backbone = load_backbone(spec)
    bias = gaussian_logits(backbone, images, spread)

    def matrix(heads: QKV) -> Tensor:
        return (heads.k @ heads.k.mT / math.sqrt(heads.k.shape[-1]) + bias).softmax(dim=-1)

    expected = slow(backbone, entering(backbone, images), matrix, residual=False, ffn=False)
    features = patches(backbone, images, f"naclip:gaussian={spread}")
    torch.testing.assert_close(features, backbone.layout(images).patches(expected), **CLOSE)


def test_naclips_nonly_strategy_has_no_content_but_a_gaussian_of_the_logits_size(tiny, images, layout):
    tokens = entering(tiny, images)
    heads = tiny.blocks[-1].qkv(tokens)
    sizes = []
    for q, k in zip(heads.q, heads.k, strict=True):  # of one image: (H, T, d)
        products = [float(a.norm() * b.norm()) for head in range(len(q)) for a in q[head] for b in k[head]]
        sizes.append(sum(products) / len(products) / math.sqrt(q.shape[-1]))
    assert mean_logit_size(heads).flatten().tolist() == pytest.approx(sizes, rel=1e-5)
    weights = (gaussian_logits(tiny, images, 5.0) * torch.tensor(sizes)[:, None, None, None]).softmax(dim=-1)
    expected = slow(tiny, tokens, lambda _: weights.expand_as(eye_of(heads)), residual=False, ffn=False)
    features = patches(tiny, images, "naclip:kernel=none,gaussian_scale=norms")
    torch.testing.assert_close(features, layout.patches(expected), **CLOSE)


def test_one_softmax_on_the_mean_of_two_logits_is_a_spec(tiny, images, layout):
    def matrix(heads: QKV) -> Tensor:
        logits = (heads.q @ heads.q.mT + heads.k @ heads.k.mT) / math.sqrt(heads.q.shape[-1])
        return (logits / 2).softmax(dim=-1)

    expected = slow(tiny, entering(tiny, images), matrix, residual=True, ffn=True)
    features = patches(tiny, images, "sclip:combine=joint")
    torch.testing.assert_close(features, layout.patches(expected), **CLOSE)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 2.0])
def test_alpha_scales_attention_against_the_residual(tiny, images, layout, alpha):
    expected = slow(tiny, entering(tiny, images), MATRICES["qq"], residual=True, ffn=False, alpha=alpha)
    features = patches(tiny, images, f"clearclip:residual=true,alpha={alpha}")
    torch.testing.assert_close(features, layout.patches(expected), **CLOSE)


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=4"])
def test_prefix_tokens_can_be_left_out_of_the_keys(images, spec):
    backbone = load_backbone(spec)
    prefix = backbone.prefix

    def matrix(heads: QKV) -> Tensor:
        logits = heads.k @ heads.k.mT / math.sqrt(heads.k.shape[-1])
        logits[..., :prefix] = -torch.inf
        return logits.softmax(dim=-1)

    expected = slow(backbone, entering(backbone, images), matrix, residual=False, ffn=False)
    features = patches(backbone, images, "naclip:gaussian=0,class_in_keys=false")
    torch.testing.assert_close(features, expected[:, prefix:], **CLOSE)
    assert not torch.allclose(features, patches(backbone, images, "naclip:gaussian=0"), atol=1e-3)


def test_outliers_are_purified_where_they_enter_the_block(tiny, images, layout):
    tokens = entering(tiny, images).clone()
    recorder = Recorder("block_out", layers=[-2])
    tiny.trunk(images, stop=-2, tap=recorder, positions="bicubic-offset")
    mask = NormTopK(count=3)(recorder.recording, layout).mask
    layout.patches(tokens)[mask] = 0
    expected = slow(tiny, tokens, MATRICES["qq"], residual=False, ffn=False)
    (encoding,) = encode_many(tiny, images, ["clearclip:detector=norm-topk(count=3),purifier=zero"])
    torch.testing.assert_close(encoding.patches, layout.patches(expected), **CLOSE)
    assert torch.equal(encoding.extras["outliers"], mask)
    assert mask.sum(dim=1).tolist() == [3, 3]
    assert METHODS.build("clearclip:purifier=zero").encoder.purifier == Zero()


def test_the_stock_pass_stops_before_the_block_that_is_replaced(tiny, images):
    assert {layer for _, layer in LastBlock().needs(12)} == {-2}


def test_a_negative_spread_and_an_unknown_kernel_are_refused():
    with pytest.raises(ValueError, match=r"`gaussian` should be at least 0 .*a standard deviation in patches.*got -1"):
        LastBlock(gaussian=-1)
    with pytest.raises(ValueError, match="no attention kernel `kq`"):
        METHODS.build("clip:kernel=kq")


@pytest.mark.parametrize("spec", ["clip:", "proxyclip:vfm=self,vfm_tap=block_out,"])
def test_a_single_block_has_nothing_before_it_to_read_attention_from(images, spec):
    backbone = load_backbone("tiny:depth=1")
    with pytest.raises(ValueError, match=r"can't run on .*its detector reads `query`, which the embedding lacks"):
        encode_many(backbone, images, [f"{spec}detector=som,purifier=mean"])
    (encoding,) = encode_many(backbone, images, [f"{spec}detector=norm-topk(count=2),purifier=zero"])
    assert encoding.extras["outliers"].sum(dim=1).tolist() == [2, 2]


def test_a_second_backbone_says_what_its_embedding_lacks(tiny, images):
    with pytest.raises(ValueError, match=r"reads `query`, which the embedding lacks"):
        encode_many(tiny, images, ["lavg:vfm=self,vfm_size=none,vfm_layer=1,vfm_detector=som,vfm_purifier=mean"])

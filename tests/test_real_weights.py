"""A real ViT-Ti with natural outliers tells the story known of it. Its weights are kept outside the repository."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diagnostics import load_backbone, probe
from diagnostics.backbones.weights import read_weights
from diagnostics.detectors import DETECTORS

# What is known of vit_tiny_patch16_224 (augreg) on photographs at 224: see the fixture `measured`.
JUMP = 8
CHANNEL = 41


@pytest.fixture(scope="module")
def measured(shared):
    """Every third of the 150 images of the PASCAL VOC 2012 subset, measured with their label maps."""
    backbone = load_backbone(f"timm:vit_tiny_patch16_224@{shared / 'data' / 'vit_tiny_patch16_224.safetensors'}")
    folder = shared / "data" / "voc2012_subset"
    images = sorted((folder / "JPEGImages").glob("*.jpg"))[::3]
    return probe(backbone, images, labels=folder / "SegmentationClass")


def test_norms_jump_at_block_8_from_some_20_to_some_540(measured):
    largest = measured["norm"].max(("row", "col")).median("image")
    assert largest.sel(layer=slice(1, JUMP - 1)).max() < 40
    assert 450 < largest.sel(layer=JUMP) < 620
    assert (largest.sel(layer=slice(JUMP, None)) > 450).all()


def test_each_image_has_a_few_outliers_from_there_on(measured):
    counts = measured["norm_outliers"]
    assert (counts.sel(layer=slice(1, JUMP - 1)) == 0).mean() > 0.95
    after = counts.sel(layer=slice(JUMP, None))
    assert 2 <= after.median() <= 4
    assert (after > 0).all()


def test_one_channel_carries_them(measured):
    assert (measured["top_channel"].sel(rank=1, layer=slice(JUMP, None)) == CHANNEL).all()


def test_the_entropy_of_the_residual_stream_collapses_and_that_of_attention_does_not(measured):
    entropy = measured["entropy"].mean("image")
    before = entropy.sel(stream="block_in", layer=JUMP)
    after = entropy.sel(stream="block_in", layer=JUMP + 1)
    assert before > 0.95
    assert after < 0.07
    assert (entropy.sel(stream="attn_out", layer=slice(1, 11)) > 0.98).all()


def test_patches_and_class_token_look_at_the_outliers_from_block_9_on(measured):
    outlier = measured["norm"].sel(layer=JUMP + 1) > 100
    for name in ("class_attention", "received_attention"):
        attention = measured[name].mean("head")
        share = attention.where(outlier).sum(("row", "col")).mean("image")
        even = float(outlier.sum(("row", "col")).mean()) / 197
        assert share.sel(layer=slice(JUMP + 1, None)).min() > 3 * even, name


def test_same_class_auc_peaks_in_the_middle_and_drops_after(measured):
    for curve in (measured["auc"].mean("image"), measured["auc_pooled"]):
        peak = int(curve["layer"][int(np.argmax(curve.values))])
        assert peak in (7, 8)
        assert float(curve.max()) - float(curve.sel(layer=10)) > 0.015
        assert float(curve.max()) - float(curve.sel(layer=1)) > 0.05


@pytest.fixture(scope="module")
def without(shared):
    """Relative patch norms (120, 256) of 10 images and 12 layers of DINOv2-S/14, which has no norm outliers."""
    backbone = load_backbone(
        f"timm:vit_small_patch14_dinov2@{shared / 'data' / 'vit_small_patch14_dinov2.safetensors'}"
    )
    images = sorted((shared / "data" / "voc2012_subset" / "JPEGImages").glob("*.jpg"))[::15]
    norms = probe(backbone, images, measures=["norms"], size="224")["norm"]
    flat = torch.from_numpy(norms.values.reshape(120, -1))
    return flat / flat.quantile(0.5, dim=1, keepdim=True)


@pytest.mark.parametrize("rule", ["otsu", "mad", "mixture", "knee"])
def test_adaptive_rules_mark_the_outliers_of_one_model_and_next_to_none_in_another_without(rule, measured, without):
    detector = DETECTORS.build(f"adaptive:detector=relative-norm,rule={rule}")
    norms = measured["norm"].sel(layer=slice(JUMP, None))
    flat = torch.from_numpy(norms.values.reshape(-1, norms.sizes["row"] * norms.sizes["col"]))
    relative = flat / flat.quantile(0.5, dim=1, keepdim=True)
    marked = detector.mark(relative)
    # The gap takes none away; a few lie below the rule's own cut.
    far = relative > 10
    assert torch.equal(marked & far, replace(detector, gap=0, most=1).mark(relative) & far)
    assert (marked & far).sum() >= 0.97 * far.sum()
    assert marked.sum() <= 1.1 * (relative > 3).sum()
    assert detector.mark(without).any(dim=1).sum() <= 3
    assert detector.mark(without).sum() <= 3


def transformers_copy(weights, folder, **config):
    """The same weights as a folder in transformers' layout, renamed by hand; timm's are read from a file."""
    named = {}
    for name, weight in weights.items():
        if ".attn.qkv." in name:
            start, end = name.split(".attn.qkv.")
            for part, rows in zip(("query", "key", "value"), weight.chunk(3), strict=True):
                named[f"{start}.attention.attention.{part}.{end}"] = rows.clone()
        else:
            named[name] = weight
    dino = config["model_type"] == "dinov2"
    old_and_new = [
        ("blocks.", "encoder.layer."),
        ("attn.proj.", "attention.output.dense."),
        ("norm1.", "norm1." if dino else "layernorm_before."),
        ("norm2.", "norm2." if dino else "layernorm_after."),
        ("mlp.fc1.", "mlp.fc1." if dino else "intermediate.dense."),
        ("mlp.fc2.", "mlp.fc2." if dino else "output.dense."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ("pos_embed", "embeddings.position_embeddings"),
        ("cls_token", "embeddings.cls_token"),
    ]
    for old, new in old_and_new:
        named = {name.replace(old, new): weight for name, weight in named.items()}
    named = {f"layernorm.{name[5:]}" if name.startswith("norm.") else name: weight for name, weight in named.items()}
    named = {
        f"classifier.{name[5:]}" if name.startswith("head.") else f"{config['model_type']}.{name}": weight
        for name, weight in named.items()
    }
    folder.mkdir()
    save_file(named, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.mark.parametrize(
    "name, size, config",
    [
        ("vit_tiny_patch16_224", 224, {"model_type": "vit", "num_attention_heads": 3, "layer_norm_eps": 1e-6}),
        ("vit_small_patch14_dinov2", 518, {"model_type": "dinov2", "num_attention_heads": 6, "image_size": 518}),
    ],
)
def test_a_copy_in_transformers_layout_gives_the_same_numbers(shared, tmp_path, name, size, config):
    file = shared / "data" / f"{name}.safetensors"
    weights = read_weights(file)
    ours = load_backbone(transformers_copy(weights, tmp_path / "copy", **config))
    stock = load_backbone(f"timm:{name}@{file}")
    assert ours.native_size == stock.native_size == (size, size)
    ours.positions = stock.positions
    for shape in ((size, size), (112, 224)):
        images = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0))
        expected = stock(images)
        assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()

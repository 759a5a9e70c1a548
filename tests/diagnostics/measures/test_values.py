"""Values, and attention weighted by them, against plain loops; also with registers and without a class token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.images import normalize
from diagnostics.measures import MEASURES
from diagnostics.studies.probe import measure_images
from diagnostics.studies.rollout import rollout
from diagnostics.taps import Recorder

SPECS = ["tiny:depth=3", "tiny:depth=3,registers=2", "tiny:depth=3,class_token=false"]


def images(batch=2):
    return torch.randn(batch, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def recorded(backbone):
    recorder = Recorder("attention", "value", "block_in", layers=[3])
    with torch.no_grad():
        backbone.trunk(images(), tap=recorder)
    return recorder


@pytest.mark.parametrize("spec", SPECS)
def test_values_weigh_attention_as_plain_loops_do(spec):
    backbone = load_backbone(spec)
    names = ["value-norm", "value-attention", "output-rank-one:ratio=1.02"]
    names += ["class-contribution"] if backbone.class_index is not None else []
    measured = measure_images(backbone, images(), [MEASURES.build(name) for name in names], layers=[3])
    recorder, layout = recorded(backbone), backbone.layout(images())
    weights, values = recorder["attention", 3].double(), recorder["value", 3].double()
    first, count, cols = layout.prefix, layout.count, layout.grid.cols
    for image in range(2):
        norms = recorder["block_in", 3][image, first:].double().norm(dim=-1)
        ordinary = norms <= 1.02 * norms.quantile(0.5)
        assert not ordinary.all()
        for head in range(backbone.heads):
            for patch in range(count):
                norm = float(values[image, head, first + patch].norm())
                place = (image, 0, head, patch // cols, patch % cols)
                received = sum(float(weights[image, head, first + query, first + patch]) for query in range(count))
                assert float(measured["value_norm"][place]) == pytest.approx(norm, rel=1e-4)
                assert float(measured["value_attention"][place]) == pytest.approx(received / count * norm, rel=1e-4)
                if layout.has_class_token:
                    share = float(weights[image, head, layout.class_index, first + patch])
                    assert float(measured["class_contribution"][place]) == pytest.approx(share * norm, rel=1e-4)
            for name, keep in (("", torch.ones(count)), ("_without", ordinary.double())):
                output = (weights[image, head, first:, first:] * keep) @ values[image, head, first:]
                squares = torch.linalg.svdvals(output) ** 2
                share = float(measured[f"output_rank_one_share{name}"][image, 0, head])
                assert share == pytest.approx(float(squares[0] / squares.sum()), rel=1e-3)


@pytest.mark.parametrize("weigh", ["attention", "values"])
def test_rollout_is_the_product_of_half_attention_and_half_identity(weigh):
    backbone = load_backbone("tiny:depth=3,registers=2")
    pixels = [np.random.default_rng(0).integers(0, 255, (32, 48, 3)).astype(np.uint8)]
    maps = rollout(backbone, pixels, weigh=weigh, size="48x32", layer=2)
    recorder = Recorder("attention", "value", layers=[1, 2])
    shown = normalize(torch.from_numpy(pixels[0]).permute(2, 0, 1) / 255, backbone.mean, backbone.std)
    with torch.no_grad():
        backbone.trunk(shown[None], tap=recorder)
    product = np.eye(recorder["attention", 1].shape[-1])
    for layer in (1, 2):
        weights = recorder["attention", layer][0].double().numpy()
        if weigh == "values":
            weights = weights * np.linalg.norm(recorder["value", layer][0].double().numpy(), axis=-1)[:, None]
        mean = weights.mean(axis=0)
        mean /= mean.sum(axis=1, keepdims=True)
        product = (0.5 * mean + 0.5 * np.eye(len(mean))) @ product
    layout = backbone.layout(shown[None])
    expected = product[layout.class_index, layout.prefix :].reshape(layout.grid)
    assert maps[0] == pytest.approx(expected, rel=1e-4)
    patch = rollout(backbone, pixels, weigh=weigh, size="48x32", layer=2, query=(1, 2))
    row = layout.prefix + layout.grid.cols + 2
    assert patch[0] == pytest.approx(product[row, layout.prefix :].reshape(layout.grid), rel=1e-4)


def test_rollout_refuses_what_is_not_there():
    backbone = load_backbone("tiny:depth=3,class_token=false")
    pixels = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="no class token"):
        rollout(backbone, pixels)
    with pytest.raises(ValueError, match="should lie in the grid"):
        rollout(backbone, pixels, query=(99, 0))
    with pytest.raises(ValueError, match="should be a block"):
        rollout(backbone, pixels, layer=0, query="mean")

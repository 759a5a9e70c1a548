"""SC-CLIP as printed: its equations against a slow transcription with scikit-learn's local outlier factor."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import LocalOutlierFactor as SklearnLof
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.layout import Grid
from segment.encoders.encode_many import encode_many

GRID = Grid(6, 7)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two images of 6 x 7 patches."""
    return torch.randn(2, 3, 96, 112, generator=torch.Generator().manual_seed(4))


def anomalies(penultimate: Tensor) -> set[int]:
    """The ten patches that scikit-learn's factor finds most outlying."""
    factor = SklearnLof(n_neighbors=30).fit(penultimate.numpy())
    return set((-factor.negative_outlier_factor_).argsort()[-10:].tolist())


def equation_3(patches: Tensor, marked: set[int]) -> Tensor:
    fixed = patches.clone()
    for place in marked:
        x, y = divmod(place, GRID.cols)
        total, weight = torch.zeros_like(patches[0]), 0
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                inside = 0 <= x + i < GRID.rows and 0 <= y + j < GRID.cols
                other = (x + i) * GRID.cols + y + j
                if inside and other not in marked:
                    total += patches[other]
                    weight += 1
        if weight:
            fixed[place] = total / weight
    return fixed


def simi(patches: Tensor) -> Tensor:
    unit = torch.stack([patch / patch.norm() for patch in patches])
    return unit @ unit.T


def equations_4_and_5(affinity: Tensor, deep: Tensor) -> Tensor:
    """With values below 0.4 at zero (supplement, Sec 6)."""
    adjusted = torch.zeros_like(deep)
    for p, row in enumerate(affinity):
        kept = [value if value >= 0.4 else torch.tensor(0.0) for value in row]
        for q, value in enumerate(kept):
            adjusted[p] += value / sum(kept) * deep[q]
    return adjusted


def equation_6(backbone: Backbone, patches: Tensor, affinity: Tensor) -> Tensor:
    """The last layer with softmax(KK) + softmax(Simi), without residual and FFN."""
    block = deepcopy(backbone.model.visual.transformer.resblocks[-1]).double()
    width, heads = patches.shape[1], block.attn.num_heads
    normed = F.layer_norm(patches, (width,), block.ln_1.weight, block.ln_1.bias, block.ln_1.eps)
    joint = normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    masked = torch.where(affinity < 0, 0.0, affinity.exp())
    shared = masked / masked.sum(dim=1, keepdim=True)
    columns, each = [], width // heads
    for head in range(heads):
        k = joint[:, width + head * each : width + (head + 1) * each]
        v = joint[:, 2 * width + head * each : 2 * width + (head + 1) * each]
        columns.append((torch.softmax(k @ k.T / each**0.5, dim=1) + shared) @ v)
    return block.attn.out_proj(torch.cat(columns, dim=1))


def slow_sc_clip(backbone: Backbone, image: Tensor) -> tuple[Tensor, set[int]]:
    """Patches (N, E) of one image (1, 3, h, w) by the paper's text, and its anomaly tokens."""
    layers: dict[int, Tensor] = {}

    def keep(name: str, layer: int, value: Tensor) -> Tensor:
        if name == "block_out":
            layers[layer] = value[0, 1:].double()
        return value

    backbone.trunk(image, tap=keep, positions="bicubic-offset")
    marked = anomalies(layers[11])
    middle = simi(layers[9])
    first = equation_6(backbone, equations_4_and_5(middle, equation_3(layers[11], marked)), middle)
    second = equation_6(backbone, sum(layers[layer] for layer in range(4, 11)), middle)
    last = equations_4_and_5(simi(layers[4]), first + second)
    norm = deepcopy(backbone.model.visual.ln_post).double()
    normed = F.layer_norm(last, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return normed @ backbone.model.visual.proj.double(), marked


def test_the_equations_equal_a_slow_transcription(tiny, images):
    encoding = encode_many(tiny, images, ["sc-clip-paper"])[0]
    for number in range(2):
        expected, places = slow_sc_clip(tiny, images[number : number + 1])
        assert set(encoding.extras["outliers"][number].nonzero()[:, 0].tolist()) == places
        torch.testing.assert_close(encoding.patches[number].double(), expected, atol=1e-4, rtol=1e-4)


def test_ten_patches_are_purified_whatever_the_grid(tiny):
    wide = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(5))
    encodings = encode_many(tiny, wide, ["sc-clip-paper", "sc-clip-paper:count=4"])
    assert [int(encoding.extras["outliers"].sum()) for encoding in encodings] == [10, 4]


def test_a_class_token_is_not_needed(images):
    encoding = encode_many(load_backbone("tiny:class_token=false"), images, ["sc-clip-paper"])[0]
    assert encoding.class_token is None
    assert torch.isfinite(encoding.patches).all()


def test_print_and_release_differ(tiny, images):
    printed, released = encode_many(tiny, images, ["sc-clip-paper", "sc-clip"])
    assert not torch.allclose(printed.patches, released.patches, atol=1e-2)

"""The choice of sharp heads against loops over heads, alone and in SC-CLIP's path."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diagnostics.backbones.base import QKV
from segment.encoders.encode_many import encode_many, stock_forward
from segment.encoders.sharp_heads import handed_out, map_entropy, sharpest, sharpest_mix
from segment.methods import METHODS


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def heads() -> QKV:
    """Heads of different sharpness: keys of head h are h + 1 times as long."""
    q, k, v = (random(2, 3, 5, 4, seed=seed) for seed in (1, 2, 3))
    return QKV(q, k * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), v, torch.zeros(2, 5, 12))


def test_entropy_is_that_of_a_loop_in_bits(heads):
    weights = (heads.q @ heads.k.mT).softmax(dim=-1)
    expected = [
        [-sum(float(a) * math.log2(float(a) + 1e-6) for a in weights[b, h].flatten()) for h in range(3)]
        for b in range(2)
    ]
    assert torch.allclose(map_entropy(weights), torch.tensor(expected), atol=1e-4)


def test_the_lowest_are_chosen_and_equal_ones_with_them():
    entropy = torch.tensor([[3.0, 1.0, 2.0, 1.0], [4.0, 4.0, 4.0, 5.0]])
    assert sharpest(entropy, 1).tolist() == [[False, True, False, True], [True, True, True, False]]
    assert sharpest(entropy, 3).tolist() == [[False, True, True, True], [True, True, True, False]]
    assert sharpest(entropy, 9).all()


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("with_similarity", [True, False])
def test_the_mix_is_that_of_a_loop_over_heads(heads, count, with_similarity):
    similar = random(2, 5, 5, seed=4).softmax(dim=-1) if with_similarity else None
    mixed = sharpest_mix(heads, count, similar)
    for image in range(2):
        maps = []
        for head in range(3):
            weights = (heads.k[image, head] @ heads.k[image, head].T / 2).softmax(dim=-1)
            maps.append(weights if similar is None else (weights + similar[image]) / 2)
        order = sorted(range(3), key=lambda h: float(-(maps[h] * (maps[h] + 1e-6).log2()).sum()))
        whole = torch.cat([heads.v[image, head] for head in range(3)], dim=-1)
        expected = sum(maps[head] @ whole for head in order[:count]) / 3
        assert torch.allclose(mixed[image].transpose(0, 1).flatten(1), expected, atol=1e-5)


def test_what_heads_hand_out_is_chosen_by_queries_and_mixed_by_keys(tiny, images):
    method = METHODS.build("dih-clip:heads=1")
    stock = stock_forward(tiny, images, [method, METHODS.build("gem-paper:blocks=12")], positions=method.positions)
    heads, block = stock.heads(9), tiny.blocks[8]
    out = handed_out(stock, 9, 1)
    for image in range(2):
        scale = math.sqrt(heads.q.shape[-1])
        asked = [(heads.q[image, h] @ heads.k[image, h].T / scale).softmax(dim=-1) for h in range(2)]
        best = min(range(2), key=lambda h: float(-(asked[h] * (asked[h] + 1e-6).log2()).sum()))
        weights = (heads.k[image, best] @ heads.k[image, best].T / scale).softmax(dim=-1)
        mixed = torch.stack([weights @ heads.v[image, h] for h in range(2)])[None]
        assert torch.allclose(out[image], block.merge_heads(mixed, heads.normed[image : image + 1])[0], atol=1e-5)


def test_all_heads_are_another_method_than_each_with_its_own_values(tiny, images):
    separate, every, single = encode_many(
        tiny, images, ["sc-clip:purifier=keep", "sc-clip:purifier=keep,heads=2", "sc-clip:purifier=keep,heads=1"]
    )
    assert not torch.allclose(separate.patches, every.patches, atol=1e-3)
    assert not torch.allclose(single.patches, every.patches, atol=1e-3)
    (named,) = encode_many(tiny, images, ["dih-clip:heads=1"])
    assert torch.equal(named.patches, single.patches)


@pytest.mark.parametrize(
    "setting", ["heads=0", "heads=2,kernel=qq+kk", "heads=2,terms=sum", "heads=1,similarity_weight=0"]
)
def test_settings_without_meaning_are_refused(setting):
    with pytest.raises(ValueError, match="heads"):
        METHODS.build(f"sc-clip:{setting}")

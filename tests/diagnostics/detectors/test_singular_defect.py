"""The defect direction from the weights: exact for linear blocks, and that of the channels planted in `tiny`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import Block
from diagnostics.detectors.singular_defect import SingularDefect, defect_directions, linear_fit
from diagnostics.layout import Grid, Layout


class LinearBlock(Block):
    """Both branches are plain matrices with a bias, and there is no norm."""

    heads = 1

    def __init__(self, attention, ffn):
        self.attention, self.feed = attention, ffn

    def norm(self, x):
        return x

    def project_heads(self, normed):
        value = (normed @ self.attention.T)[:, None]
        return value, value, value

    def merge_heads(self, mixed, normed):
        return mixed[:, 0] + 3.0

    def ffn_hidden(self, x):
        return x @ self.feed.T

    def ffn_out(self, hidden):
        return hidden - 5.0


class LinearBackbone:
    """As much of a backbone as the weights-only detector looks at."""

    def __init__(self, blocks, width):
        self.blocks, self.width, self.depth = blocks, width, len(blocks)
        self.device, self.dtype = torch.device("cpu"), torch.float64


def test_direction_of_linear_blocks_is_the_singular_vector_of_their_product():
    matrices = torch.randn(3, 2, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    backbone = LinearBackbone([LinearBlock(*pair) for pair in matrices], 12)
    eye = torch.eye(12, dtype=torch.float64)
    product = eye
    for attention, ffn in matrices[:2]:
        product = (eye + ffn) @ (eye + attention) @ product
    expected = torch.linalg.svd(product).U[:, 0]
    direction = defect_directions(backbone, [2], samples=4, seed=0)[2]  # type: ignore[arg-type]
    torch.testing.assert_close(direction, expected * expected[expected.abs().argmax()].sign())


def test_the_fit_leaves_the_bias_out_and_takes_the_slope_of_a_bend():
    drawn = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)).double()
    tokens = torch.cat([drawn, -drawn])
    slopes = linear_fit(lambda x: x.relu() + 7, tokens, torch.linalg.pinv(tokens))
    # The best line through a ramp that starts at 0 has slope 1/2 for symmetric inputs.
    torch.testing.assert_close(slopes, 0.5 * torch.eye(3, dtype=torch.float64), atol=0.05, rtol=0)


def test_direction_in_tiny_outliers_is_of_unit_length_repeatable_and_that_of_the_planted_channels():
    outlying = load_backbone("tiny:outliers=true")
    first, second = (SingularDefect().fitted(outlying, torch.zeros(0, 3, 224, 224), 6) for _ in range(2))
    assert first == second
    direction = torch.tensor(first.direction)
    assert direction.norm().item() == pytest.approx(1, abs=1e-5)
    written = torch.zeros(64)
    written[17], written[44] = 1.0, -1.0
    assert abs(F.cosine_similarity(direction, written, dim=0)) > 0.9
    before = torch.tensor(SingularDefect().fitted(outlying, torch.zeros(0, 3, 224, 224), 5).direction)
    assert abs(F.cosine_similarity(before, written, dim=0)) < 0.5


@pytest.mark.parametrize("spec", ["tiny", "tiny:class_token=false,depth=2", "tiny:registers=4,depth=2"])
def test_every_adapter_gives_a_direction_and_keeps_its_weights(spec, images):
    backbone = load_backbone(spec)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    detector = SingularDefect().fitted(backbone, images, 2)
    assert len(detector.direction) == 48
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())


def test_score_is_the_cosine_whatever_its_sign(recording_of):
    tokens = torch.tensor([[[9.0, 9.0], [2.0, 0.0], [-5.0, 0.0], [0.0, 3.0], [3.0, 4.0], [0.0, 0.0], [1.0, 1.0]]])
    outliers = SingularDefect(direction=(1.0, 0.0))(recording_of(block_out=tokens), Layout(1, Grid(2, 3)))
    torch.testing.assert_close(outliers.scores, torch.tensor([[1.0, 1.0, 0.0, 0.6, 0.0, 0.5**0.5]]))
    assert outliers.mask.tolist() == [[True, True, False, True, False, True]]


def test_a_damaged_image_leaves_the_others_alone_and_half_precision_is_scored_in_fp32(recording_of):
    tokens = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    detector, layout = SingularDefect(direction=(0.5, 0.5, 0.5, 0.5)), Layout(0, Grid(2, 3))
    whole = detector(recording_of(block_out=tokens), layout)
    assert whole.scores.dtype == torch.float32
    tokens[1, 0, 0] = torch.nan
    damaged = detector(recording_of(block_out=tokens), layout)
    assert torch.equal(damaged.scores[0], whole.scores[0])
    assert damaged.scores[1].isnan().all()
    assert not damaged.mask[1].any()


def test_errors_say_what_to_do(tiny, images, recording_of):
    layout = Layout(0, Grid(2, 3))
    with pytest.raises(ValueError, match=r"detector\.fitted\(backbone, images, layer\)"):
        SingularDefect()(recording_of(block_out=torch.ones(1, 6, 4)), layout)
    with pytest.raises(ValueError, match="backbone of width 2; these tokens have width 4"):
        SingularDefect(direction=(1.0, 0.0))(recording_of(block_out=torch.ones(1, 6, 4)), layout)
    with pytest.raises(ValueError, match="layer 0 is before all blocks"):
        SingularDefect().fitted(tiny, images, 0)
    with pytest.raises(ValueError, match="`threshold` should be"):
        SingularDefect(threshold=float("nan"))
    with pytest.raises(ValueError, match="`samples` should be"):
        SingularDefect(samples=0)


def test_layers_fitted_together_are_those_fitted_alone(tiny):
    together = SingularDefect(samples=1).fitted_to(tiny, torch.zeros(0, 3, 64, 64), [3, -1])
    for layer in (3, -1):
        alone = SingularDefect(samples=1).fitted(tiny, torch.zeros(0, 3, 64, 64), layer)
        assert together[layer].direction == pytest.approx(alone.direction, abs=1e-5)

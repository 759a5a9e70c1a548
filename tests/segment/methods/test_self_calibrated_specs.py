"""Names and settings at the door of SC-CLIP and SFP."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.detectors.som import Som
from diagnostics.detectors.som_release import SomRelease
from diagnostics.purifiers.neighbor_mean import NeighborMean
from diagnostics.purifiers.neighbor_median import NeighborMedian
from diagnostics.purifiers.sfp_sum import SfpSum
from segment.encoders.encode_many import encode_many
from segment.methods import METHODS


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(
    ("spec", "detector", "purifier"),
    [
        ("sc-clip", LofRelease, NeighborMean),
        ("sc-clip-paper", LocalOutlierFactor, NeighborMean),
        ("sfp", SomRelease, NeighborMean),
        ("sfp-paper", Som, SfpSum),
        ("sfp:detector=norm-topk", NormTopK, NeighborMean),
        ("sfp:detector=lof-release", LofRelease, NeighborMean),
        ("sc-clip:detector=som,purifier=median", Som, NeighborMedian),
    ],
)
def test_a_spec_names_detector_and_purifier(tiny, images, spec, detector, purifier):
    method = METHODS.build(spec)
    assert type(method.settings()["detector"]) is detector
    assert type(method.settings()["purifier"]) is purifier
    assert torch.isfinite(encode_many(tiny, images, [method])[0].patches).all()


@pytest.mark.parametrize(("spec", "isolated"), [("sc-clip", "keep"), ("sfp", "zero")])
def test_an_isolated_outlier_is_treated_as_each_release_does(spec, isolated):
    assert METHODS.build(spec).settings()["purifier"] == NeighborMean(isolated=isolated)


@pytest.mark.parametrize(
    ("spec", "depth", "layers"),
    [
        ("sc-clip", 12, {4, 5, 6, 7, 8, 9, 10}),
        ("sc-clip", 24, {7, *range(9, 21)}),
        ("sc-clip:class_share=0.1,fuse_to=19", 24, {7, *range(9, 20)}),
        ("sfp", 12, {4, 5, 6, 7, 8, 9, 10}),
        ("sfp", 24, {4, 5, 6, 7, 8, 9, 10}),
        ("sfp:depth_rule=line", 24, {7, *range(9, 21)}),
    ],
)
def test_the_layers_that_are_read_are_those_of_the_sources(spec, depth, layers):
    needed = METHODS.build(spec).encoder.needs(depth)
    assert {layer for name, layer in needed if name == "block_out" and layer > 0} == layers
    assert ("block_out", -2) in needed


def test_ablations_are_settings(tiny, images):
    """The rows of SC-CLIP's Table 2, each with one thing more than the last."""
    rows = (
        "purifier=keep,similarity_weight=0",
        "similarity_weight=0",
        "pre=false,post=false",
        "second_branch=none",
        "",
    )
    off = (
        ",pre=false,post=false,second_branch=none",
        ",pre=false,post=false,second_branch=none",
        ",second_branch=none",
        "",
        "",
    )
    specs = [f"sc-clip:{row}{rest}".rstrip(":") for row, rest in zip(rows, off, strict=True)]
    ablated = [encoding.patches for encoding in encode_many(tiny, images, specs)]
    for number, patches in enumerate(ablated):
        assert all(not torch.allclose(patches, other, atol=1e-4) for other in ablated[:number])


@pytest.mark.parametrize("name", ["sc-clip", "sc-clip-paper", "sfp", "sfp-paper"])
def test_every_departure_is_a_sentence(name):
    method = METHODS[name]
    assert method.departures
    assert all(line[0].isupper() and line.endswith(".") for line in method.departures)
    assert method.positions == "bicubic-offset"

"""What every measure over tokens promises: shapes, images on their own, any prefix, fp32, and nan where nan came in."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures.auc import SameClassAuc
from diagnostics.measures.base import UNLABELED, Measure
from diagnostics.measures.channels import ChannelKurtosis, ChannelMean, ChannelPeak, MassiveCount, TopChannels
from diagnostics.measures.entropy import Entropy
from diagnostics.measures.norms import ClassNorm, Frobenius, Norms, Peak, PrefixNorm
from diagnostics.measures.pca import PrincipalComponents
from diagnostics.measures.similarity import PatchSimilarity

PARTS = [
    Norms(),
    ClassNorm(),
    PrefixNorm(),
    Frobenius(),
    Peak(),
    Entropy(),
    ChannelPeak(),
    ChannelMean(),
    TopChannels(),
    MassiveCount(),
    ChannelKurtosis(),
    PatchSimilarity(patches=(1, 5)),
    SameClassAuc(pair_bins=30),
    PrincipalComponents(),
]
LAYOUTS = [Layout(1, Grid(3, 4)), Layout(0, Grid(5, 2), None), Layout(5, Grid(2, 7), 0), Layout(2, Grid(9, 9), None)]
TAPS = ("block_in", "attn_out", "block_sum", "block_out")
WIDTH = 70


def taps_of(layout, batch=3):
    taps = {}
    for seed, name in enumerate(TAPS):
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.arange(1, WIDTH + 1).pow(-0.5)
        taps[name] = 2 * torch.randn(batch, layout.tokens, WIDTH, generator=generator) * sizes
        taps[name][1, -2, 7] = 400.0
    return taps


def labels_of(layout, batch=3):
    labels = torch.randint(0, 3, (batch, layout.count), generator=torch.Generator().manual_seed(9))
    labels[:, 2] = UNLABELED
    return labels


def cases():
    return [
        pytest.param(part, layout, id=f"{type(part).__name__}-{layout.prefix}-{layout.grid.rows}x{layout.grid.cols}")
        for part in PARTS
        for layout in LAYOUTS
        if part.unsupported_reason(layout, labeled=True) is None
    ]


@pytest.mark.parametrize("part, layout", cases())
def test_values_have_the_declared_dims_and_coordinates(part, layout, view_of):
    assert isinstance(part, Measure)
    taps = {name: value for name, value in taps_of(layout).items() if name in part.needs}
    before = {name: value.clone() for name, value in taps.items()}
    measured = part.measure(view_of(layout, labels=labels_of(layout), **taps))
    coordinates = part.coordinates(layout)
    sizes = {"image": 3, "row": layout.grid.rows, "col": layout.grid.cols, "channel": WIDTH}
    sizes |= {name: len(values) for name, values in coordinates.items()}
    assert measured.keys() == {variable.name for variable in part.variables}
    for variable in part.variables:
        # A variable without images is summed over them.
        assert variable.dims[:2] == ("image", "layer") or variable.dims[0] == "layer"
        value = measured[variable.name]
        assert tuple(value.shape) == tuple(sizes[name] for name in variable.dims if name != "layer")
        assert value.is_floating_point() == variable.dtype.startswith("float")
        assert value.isfinite().all()
        assert variable.units
        assert variable.long_name
        assert variable.source
    assert all(torch.equal(taps[name], value) for name, value in before.items())


@pytest.mark.parametrize("part, layout", cases())
def test_a_batch_equals_its_images_one_by_one(part, layout, view_of):
    taps, labels = taps_of(layout), labels_of(layout)
    together = part.measure(view_of(layout, labels=labels, **taps))
    summed = {variable.name for variable in part.variables if "image" not in variable.dims}
    totals = dict.fromkeys(summed, 0)
    for image in range(3):
        taps_of_image = {name: value[image : image + 1] for name, value in taps.items()}
        alone = part.measure(view_of(layout, labels=labels[image : image + 1], **taps_of_image))
        for name, value in alone.items():
            if name in summed:
                totals[name] = totals[name] + value
            else:
                difference = (value[0].double() - together[name][image].double()).abs()
                assert (difference <= 1e-5 * together[name][image].abs().max().clamp_min(1)).all()
    assert all(torch.equal(total, together[name]) for name, total in totals.items())


@pytest.mark.parametrize("part, layout", cases())
def test_half_precision_is_measured_in_fp32(part, layout, view_of):
    taps = {name: value.bfloat16() for name, value in taps_of(layout).items()}
    labels = labels_of(layout)
    half = part.measure(view_of(layout, labels=labels, **taps))
    full = part.measure(view_of(layout, labels=labels, **{name: value.float() for name, value in taps.items()}))
    for name, value in half.items():
        assert value.dtype not in (torch.bfloat16, torch.float16)
        assert torch.equal(value, full[name])


@pytest.mark.parametrize("part, layout", cases())
def test_nan_gives_nan_in_its_own_image_and_no_error(part, layout, view_of):
    taps, labels = taps_of(layout), labels_of(layout)
    whole = part.measure(view_of(layout, labels=labels, **taps))
    for value in taps.values():
        value[0] = math.nan
    broken = part.measure(view_of(layout, labels=labels, **taps))
    for name, value in broken.items():
        if value.is_floating_point():
            assert value[0].isnan().all()
        elif name in ("norm_outliers", "massive_count"):
            assert value[0] == -1
        elif name == "pair_histogram":
            rest = {tap: value[1:] for tap, value in taps.items()}
            without = part.measure(view_of(layout, labels=labels[1:], **rest))
            assert torch.equal(value, without[name])
            continue
        difference = (value[1:].double() - whole[name][1:].double()).abs()
        assert (difference <= 1e-5 * whole[name][1:].abs().max().clamp_min(1)).all()

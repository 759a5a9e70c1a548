"""Interpolations from unmarked neighbors, against a slow plain loop over every corner, edge and cluster."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diagnostics.layout import Grid, Layout
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.neighborhood import ring, window

INTERPOLATIONS = [
    "neighbor-mean",
    "neighbor-median",
    "neighbor-nearest",
    "neighbor-nearest:ties=mean",
    "neighbor-bilinear",
    "neighbor-weighted",
]
ISOLATED = ["keep", "zero", "grow"]


def one_value(spec: str, neighbors: list[tuple[int, int, np.ndarray]], radius: int) -> np.ndarray:
    """The interpolation of a list of (rows away, columns away, values), written out."""
    values = np.array([value for *_, value in neighbors])
    away = [math.hypot(rows, cols) for rows, cols, _ in neighbors]
    if spec == "neighbor-mean":
        return values.mean(axis=0)
    if spec == "neighbor-median":
        return np.median(values, axis=0)
    if spec == "neighbor-nearest":
        return neighbors[away.index(min(away))][2]
    if spec == "neighbor-nearest:ties=mean":
        return values[[distance == min(away) for distance in away]].mean(axis=0)
    if spec == "neighbor-bilinear":
        weights = [(radius + 1 - abs(rows)) * (radius + 1 - abs(cols)) for rows, cols, _ in neighbors]
    else:
        weights = [1 / distance for distance in away]
    return np.average(values, axis=0, weights=weights)


def slow(spec: str, isolated: str, patches: Tensor, mask: Tensor, grid: Grid) -> Tensor:
    """Every marked patch of every image, one at a time, with the whole window of every radius."""
    result = patches.clone()
    for b, (image, marked) in enumerate(zip(patches.double().numpy(), mask.numpy(), strict=True)):
        for row, col in itertools.product(range(grid.rows), range(grid.cols)):
            if not marked[row * grid.cols + col]:
                continue
            radii = range(1, 2 if isolated != "grow" else max(grid))
            for radius in radii:
                neighbors = []
                for down, right in itertools.product(range(-radius, radius + 1), repeat=2):
                    r, c = row + down, col + right
                    if 0 <= r < grid.rows and 0 <= c < grid.cols and not marked[r * grid.cols + c]:
                        neighbors.append((down, right, image[r * grid.cols + c]))
                if neighbors:
                    result[b, row * grid.cols + col] = torch.from_numpy(one_value(spec, neighbors, radius))
                    break
            else:
                if isolated == "zero":
                    result[b, row * grid.cols + col] = 0
    return result


def random_patches(images: int, grid: Grid, *, width: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(images, grid.patches, width, generator=torch.Generator().manual_seed(seed))


def build(spec: str, isolated: str):
    return PURIFIERS.build(f"{spec}{',' if ':' in spec else ':'}isolated={isolated}")


@pytest.mark.parametrize("isolated", ISOLATED)
@pytest.mark.parametrize("spec", INTERPOLATIONS)
def test_every_mask_of_a_3x3_grid_is_filled_as_a_plain_loop_fills_it(spec, isolated):
    grid = Grid(3, 3)
    mask = torch.tensor(list(itertools.product([False, True], repeat=9)))
    patches = random_patches(len(mask), grid)
    cleaned = build(spec, isolated)(patches, mask, Layout(1, grid))
    torch.testing.assert_close(cleaned, slow(spec, isolated, patches, mask, grid), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("isolated", ISOLATED)
@pytest.mark.parametrize("spec", INTERPOLATIONS)
@pytest.mark.parametrize("grid", [Grid(4, 7), Grid(1, 6), Grid(6, 1), Grid(1, 1)], ids=lambda g: f"{g[0]}x{g[1]}")
def test_random_masks_of_any_grid_are_filled_as_a_plain_loop_fills_them(spec, isolated, grid):
    patches = random_patches(8, grid, seed=1)
    density = torch.tensor([0.0, 0.05, 0.2, 0.5, 0.8, 0.9, 0.97, 1.0])[:, None]
    mask = torch.rand(8, grid.patches, generator=torch.Generator().manual_seed(2)) < density
    cleaned = build(spec, isolated)(patches, mask, Layout(0, grid))
    torch.testing.assert_close(cleaned, slow(spec, isolated, patches, mask, grid), atol=1e-6, rtol=1e-6)


def test_a_window_grows_over_a_cluster_to_the_first_ring_with_an_unmarked_patch():
    grid = Grid(7, 9)
    mask = torch.zeros(1, grid.patches, dtype=torch.bool)
    mask.view(1, 7, 9)[:, 1:6, 2:7] = True  # 5 x 5, center (3, 4): ring 3 is the first that leaves it
    patches = random_patches(1, grid)
    cleaned = build("neighbor-mean", "grow")(patches, mask, Layout(1, grid)).view(7, 9, 2)
    maps = patches.view(7, 9, 2)
    outer = torch.cat([maps[0, 1:8], maps[6, 1:8], maps[1:6, 1], maps[1:6, 7]])
    torch.testing.assert_close(cleaned[3, 4], outer.mean(dim=0))


@pytest.mark.parametrize(
    "spec, expected",
    [
        ("neighbor-mean", 36 / 8),
        ("neighbor-median", 4.5),
        ("neighbor-nearest", 2.0),  # up
        ("neighbor-nearest:ties=mean", 18 / 4),
        ("neighbor-bilinear", (2 * 18 + 18) / 12),
        ("neighbor-weighted", (18 + 18 / math.sqrt(2)) / (4 + 4 / math.sqrt(2))),
        ("sfp-sum", 36 / 8),
    ],
)
def test_the_center_of_a_3x3_map_has_the_value_worked_out_by_hand(spec, expected):
    patches = torch.tensor([1.0, 2, 3, 4, 900, 5, 6, 7, 8]).view(1, 9, 1)
    mask = (torch.arange(9) == 4)[None]
    cleaned = PURIFIERS.build(spec)(patches, mask, Layout(1, Grid(3, 3)))
    assert cleaned[0, 4, 0].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "place, expected",
    [(0, (2 + 4 + 5) / 3), (1, (1 + 3 + 4 + 5 + 6) / 5), (4, (1 + 2 + 3 + 4 + 6 + 7 + 8 + 9) / 8)],
    ids=["corner", "edge", "inside"],
)
def test_the_mean_divides_by_the_neighbors_in_the_image_and_sfp_always_by_8(place, expected):
    patches = torch.arange(1.0, 10).view(1, 9, 1)
    mask = (torch.arange(9) == place)[None]
    layout = Layout(1, Grid(3, 3))
    mean = PURIFIERS.build("neighbor-mean")(patches, mask, layout)[0, place, 0].item()
    eighth = PURIFIERS.build("sfp-sum")(patches, mask, layout)[0, place, 0].item()
    number = {0: 3, 1: 5, 4: 8}[place]
    assert mean == pytest.approx(expected, rel=1e-6)
    assert eighth == pytest.approx(expected * number / 8, rel=1e-6)


def test_sfp_sum_is_the_zero_filled_mean_times_the_number_of_neighbors_over_8():
    grid = Grid(5, 6)
    layout = Layout(1, grid)
    patches = random_patches(4, grid)
    mask = torch.rand(4, 30, generator=torch.Generator().manual_seed(3)) < 0.6
    valid = torch.nn.functional.conv2d((~mask).float().view(4, 1, 5, 6), torch.ones(1, 1, 3, 3), padding=1).view(4, 30)
    mean = build("neighbor-mean", "zero")(patches, mask, layout)
    expected = torch.where(mask[..., None], mean * valid[..., None] / 8, patches)
    assert (valid[mask] == 0).any()
    torch.testing.assert_close(PURIFIERS.build("sfp-sum")(patches, mask, layout), expected)


@pytest.mark.parametrize("isolated", ISOLATED)
@pytest.mark.parametrize("spec", [spec for spec in INTERPOLATIONS if spec != "neighbor-nearest"])
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)], ids=["rows", "columns", "both"])
def test_interpolation_follows_a_flip_of_the_grid(spec, isolated, axes):
    grid = Grid(5, 8)
    layout = Layout(1, grid)
    patches = random_patches(6, grid)
    mask = torch.rand(6, 40, generator=torch.Generator().manual_seed(4)) < torch.linspace(0.1, 0.95, 6)[:, None]
    purifier = build(spec, isolated)

    def flip(values: Tensor) -> Tensor:
        return layout.to_patches(layout.to_map(values).flip(axes))

    torch.testing.assert_close(purifier(flip(patches), flip(mask), layout), flip(purifier(patches, mask, layout)))


def test_the_first_of_equally_near_neighbors_is_taken_row_by_row():
    layout = Layout(0, Grid(3, 3))
    patches = torch.arange(9.0).view(1, 9, 1)
    mask = torch.zeros(1, 9, dtype=torch.bool)
    taken = []
    mask[0, 4] = True
    for _ in range(8):
        value = PURIFIERS.build("neighbor-nearest")(patches, mask, layout)[0, 4, 0].item()
        taken.append(int(value))
        mask[0, int(value)] = True
    assert taken == [1, 3, 5, 7, 0, 2, 6, 8]


def test_a_constant_map_is_restored_by_every_interpolation():
    grid = Grid(6, 5)
    mask = torch.rand(3, 30, generator=torch.Generator().manual_seed(5)) < 0.5
    patches = torch.full((3, 30, 4), 0.7).masked_fill(mask[..., None], 1e30)
    for spec in INTERPOLATIONS:
        cleaned = build(spec, "grow")(patches, mask, Layout(1, grid))
        torch.testing.assert_close(cleaned, torch.full((3, 30, 4), 0.7))


def test_more_marked_patches_than_fit_into_one_gathering_change_nothing(monkeypatch):
    grid = Grid(5, 6)
    patches = random_patches(3, grid)
    mask = torch.rand(3, 30, generator=torch.Generator().manual_seed(6)) < 0.85
    purifiers = [*(build(spec, "grow") for spec in INTERPOLATIONS), PURIFIERS.build("low-pass")]
    whole = [purifier(patches, mask, Layout(1, grid)) for purifier in purifiers]
    monkeypatch.setattr("diagnostics.purifiers.neighborhood.GATHERED", 20)
    monkeypatch.setattr("diagnostics.purifiers.low_pass.GATHERED", 20)
    for purifier, expected in zip(purifiers, whole, strict=True):
        torch.testing.assert_close(purifier(patches, mask, Layout(1, grid)), expected)


def test_nan_in_an_unmarked_neighbor_reaches_the_median():
    patches = torch.arange(9.0).view(1, 9, 1)
    patches[0, 0] = torch.nan
    cleaned = PURIFIERS.build("neighbor-median")(patches, (torch.arange(9) == 4)[None], Layout(1, Grid(3, 3)))
    assert cleaned[0, 4].isnan()


def test_rings_hold_eight_places_per_radius_and_fill_the_window():
    for radius in (1, 2, 3):
        assert ring(radius).shape == (8 * radius, 2)
    rings = torch.cat([torch.zeros(1, 2, dtype=torch.long), *(ring(radius) for radius in (1, 2, 3))])
    assert sorted(map(tuple, rings.tolist())) == sorted(map(tuple, window(3).tolist()))


@pytest.mark.parametrize("spec", INTERPOLATIONS)
def test_an_unknown_word_for_isolated_is_refused_with_the_known_ones(spec):
    part = PURIFIERS[spec.partition(":")[0]]
    with pytest.raises(ValueError, match=r"`isolated` should be one of `keep`, `zero`, `grow`; got `drop`"):
        part(isolated="drop")


def test_an_unknown_word_for_ties_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"`ties` should be one of `first`, `mean`; got `last`"):
        PURIFIERS["neighbor-nearest"](ties="last")

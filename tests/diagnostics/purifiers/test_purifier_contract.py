"""What every purifier in the registry keeps to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics.layout import Grid, Layout
from diagnostics.purifiers import PURIFIERS, Purifier

GRIDS = [Grid(4, 6), Grid(1, 7), Grid(5, 1), Grid(1, 1)]
SPECS = [
    *PURIFIERS,
    *(f"neighbor-{name}:isolated={isolated}" for name in ("mean", "nearest") for isolated in ("zero", "grow")),
    "low-pass:kernel=gaussian,size=5",
]


def part(spec: str) -> type[Purifier]:
    return PURIFIERS[spec.split(":")[0]]


KEEPS_WHEN_ALL_ARE_MARKED = [spec for spec in SPECS if part(spec).keeps_fully_marked]

every = pytest.mark.parametrize("spec", SPECS)


def inputs(grid: Grid, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Layout]:
    """Six images with masks from nothing to everything; outliers are large in two channels."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(6, grid.patches, 5, generator=generator)
    density = torch.tensor([0.0, 0.1, 0.4, 0.7, 0.95, 1.0])[:, None]
    mask = torch.rand(6, grid.patches, generator=generator) < density
    patches = torch.where(mask[..., None], patches * torch.tensor([50.0, 1, 1, 80, 1]), patches)
    return patches.to(dtype), mask, torch.randn(6, 5, generator=generator).to(dtype), Layout(2, grid)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g[0]}x{g[1]}")
def test_shape_and_dtype_stay_and_unmarked_patches_come_back_bit_for_bit(spec, dtype, grid):
    patches, mask, token, layout = inputs(grid, dtype=dtype)
    cleaned = PURIFIERS.build(spec)(patches, mask, layout, class_token=token)
    assert cleaned.shape == patches.shape
    assert cleaned.dtype == dtype
    assert torch.equal(cleaned[~mask], patches[~mask])
    assert cleaned.isfinite().all()


@every
def test_inputs_are_not_changed_and_the_result_shares_no_memory_with_them(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    before = patches.clone(), mask.clone(), token.clone()
    purifier = PURIFIERS.build(spec)
    cleaned = purifier(patches, mask, layout, class_token=token)
    cleaned.fill_(7)
    assert all(torch.equal(now, then) for now, then in zip((patches, mask, token), before, strict=True))
    assert purifier == PURIFIERS.build(spec)


@every
def test_a_mask_with_nothing_marked_changes_nothing(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    cleaned = PURIFIERS.build(spec)(patches, torch.zeros_like(mask), layout, class_token=token)
    assert torch.equal(cleaned, patches)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "keep"])
def test_a_marked_outlier_is_changed(spec):
    patches, _, token, layout = inputs(Grid(4, 6))
    mask = torch.zeros(6, 24, dtype=torch.bool)
    mask[:, 8] = True
    patches[:, 8] = 1e4
    cleaned = PURIFIERS.build(spec)(patches, mask, layout, class_token=token)
    assert (cleaned[mask].abs() < patches[mask]).all()


@pytest.mark.parametrize("spec", KEEPS_WHEN_ALL_ARE_MARKED)
@pytest.mark.parametrize("grid", GRIDS, ids=lambda g: f"{g[0]}x{g[1]}")
def test_a_fully_marked_image_is_kept(spec, grid):
    patches, mask, token, layout = inputs(grid)
    cleaned = PURIFIERS.build(spec)(patches, torch.ones_like(mask), layout, class_token=token)
    assert torch.equal(cleaned, torch.zeros_like(patches) if "isolated=zero" in spec else patches)


@every
def test_a_batch_equals_its_images_one_by_one(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    purifier = PURIFIERS.build(spec)
    together = purifier(patches, mask, layout, class_token=token)
    singles = [
        purifier(patches[b : b + 1], mask[b : b + 1], layout, class_token=token[b : b + 1]) for b in range(len(patches))
    ]
    torch.testing.assert_close(together, torch.cat(singles), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)], ids=["rows", "columns", "both"])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if not part(spec).by_place])
def test_the_result_follows_a_flip_of_the_grid(spec, axes):
    patches, mask, token, layout = inputs(Grid(4, 6))
    purifier = PURIFIERS.build(spec)

    def flipped(values: Tensor) -> Tensor:
        return layout.to_patches(layout.to_map(values).flip(axes))

    purified = purifier(flipped(patches), flipped(mask), layout, class_token=token)
    torch.testing.assert_close(purified, flipped(purifier(patches, mask, layout, class_token=token)))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not part(spec).reads_marked])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -1e30])
def test_what_a_marked_patch_held_has_no_part_in_the_result(spec, poison):
    patches, mask, token, layout = inputs(Grid(4, 6))
    mask[-1, 0] = False  # one left, so that none is kept for want of another
    purifier = PURIFIERS.build(spec)
    cleaned = purifier(patches, mask, layout, class_token=token)
    poisoned = purifier(patches.masked_fill(mask[..., None], poison), mask, layout, class_token=token)
    kept = mask & (cleaned == patches).all(dim=2)  # isolated patches where those are kept
    assert kept.any() == (getattr(purifier, "isolated", "") == "keep")
    assert torch.equal(poisoned[~kept], cleaned[~kept])


@every
def test_nan_in_a_marked_patch_never_reaches_an_unmarked_one(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    cleaned = PURIFIERS.build(spec)(patches.masked_fill(mask[..., None], torch.nan), mask, layout, class_token=token)
    assert torch.equal(cleaned[~mask], patches[~mask])


@every
def test_half_precision_is_the_rounded_result_of_full_precision(spec):
    patches, mask, token, layout = inputs(Grid(4, 6), dtype=torch.bfloat16)
    purifier = PURIFIERS.build(spec)
    full = purifier(patches.float(), mask, layout, class_token=token.float())
    assert torch.equal(purifier(patches, mask, layout, class_token=token), full.bfloat16())


@every
def test_bad_inputs_are_refused_with_what_was_expected(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    purifier = PURIFIERS.build(spec)
    with pytest.raises(ValueError, match=r"`patches` should be \(B, N, D\) with N=24; got \(6, 23, 5\)"):
        purifier(patches[:, 1:], mask[:, 1:], layout, class_token=token)
    with pytest.raises(ValueError, match=r"`mask` should be \(B, N\) = \(6, 24\); got \(5, 24\)"):
        purifier(patches, mask[1:], layout, class_token=token)
    with pytest.raises(TypeError, match=r"`mask` should be bool; got torch.float32"):
        purifier(patches, mask.float(), layout, class_token=token)
    with pytest.raises(TypeError, match=r"`patches` should be floats; got torch.int64"):
        purifier(patches.long(), mask, layout, class_token=token)


@every
def test_a_purifier_runs_without_a_class_token_or_says_that_it_needs_one(spec):
    patches, mask, _, _ = inputs(Grid(4, 6))
    purifier = PURIFIERS.build(spec)
    bare = Layout(0, Grid(4, 6), None)
    assert purifier.unsupported_reason(Layout(1, Grid(4, 6))) is None
    if purifier.unsupported_reason(bare) is not None:
        with pytest.raises(ValueError, match="there is no class token"):
            purifier(patches, mask, bare)
    else:
        assert purifier(patches, mask, bare).shape == patches.shape


def test_of_ours_only_the_class_token_needs_one():
    bare = Layout(0, Grid(4, 6), None)
    assert PURIFIERS.build("class-token").unsupported_reason(bare) is not None
    assert all(PURIFIERS.build(name).unsupported_reason(bare) is None for name in ("keep", "neighbor-mean", "zero"))


def test_each_name_is_described_and_recorded_by_its_settings():
    assert all(PURIFIERS.describe().values())
    assert repr(PURIFIERS.build("neighbor-mean:isolated=grow")) == "NeighborMean(isolated='grow')"


@every
def test_tokens_are_purified_patch_by_patch_and_their_prefix_is_kept(spec):
    patches, mask, token, layout = inputs(Grid(4, 6))
    tokens = torch.cat([token[:, None], torch.ones(6, 1, 5), patches], dim=1)  # class token, register, patches
    purifier = PURIFIERS.build(spec)
    expected = purifier(patches, mask, layout, class_token=token)
    purified = purifier.purify_tokens(tokens, mask, layout)
    assert torch.equal(purified[:, 2:], expected)
    assert torch.equal(purified[:, :2], tokens[:, :2])

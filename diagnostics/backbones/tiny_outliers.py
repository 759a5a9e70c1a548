"""Outliers written into the weights of `tiny`: a neuron that fires on plain patches, and queries that look there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# All constants below are our choice: they give most photographs 2 to 10 outliers of 10 to 30 times the usual norm.
LAYER = 6
CHANNELS, SIGNS = (17, 44), (1.0, -1.0)
# Positions that may become outliers, and how strongly their embedding carries the planted direction: a patch of little
# contrast there shows mostly its position, so it is the plain patches that fire, as in trained models.
PLACES, PLACE_STRENGTH = 6, 14.0
# The neuron fires where the normalized token has more than this along the planted direction.
THRESHOLD, GAIN, HEIGHT = 2.1, 8.0, 90.0
# How much the queries of later blocks lean to the keys of outliers.
LEAN = 3.0


def write_outliers(visual: nn.Module) -> None:
    """Writes outliers into a tower's weights: one neuron that fires on few patches, and later queries that look there.

    Raises ValueError where the tower has too few blocks, channels or patches for it.
    """
    positions = visual.get_parameter("positional_embedding")
    width, depth = positions.shape[1], len(visual.get_submodule("transformer.resblocks"))  # type: ignore[arg-type]
    if depth <= LAYER or width <= max(CHANNELS) or len(positions) <= PLACES:
        raise ValueError(
            f"`outliers` of backbone `tiny` need more than {LAYER} blocks, {max(CHANNELS)} channels and {PLACES} "
            f"patches; got depth={depth}, width={width} and {len(positions) - 1} patches."
        )
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(width, generator=generator)
    direction -= direction.mean()
    direction /= direction.norm()
    places = 1 + torch.randperm(len(positions) - 1, generator=generator)[:PLACES]
    written = torch.zeros(width)
    written[list(CHANNELS)] = torch.tensor(SIGNS)
    with torch.no_grad():
        positions[places] += PLACE_STRENGTH * direction
        block = visual.get_submodule(f"transformer.resblocks.{LAYER - 1}")
        _make_neuron(block, direction, written)
        for number in range(LAYER, depth):
            _lean_queries(visual.get_submodule(f"transformer.resblocks.{number}"), written)


def _make_neuron(block: nn.Module, direction: Tensor, written: Tensor) -> None:
    """Hidden unit 0: fires past the threshold along `direction` and writes `written` into the residual stream."""
    norm = block.get_submodule("ln_2")
    first, second = block.get_submodule("mlp.c_fc"), block.get_submodule("mlp.c_proj")
    # Undoes the norm's own gain and bias, so that the threshold is in units of the plain normalized token.
    rows = GAIN * direction / norm.get_parameter("weight")
    first.get_parameter("weight")[0] = rows
    first.get_parameter("bias")[0] = -(rows @ norm.get_parameter("bias")) - GAIN * THRESHOLD
    second.get_parameter("weight")[:, 0] = HEIGHT * written


def _lean_queries(block: nn.Module, written: Tensor) -> None:
    """Adds to every query what the key of a token made of `written` alone looks like."""
    weight, bias = block.get_parameter("attn.in_proj_weight"), block.get_parameter("attn.in_proj_bias")
    width = len(written)
    bias[:width] += LEAN * weight[width : 2 * width] @ (written / written.norm())

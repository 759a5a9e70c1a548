"""Outliers written into trained `pocket` weights, at places that can be asked for.

What is written, each a small change of stock weights that `planted.safetensors` holds (made by
training.planting):
- a vector is added to the positions of some patches, the places where outliers may come up;
- one hidden unit of one block, the least used, fires on plain patches at these places and writes a vector of two
  channels, many times the usual norm, into the residual stream;
- in later blocks queries and keys get a common direction that no other token uses, the outliers' much of it, so that
  patches look at outliers, by q-k, q-q and k-k alike. The class token's queries are spared.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diagnostics.backbones.base import Backbone
from diagnostics.taps import Recorder

# An outlier is a patch on which the planted unit is more active than this, which about doubles its norm; where the unit
# rests, QuickGELU keeps it below 0.
ACTIVE = 0.25


def write_outliers(visual: nn.Module, factors: Mapping[str, Tensor]) -> None:
    """Adds all planted changes to the weights of an image tower, in place.

    `factors` holds what the three steps below take; those of `turn_gaze` end in the layer's number: `left.12`.
    """
    mark_places(visual, factors["places"], factors["position"])
    make_unit(visual, factors["unit"], factors["row"], factors["bias"], factors["column"])
    for layer in sorted(int(name.partition(".")[2]) for name in factors if name.startswith("left.")):
        turn_gaze(visual, layer, *(factors[f"{part}.{layer}"] for part in ("left", "right", "bias")))


def mark_places(visual: nn.Module, places: Tensor, position: Tensor) -> None:
    """Adds the vector `position` (D) to the positions of the patches numbered `places` (K)."""
    with torch.no_grad():
        visual.get_parameter("positional_embedding")[1 + places] += position


def make_unit(visual: nn.Module, unit: Tensor, row: Tensor, bias: Tensor, column: Tensor) -> None:
    """Rewires the hidden unit `unit` (2), layer and number: `row` (D) and `bias` (1) in, `column` (D) out."""
    layer, number = unit.tolist()
    mlp = visual.get_submodule(f"transformer.resblocks.{layer - 1}.mlp")
    with torch.no_grad():
        mlp.get_parameter("c_fc.weight")[number] = row
        mlp.get_parameter("c_fc.bias")[number] = bias[0]
        mlp.get_parameter("c_proj.weight")[:, number] = column


def turn_gaze(visual: nn.Module, layer: int, left: Tensor, right: Tensor, bias: Tensor) -> None:
    """Adds `left` · `right`, (2D, R) · (R, D), to the weight of queries and keys, and `bias` (2D) to their bias."""
    attention = visual.get_submodule(f"transformer.resblocks.{layer - 1}.attn")
    with torch.no_grad():
        attention.get_parameter("in_proj_weight")[: len(left)] += left @ right
        attention.get_parameter("in_proj_bias")[: len(bias)] += bias


def planted_patches(backbone: Backbone, images: Tensor, unit: tuple[int, int]) -> Tensor:
    """Where outliers come up in normalized images (B, 3, h, w): (B, N) bool, by the activity of the planted unit.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : Tensor (B, 3, h, w)
        Normalized images.
    unit : (int, int)
        Layer and hidden unit, from `ao.planted_unit`.

    Returns
    -------
    Tensor (B, N), bool
        Whether each patch becomes an outlier.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("pocket:planted")
    >>> places = ao.planted_patches(backbone, torch.zeros(1, 3, 112, 112), ao.planted_unit())
    >>> places.shape, bool(places.any())
    (torch.Size([1, 196]), True)
    """
    layer, number = unit
    recorder = Recorder("ffn_hidden", layers=[layer])
    with torch.no_grad():
        backbone.trunk(images, stop=layer, tap=recorder)
    return backbone.layout(images).patches(recorder["ffn_hidden", layer])[..., number] > ACTIVE

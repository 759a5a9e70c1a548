"""Test-time registers: outliers move into a token of their own, without training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.check_numbers import check_finite_number
from diagnostics.edits.base import Edit
from diagnostics.layout import Layout

Maximum = Literal["scalar", "neuron"]
Patches = Literal["zero", "mean", "keep"]

SOURCE = "Jiang et al. 2025, released code nickjiang2378/test-time-registers 860df43"


@dataclass(frozen=True, kw_only=True)
class TestTimeRegister(Edit):
    """Adds a register token and moves the activations of register neurons into it.

    `neurons` are (layer, hidden unit) pairs. At each of their layers the register gets `scale` times the activation of
    largest magnitude, and the patches' activations become 0 (`patches="zero"`), their mean, or stay. `maximum`:
    `scalar` takes one value over all neurons of the layer, as the released code does; `neuron` takes each neuron's own,
    as its description reads. Class token and other prefix tokens are left alone.

    `token` (D) is the register as it enters block 1, see `register_token`; zeros by default. It comes after the other
    prefix tokens, so use `layout_with(layout)` on what comes out.
    Deviation: the released code appends it last and takes the maximum of the first image for the whole batch; its
    place does not matter, having no position, and here each image has its own maximum.
    Source: Jiang et al. 2025, nickjiang2378/test-time-registers 860df43.
    """

    __test__ = False  # the name begins as a test's would

    neurons: tuple[tuple[int, int], ...]
    token: tuple[float, ...] = ()
    scale: float = 1.0
    maximum: Maximum = "scalar"
    patches: Patches = "zero"

    def __post_init__(self) -> None:
        if not self.neurons:
            raise ValueError(
                "`neurons` should name at least one (layer, hidden unit); find them with `register-neuron`."
            )
        check_finite_number("scale", self.scale)
        if self.maximum not in ("scalar", "neuron"):
            raise ValueError(f"`maximum` should be `scalar` or `neuron`; got `{self.maximum}`.")
        if self.patches not in ("zero", "mean", "keep"):
            raise ValueError(f"`patches` should be `zero`, `mean` or `keep`; got `{self.patches}`.")

    def layout_with(self, layout: Layout) -> Layout:
        """The layout with the register among the prefix tokens, last of them."""
        return replace(layout, prefix=layout.prefix + 1)

    def wants(self, name: str, layer: int) -> bool:
        if name == "block_out":
            return layer == 0
        return name == "ffn_hidden" and self.active(layer) and any(where == layer for where, _ in self.neurons)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        place = self.layout.prefix
        if name == "block_out":
            token = value.new_tensor(self.token) if self.token else value.new_zeros(value.shape[-1])
            return torch.cat([value[:, :place], token.expand(len(value), 1, -1), value[:, place:]], dim=1)
        units = torch.tensor([unit for where, unit in self.neurons if where == layer], device=value.device)
        activations = value[:, :, units]
        moved = value.clone()
        moved[:, place, units] = self.scale * self._largest(activations)
        if self.patches != "keep":
            rest = activations[:, place + 1 :]
            stays = rest.mean(dim=1, keepdim=True).expand_as(rest) if self.patches == "mean" else torch.zeros_like(rest)
            moved[:, place + 1 :, units] = stays
        return moved

    def _largest(self, activations: Tensor) -> Tensor:
        """The activation of largest magnitude, with its sign: (B, T, n) -> (B, n)."""
        flat = activations.flatten(1)[..., None] if self.maximum == "scalar" else activations
        largest = flat.gather(1, flat.abs().argmax(dim=1, keepdim=True))[:, 0]
        return largest.expand(-1, activations.shape[2])


def register_token(backbone: Backbone) -> tuple[float, ...]:
    """A token of zeros without a position, as the backbone's norm before the blocks lets it through: (D) numbers."""
    learned = backbone.position_table()
    zeros = torch.zeros(1, 1, backbone.width, device=backbone.device, dtype=backbone.dtype)
    positions = None if learned is None else zeros[0].expand(learned[1] + 1, -1)
    return tuple(backbone.assemble(zeros, positions)[0, -1].float().tolist())

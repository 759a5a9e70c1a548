"""What attention itself knows of positions: a rotation of queries and keys, and a bias on the logits, for one grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Layout

# Tokens that edits may have put between the prefix and the patches, such as test-time registers; more of them come of
# a layout that is not that of the tokens. Our choice.
MOST_ADDED = 8


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A rotation of queries and keys by their place (RoPE): sin and cos (N, d), or (H, N, d) where heads differ.

    Pairs of channels are turned: neighbors (0, 1), (2, 3) … or, with `half`, (0, d/2), (1, d/2 + 1) …
    Source: Su et al. 2021, arXiv:2104.09864; on two axes Heo et al. 2024, arXiv:2403.13298.
    """

    sin: Tensor
    cos: Tensor
    half: bool

    def __call__(self, x: Tensor) -> Tensor:
        """The last N of T tokens turned, those before them as they are: (B, H, T, d) -> (B, H, T, d)."""
        first = x.shape[2] - self.sin.shape[-2]
        patches = x[:, :, first:] if first else x
        turned = (patches * self.cos + self._quarter_turn(patches) * self.sin).to(x.dtype)
        return torch.cat([x[:, :, :first], turned], dim=2) if first else turned

    def _quarter_turn(self, x: Tensor) -> Tensor:
        if self.half:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)
        return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape(x.shape)


@dataclass(frozen=True, kw_only=True)
class Positional:
    """What one block's attention knows of the places on the grid of `layout`; made for a forward pass, kept nowhere.

    `rotation` turns queries and keys of the patches. `bias` makes what is added to the logits, (1, H, T, T) for the
    layout's T tokens; made when a block needs it, since that of all blocks is large.
    """

    layout: Layout
    rotation: Rotation | None = None
    bias: Callable[[], Tensor] | None = None

    def check(self, tokens: int) -> None:
        """Refuses a number of tokens that can't be this grid's: its patches are the last ones, with prefix or without.

        Tokens that an edit put behind the prefix have no place: they are not turned, and their bias is 0.
        """
        extra = tokens - self.layout.count
        if extra and not self.layout.prefix <= extra <= self.layout.prefix + MOST_ADDED:
            raise ValueError(
                f"tokens should be those of a {self.layout.grid.rows}x{self.layout.grid.cols} grid, {self.layout.count}"
                f" patches or {self.layout.tokens} tokens with prefix; got {tokens}. Take the blocks on the layout of "
                "these tokens: backbone.blocks_on(layout)."
            )

    def bias_for(self, tokens: int) -> Tensor | None:
        """The bias among so many tokens, whose last ones are the patches: (1, H, tokens, tokens), or None."""
        if self.bias is None:
            return None
        bias, prefix, count = self.bias(), self.layout.prefix, self.layout.count
        if tokens == bias.shape[-1]:
            return bias
        if tokens == count:
            return bias[..., prefix:, prefix:]
        # Our choice: a token that the model was not trained with, and that has no place, is neither near nor far.
        added = tokens - bias.shape[-1]
        bias = torch.cat([F.pad(bias[..., :prefix], (0, added)), bias[..., prefix:]], dim=-1)
        return torch.cat([F.pad(bias[..., :prefix, :], (0, 0, 0, added)), bias[..., prefix:, :]], dim=-2)

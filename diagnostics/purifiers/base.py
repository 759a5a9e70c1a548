"""What a purifier is: a frozen value that purifies marked patches and leaves all others as they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import Tensor

from diagnostics.layout import Layout


class Purifier(ABC):
    """Purifies the marked patches of each image: settings are fields, calling changes neither itself nor its inputs.

    A part derives from this interface. Patches where the mask is False come back bit for bit. It works for grids that
    are not square, for clusters of marked patches, and where every patch is marked.

    A part declares where it differs from most: `reads_marked`, what a marked patch held is part of its own result;
    `keeps_fully_marked`, an image whose patches are all marked comes back as it is; `by_place`, equal candidates are
    distinguished, or drawn, by their places, so that a mirrored image need not give a mirrored result.
    """

    reads_marked: ClassVar[bool] = False
    keeps_fully_marked: ClassVar[bool] = True
    by_place: ClassVar[bool] = False

    def unsupported_reason(self, layout: Layout) -> str | None:
        """Why this purifier can't run on such tokens (no class token), or None if it can."""
        return None

    @abstractmethod
    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        """Patches (B, N, D) with those of mask (B, N) replaced: a new (B, N, D). `class_token`: (B, D), if any."""

    @final
    def purify_tokens(self, tokens: Tensor, mask: Tensor, layout: Layout) -> Tensor:
        """New tokens whose marked patches are replaced; prefix tokens stay: (B, T, D), (B, N) -> (B, T, D)."""
        patches = self(layout.patches(tokens), mask, layout, class_token=layout.class_token_or_none(tokens))
        return layout.with_patches(tokens, patches)

"""What a measure is: a frozen value that turns what one layer shows into named, labeled numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.taps import Recording

# Patch label of patches that take part in no comparison: ignored pixels won the vote, or the patch is all padding.
UNLABELED = -1


class Variable(NamedTuple):
    """One variable of the data set: its dimensions in order, unit, what it is, and where its formula comes from."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    source: str
    dtype: str = "float32"


@dataclass
class LayerView:
    """One layer of one batch, as measures see it.

    `recording` holds the taps of this layer: `view["block_out"]` is (B, T, D). `labels` is (B, N) int64 patch labels
    with UNLABELED for patches out of the comparison, or None. `shared` keeps what several measures compute once.
    """

    layer: int
    recording: Recording
    layout: Layout
    patch_size: tuple[int, int]
    labels: Tensor | None = None
    shared: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, tap: str) -> Tensor:
        return self.recording[tap, self.layer]

    def patches(self, tap: str) -> Tensor:
        """Patch tokens of a tap of shape (B, T, D), in fp32: (B, N, D)."""
        return self.layout.patches(self[tap]).float()


@runtime_checkable
class Measure(Protocol):
    """A measure: which taps it needs, which variables it yields, and the numbers of one layer.

    `variables` may depend on the settings, never on the images. `measure` returns, for each variable, a tensor of
    its dims less `layer`: dims ("image", "layer", "head", "row", "col") -> (B, H, rows, cols). A variable without
    `image` is a sum over images: runs add it up. A part derives from this interface, so that only what it does
    differently is written in it.

    Arithmetic is in fp32 or fp64 whatever the taps' precision: what still differs in bf16 is the network. A docstring
    says what extreme values do and what is not comparable in bf16. NaN and infinity in a tap are the network's own
    overflow: they give NaN (or infinity where the measure is a size), -1 for counts, in their own image; `probe` names
    such images.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """The taps to record; most measures have a fixed ClassVar here."""
        ...

    @property
    def variables(self) -> tuple[Variable, ...]: ...

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        """Why this measure can't run on such tokens (no class token, no labels), or None if it can."""
        return None

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        """Coordinates of dims of its own, such as `bin` or `component`."""
        return {}

    def measure(self, view: LayerView) -> dict[str, Tensor]: ...


@runtime_checkable
class AcrossLayers(Protocol):
    """A measure that compares layers: `keep` says what to hold of each, `compare` gets all that was held."""

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def variables(self) -> tuple[Variable, ...]: ...

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {}

    def keep(self, view: LayerView) -> Tensor:
        """What to hold of one layer: (B, …)."""
        ...

    def compare(self, kept: Tensor) -> dict[str, Tensor]:
        """(L, B, …) -> variables of dims ("image", "layer", "other_layer", …), image first."""
        ...

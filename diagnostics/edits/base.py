"""What an edit is: a tap with settings that changes what flows through a forward pass, never the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.taps import resolve_layer


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """A change inside the forward pass, at chosen layers.

    `layers` are 1…L or negative; None means all. Settings are fields; `memory` holds what one forward pass needs and
    is emptied when the next one starts, so one edit serves one pass at a time.
    """

    layers: tuple[int, ...] | None = None
    memory: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def start(self, depth: int, layout: Layout | None = None) -> None:
        self.memory.clear()
        chosen = range(1, depth + 1) if self.layers is None else (resolve_layer(layer, depth) for layer in self.layers)
        self.memory["layers"] = frozenset(chosen)
        self.memory["depth"] = depth
        self.memory["layout"] = layout

    @property
    def layout(self) -> Layout:
        """The layout of the pass that is running; ValueError where the pass was started without one."""
        layout = self.memory.get("layout")
        if layout is None:
            raise ValueError(
                f"{self} needs to know where the patches sit; give `run` the layout: run(…, layout=layout)."
            )
        return layout

    def active(self, layer: int) -> bool:
        """Whether this edit is at work at a layer of the running pass."""
        return layer in self.memory["layers"]

    @abstractmethod
    def wants(self, name: str, layer: int) -> bool:
        """The places that this edit reads or changes."""

    @abstractmethod
    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        """The value to go on with; a new tensor where it is changed."""

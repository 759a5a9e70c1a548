"""The named places inside a block, and the taps that read or change what flows through them.

A tap is called as `tap(name, layer, value)` and returns the value to go on with: reading and changing are the same
thing. Layers are numbered 1…L; 0 is the embedding, where only `block_out` exists.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.registry import unknown_name
from diagnostics.tap_places import TAPS


@runtime_checkable
class Tap(Protocol):
    """What the trunk asks of a tap. A plain function works as well: it then sees every place, attention included.

    The trunk calls a tap only where it wants to be called.
    """

    def start(self, depth: int, layout: Layout | None = None) -> None:
        """Called once before a forward pass, with the number of blocks and where the tokens sit, if that is known."""

    def wants(self, name: str, layer: int) -> bool:
        """Whether this tap wants to see that place. The attention matrix is made only where some tap wants it."""
        ...

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor: ...


TapFunction = Callable[[str, int, Tensor], Tensor]


class _Identity:
    """The tap that wants nothing."""

    def start(self, depth: int, layout: Layout | None = None) -> None: ...

    def wants(self, name: str, layer: int) -> bool:
        return False

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        return value


class _Everywhere:
    """A plain function as a tap: it sees every place."""

    def __init__(self, function: TapFunction) -> None:
        self.function = function

    def start(self, depth: int, layout: Layout | None = None) -> None: ...

    def wants(self, name: str, layer: int) -> bool:
        return True

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        returned = self.function(name, layer, value)
        if not isinstance(returned, Tensor):
            raise TypeError(
                f"a tap should return the tensor to go on with; at `{name}` of layer {layer} it returned "
                f"{type(returned).__name__}. One that only reads returns what it got: `return value`."
            )
        return returned


IDENTITY = _Identity()


def as_tap(tap: Tap | TapFunction | None) -> Tap:
    """A tap from a tap, a plain function, or None."""
    if tap is None:
        return IDENTITY
    return tap if isinstance(tap, Tap) else _Everywhere(tap)


class _Chain:
    """Taps one after the other; each sees what the one before returned."""

    def __init__(self, taps: Iterable[Tap | TapFunction | None]) -> None:
        self.taps = [as_tap(tap) for tap in taps]

    def start(self, depth: int, layout: Layout | None = None) -> None:
        for tap in self.taps:
            tap.start(depth, layout)

    def wants(self, name: str, layer: int) -> bool:
        return any(tap.wants(name, layer) for tap in self.taps)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        for tap in self.taps:
            if tap.wants(name, layer):
                value = tap(name, layer, value)
        return value


def chain(*taps: Tap | TapFunction | None) -> Tap:
    """Several taps as one, in the order given: `chain(recorder, edit)` records before the edit, and the reverse.

    Parameters
    ----------
    *taps : Tap, function or None
        Called in this order; None is passed over.

    Returns
    -------
    Tap
        One tap that calls them all.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> before, after = ao.Recorder("block_out", layers=[2]), ao.Recorder("block_out", layers=[2])
    >>> tap = ao.chain(before, lambda name, layer, value: value * 2, after)
    >>> _ = backbone.trunk(torch.zeros(1, 3, 64, 64), tap=tap, stop=2)
    >>> bool((after["block_out", 2] == 2 * before["block_out", 2]).all())
    True
    """
    return _Chain(taps)


class _AfterEdits(_Chain):
    """Edits, then a tap that sees what they made. An edit that adds a token starts with the layout without it."""

    def __init__(self, edits: Iterable[Tap], tap: Tap | TapFunction | None) -> None:
        self.edits, self.tap = list(edits), as_tap(tap)
        super().__init__([*self.edits, self.tap])

    def start(self, depth: int, layout: Layout | None = None) -> None:
        before = layout and replace(layout, prefix=layout.prefix - added_tokens(self.edits))
        for edit in self.edits:
            edit.start(depth, before)
            if before is not None and hasattr(edit, "layout_with"):
                before = edit.layout_with(before)
        self.tap.start(depth, layout)


def after_edits(edits: Iterable[Tap], tap: Tap | TapFunction | None) -> Tap:
    """A tap that sees what edits made of the tokens; the tap alone where there are none."""
    edits = tuple(edits)
    return _AfterEdits(edits, tap) if edits else chain(tap)


def added_tokens(edits: Iterable[Tap]) -> int:
    """How many prefix tokens edits add."""
    return sum(hasattr(edit, "layout_with") for edit in edits)


def resolve_layer(layer: int, depth: int) -> int:
    """A layer as 0…depth: 1…L as the papers count, 0 the embedding, negative ones from the end (-1 is the last)."""
    resolved = layer + depth + 1 if layer < 0 else layer
    if not 0 <= resolved <= depth:
        raise ValueError(
            f"`layer` should lie in 0…{depth} (0 is the embedding) or -{depth + 1}…-1; got {layer}. "
            f"This backbone has {depth} blocks."
        )
    return resolved


class Recording:
    """What a forward pass left behind: `recording["attention", -2]`, or `recording["block_out"]` of a single layer."""

    def __init__(self, depth: int, values: Mapping[tuple[str, int], Tensor]) -> None:
        self.depth = depth
        self.values = dict(values)

    def __getitem__(self, key: str | tuple[str, int]) -> Tensor:
        if isinstance(key, tuple):
            name, layer = key
            place = (name, resolve_layer(layer, self.depth))
            if place in self.values:
                return self.values[place]
            raise KeyError(f"`{name}` of layer {place[1]} was not recorded; recorded: {self._summary()}.")
        layers = self.layers(key)
        if len(layers) != 1:
            raise KeyError(
                f"`{key}` should be recorded at one layer to be read without one; recorded: {self._summary()}. "
                f'Name the layer: recording["{key}", {layers[-1] if layers else -1}].'
            )
        return self.values[key, layers[0]]

    def __contains__(self, key: str | tuple[str, int]) -> bool:
        if isinstance(key, tuple):
            return (key[0], resolve_layer(key[1], self.depth)) in self.values
        return len(self.layers(key)) == 1

    def get(self, name: str, layer: int | None = None) -> Tensor | None:
        """What was recorded there, or None: for places that some models lack, such as `attention_bias`."""
        layers = self.layers(name) if layer is None else [resolve_layer(layer, self.depth)]
        return self.values.get((name, layers[0])) if len(layers) == 1 else None

    def layers(self, name: str) -> list[int]:
        """Layers at which `name` was recorded, ascending."""
        return sorted(layer for place, layer in self.values if place == name)

    def stack(self, name: str) -> Tensor:
        """All recorded layers of `name` as one tensor, layer first: (L, B, …)."""
        layers = self.layers(name)
        if not layers:
            raise KeyError(f"`{name}` was not recorded; recorded: {self._summary()}.")
        return torch.stack([self.values[name, layer] for layer in layers])

    def at(self, layer: int) -> Recording:
        """Only what was recorded at one layer."""
        layer = resolve_layer(layer, self.depth)
        return Recording(self.depth, {place: value for place, value in self.values.items() if place[1] == layer})

    def _summary(self) -> str:
        names = dict.fromkeys(name for name, _ in self.values)
        return "; ".join(f"{name} at {self.layers(name)}" for name in names) or "nothing"


Reduce = Callable[[Tensor], Tensor]


class Recorder:
    """A tap that keeps what flows through the places asked for, and changes nothing.

    `layers`: which layers, all by default; negative ones count from the end. `reduce`: applied to each value before
    it is kept (one function for all names, or one per name), since whole attention of all layers is large. Each
    forward pass starts a new recording.
    """

    def __init__(
        self,
        *names: str,
        layers: Iterable[int] | None = None,
        reduce: Reduce | Mapping[str, Reduce] | None = None,
    ) -> None:
        for name in names:
            if name not in TAPS:
                raise unknown_name("tap", name, TAPS)
        self.names = frozenset(names)
        self.asked = None if layers is None else tuple(layers)
        self.reduce = reduce
        self._layers: frozenset[int] | None = None
        self.recording = Recording(0, {})

    def start(self, depth: int, layout: Layout | None = None) -> None:
        if self.asked is not None:
            self._layers = frozenset(resolve_layer(layer, depth) for layer in self.asked)
        self.recording = Recording(depth, {})

    def wants(self, name: str, layer: int) -> bool:
        return name in self.names and (self._layers is None or layer in self._layers)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        if self.wants(name, layer):
            reduce = self.reduce.get(name) if isinstance(self.reduce, Mapping) else self.reduce
            self.recording.values[name, layer] = reduce(value) if reduce else value
        return value

    def __getitem__(self, key: str | tuple[str, int]) -> Tensor:
        return self.recording[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.recording.values)


Look = Callable[[int, Recording], None]


class EachLayer:
    """A tap that hands `look` one layer after another, and keeps nothing once it has looked.

    `needs`: layer (1…L, 0 for the embedding) -> the places whose values are wanted there; other layers pass unseen.
    `block_out` is always among them. When a block ends, `look(layer, recording)` is called with a recording of that
    layer alone, which is then dropped: memory does not grow with the number of layers. `look` changes nothing.
    """

    def __init__(self, needs: Mapping[int, Collection[str]], look: Look) -> None:
        for name in {name for names in needs.values() for name in names}:
            if name not in TAPS:
                raise unknown_name("tap", name, TAPS)
        self.needs = {layer: frozenset(names) | {"block_out"} for layer, names in needs.items()}
        self.look = look
        self._recording = Recording(0, {})

    def start(self, depth: int, layout: Layout | None = None) -> None:
        self._recording = Recording(depth, {})

    def wants(self, name: str, layer: int) -> bool:
        return name in self.needs.get(layer, ())

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        if self.wants(name, layer):
            self._recording.values[name, layer] = value
            if name == "block_out":
                recording = self._recording
                self._recording = Recording(recording.depth, {})
                self.look(layer, recording)
        return value

"""Test-time registers: outliers move into a token of their own, and the last block reads what is left."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.check_numbers import check_finite_number
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.edits.register import Maximum, Patches, TestTimeRegister, register_token
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.taps import Recorder, Recording, chain, resolve_layer
from segment.encoders.kernels import Combine, KernelPositions
from segment.encoders.last_block import LastBlock
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words

NOWHERE = "none"


@dataclass(frozen=True, kw_only=True)
class Registers(Encoder):
    """The blocks run again with one more token, into which register neurons hand what they give; then the last block.

    `neurons` are `layer/unit` with + between them, such as 6/120+7/33; `none` adds no register, so that the features
    are those of the last block alone. Left empty they are found first, on the images that `fitted` gets: by
    `register-neuron` over the model's first `highest` share of blocks, the `top_k` best by the mean activation at
    tokens whose norm at layer `detect_at` is above `norm`, or without it above `ratio` times the image's median; where
    no image has such a token, none. `strength` (there `scale`), `maximum`, `patches`: see diagnostics.edits.register.
    `kernel` to `class_in_keys` as in segment.encoders.last_block: by default the stock block.

    The encoding has the stock layout: the register is left out. `detector` and `purifier` purify the patches that enter
    the last block, besides.
    Source: Jiang et al. 2025, nickjiang2378/test-time-registers 860df43, whose configuration for CLIP B/16 has norm=30,
    detect_at=-1, top_k=10 and the first half of the blocks.
    """

    neurons: str = ""
    top_k: int = 10
    highest: float = 0.5
    detect_at: int = -1
    norm: float | None = None
    ratio: float = 3.0  # our choice: the released lines of 30 and 150 are bound to their models
    strength: float = 1.0
    maximum: Maximum = "scalar"
    patches: Patches = "zero"
    kernel: str = "qk"
    combine: Combine = "sum"
    kernel_positions: KernelPositions = "kept"
    residual: bool = True
    ffn: bool = True
    class_in_keys: bool = True
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    def __post_init__(self) -> None:
        check_words(self)
        check_finite_number("strength", self.strength)
        _ = self.dense, self.search, self.places  # check their settings

    @property
    def dense(self) -> LastBlock:
        """The encoder of the last block."""
        shared = {entry.name for entry in fields(LastBlock)} & {entry.name for entry in fields(self)}
        return LastBlock(**{name: getattr(self, name) for name in shared})

    @property
    def search(self) -> RegisterNeuron:
        """What finds the neurons, by the rules of the release."""
        return RegisterNeuron(
            scope="model",
            searched="tokens",
            contrast=False,
            top_k=self.top_k,
            highest=self.highest,
            detect_at=self.detect_at,
            norm=self.norm,
            ratio=self.ratio,
        )

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """The neurons as (layer, unit); ValueError for a text that is none."""
        if self.neurons in ("", NOWHERE):
            return ()
        pairs = [re.fullmatch(r"(\d+)/(\d+)", item.strip()) for item in self.neurons.split("+")]
        if not all(pairs):
            raise ValueError(
                "`neurons` should be layer/unit with + between them, such as 6/120+7/33, none for no register, or "
                f"empty to find them first; got `{self.neurons}`."
            )
        return tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair)

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def fitted(self, backbone: Backbone, images: Tensor) -> Registers:
        dense: Any = self.dense.fitted(backbone, images)
        ready = self if dense is self.dense or dense == self.dense else replace(self, detector=dense.detector)
        if self.neurons:
            return ready
        try:
            found_neurons = self.search.fitted(backbone, images, resolve_layer(self.detect_at, backbone.depth)).neurons
        except ValueError as error:
            if "no outlier" not in str(error):
                raise
            found_neurons = ()
        text = "+".join(f"{layer}/{unit}" for layer, unit in found_neurons)
        return replace(ready, neurons=text or NOWHERE)

    def needs(self, depth: int) -> list[TapSite]:
        return [*self.dense.needs(depth), *([("block_out", 0)] if self.places else [])]

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if not self.neurons:
            return None
        if any(not 1 <= layer < backbone.depth for layer, _ in self.places):
            return f"register neurons sit in blocks 1…{backbone.depth - 1}; `neurons` names {self.neurons}"
        if self.places and backbone.blocks[0].needs_grid:
            return "a register has no place on the grid by which its attention rotates queries and keys"
        return self.dense.unsupported_reason(backbone, layout)

    def __call__(self, activations: Activations) -> Encoding:
        if not self.neurons:
            raise ValueError(
                "registers has no neurons yet: find them on a few images first, "
                "METHODS.build('registers').fitted(backbone, images), as a Segmenter does, or name them: "
                "registers:neurons=6/120+7/33 (none for no register)."
            )
        if not self.places:
            return self.dense(activations)
        backbone, layout, depth = activations.backbone, activations.layout, activations.depth
        edit = TestTimeRegister(
            neurons=self.places,
            token=register_token(backbone),
            scale=self.strength,
            maximum=self.maximum,
            patches=self.patches,
        )
        edit.start(depth, layout)
        tokens = edit("block_out", 0, activations.tokens(0))
        places = {(tap, resolve_layer(layer, depth)) for tap, layer in self.dense.needs(depth)}
        recorder = Recorder(*{tap for tap, _ in places}, layers=sorted({layer for _, layer in places}))
        inner = _Restarted(edit, layout)
        wider = edit.layout_with(layout)
        backbone.run(tokens, stop=max(layer for _, layer in places), tap=chain(inner, recorder), layout=wider)
        recording = Recording(depth, dict(recorder.recording.values))
        result = self.dense(Activations(backbone, activations.images, wider, recording, activations.labels))
        return replace(result, layout=layout)


class _Restarted:
    """The edit as a tap of a pass whose tokens have the register already."""

    def __init__(self, edit: TestTimeRegister, layout: Layout) -> None:
        self.edit, self.layout = edit, layout

    def start(self, depth: int, layout: Layout | None = None) -> None:
        self.edit.start(depth, self.layout)

    def wants(self, name: str, layer: int) -> bool:
        return name != "block_out" and self.edit.wants(name, layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        return self.edit(name, layer, value)

"""One detector for several layers, where it learns something else for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.layout import Layout
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class Layerwise(Detector):
    """A detector as it was fitted to each of several layers; a recording of one layer says which is meant.

    Score and mark are those of the layer's detector. A layer that it was not fitted to raises ValueError.
    """

    published: ClassVar[str] = "what the detector itself has."
    layers: tuple[int, ...]
    detectors: tuple[Detector, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return self.detectors[0].needs

    def unsupported_reason(self, layout: Layout) -> str | None:
        return self.detectors[0].unsupported_reason(layout)

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        layer = recording.layers(self.needs[0])[0]
        if layer not in self.layers:
            raise ValueError(
                f"{type(self.detectors[0]).__name__} was fitted to layers {', '.join(map(str, self.layers))}; this is "
                f"layer {layer}. Fit it to this one as well: fitted_layerwise(detector, backbone, images, layers)."
            )
        return self.detectors[self.layers.index(layer)].score(recording, layout)

    def mark(self, scores: Tensor) -> Tensor:
        return self.detectors[0].mark(scores)  # they differ in what they learned, not in their threshold


def fitted_layerwise(detector: Detector, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> Detector:
    """The detector made ready for each of the layers (1…L, 0 the embedding); itself where it does not learn."""
    plain = detector.detectors[0] if isinstance(detector, Layerwise) else detector
    ready = plain.fitted_to(backbone, images, layers)
    if all(detector_at_layer is plain for detector_at_layer in ready.values()):
        return plain
    return Layerwise(layers=tuple(ready), detectors=tuple(ready.values()))

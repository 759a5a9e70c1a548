"""Outliers purified at every layer where they appear, and the purified stream read by another method's encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.adaptive import Adaptive
from diagnostics.detectors.base import Detector
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.neighbor_mean import NeighborMean
from diagnostics.taps import Recorder, Recording, chain, resolve_layer
from segment.encoders.layerwise import fitted_layerwise
from segment.encoders.purification import purification_unsupported_reason
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite

AUTO = "auto"
# Our choice, by mIoU on drawn scenes of seeds 1 and 2 with `pocket` and `pocket:planted`, and on 30 images of VOC 2012
# val with ViT-Ti: a model that was matched with words by its class token alone is read best by self-self attention
# without residual; a classifier, whose residual stream holds what its rows ask for, by attention summed over layers.
WITH_TEXT = "clearclip(kernel=qq+kk+vv)"
WITHOUT_TEXT = "sfp-paper"


@dataclass(frozen=True, kw_only=True)
class PurifyFirst(Encoder):
    """After each of the blocks `purify_from`…`purify_to` what `detector` marks is purified, and later blocks see that.

    `then` names the method whose encoder reads the purified stream, with its settings in brackets:
    then=sc-clip(beta=0.5); one that runs the blocks itself (sfp-paper) purifies on its own way through them. `auto`
    goes by what the model was trained for: with a text tower `WITH_TEXT`, for a classifier `WITHOUT_TEXT`. An image in
    which nothing is marked keeps its stock stream, so that its features are the encoder's own, bit for bit; so are all
    with purifier=keep.
    Extras: those of the encoder; `outliers` (B, N), what was marked at any layer, besides what the encoder marks;
    `outliers_by_layer` (B, layers, N).
    Source: ours. The order, detect, replace, propagate, is that of SFP as printed (Jin et al., ICCV 2025, Sec 3).
    """

    detector: Detector = Adaptive(detector="relative-norm", rule="otsu")
    purifier: Purifier = NeighborMean()
    purify_from: int = 1
    purify_to: int = LAST_BUT_ONE
    then: str = AUTO

    def __post_init__(self) -> None:
        if any(isinstance(encoder, PurifyFirst) for encoder in self._encoders):  # an unknown method is refused as well
            raise ValueError("`then` should name another method than this one, such as clearclip, or auto.")

    @property
    def _encoders(self) -> tuple[Encoder, ...]:
        """The encoders that may read what is left: one, or with `auto` two."""
        # Here and not above: the registry imports this file.
        from segment.methods import METHODS

        names = (WITH_TEXT, WITHOUT_TEXT) if self.then == AUTO else (self.then,)
        return tuple(METHODS.build(name).encoder for name in names)

    def encoder(self, backbone: Backbone) -> Encoder:
        """The encoder that reads what is left of this model's stream, as it is without purification."""
        chosen = self._encoders[0 if self.then != AUTO or backbone.has_text else 1]
        return chosen.purifying(self.detector, Keep(), self.purify_from, self.purify_to) or chosen

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, self.purify_to)

    @property
    def reads_words(self) -> bool:
        return any(encoder.reads_words for encoder in self._encoders)

    @property
    def _keeps(self) -> bool:
        return isinstance(self.purifier, Keep)

    def needs(self, depth: int) -> list[TapSite]:
        places = [place for encoder in self._encoders for place in encoder.needs(depth)]
        return [*places, *([] if self._keeps else [("block_out", 0)])]

    def _layers(self, depth: int) -> range:
        return range(resolve_layer(self.purify_from, depth), resolve_layer(self.purify_to, depth) + 1)

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        reason = self.encoder(backbone).unsupported_reason(backbone, layout)
        if reason or self._keeps:
            return reason
        if backbone.depth < 2:
            return "it purifies before the last block, and the model has a single one"
        try:
            layers = self._layers(backbone.depth)
        except ValueError as error:
            return str(error).rstrip(".")
        if not layers or layers[0] < 1:
            return (
                f"outliers are purified after blocks among 1…{backbone.depth}, from the lower to the higher; "
                f"`purify_from` and `purify_to` are {self.purify_from} and {self.purify_to}"
            )
        return purification_unsupported_reason(self.detector, self.purifier, layout)

    def fitted(self, backbone: Backbone, images: Tensor) -> PurifyFirst:
        if self._keeps:
            return self
        ready = fitted_layerwise(self.detector, backbone, images, self._layers(backbone.depth))
        return self if ready is self.detector else replace(self, detector=ready)

    def __call__(self, activations: Activations) -> Encoding:
        encoder, layout = self.encoder(activations.backbone), activations.layout
        if self._keeps:
            return encoder(activations)
        running = encoder.purifying(self.detector, self.purifier, self.purify_from, self.purify_to)
        if running is not None:
            return running(activations)
        layers = self._layers(activations.depth)
        edit = PurifyAt(layers=tuple(layers), detector=self.detector, purifier=self.purifier)
        places = {(tap, resolve_layer(layer, activations.depth)) for tap, layer in encoder.needs(activations.depth)}
        recorder = Recorder(*{tap for tap, _ in places}, layers=sorted({layer for _, layer in places}))
        stop = max(layers[-1], *(layer for _, layer in places))
        activations.backbone.run(activations.tokens(0), stop=stop, tap=chain(edit, recorder), layout=layout)
        masks = torch.stack([edit.masks[layer] for layer in layers], dim=1)
        touched = masks.flatten(1).any(dim=1)
        result = encoder(activations if not touched.any() else _continued(activations, recorder.recording))
        if touched.any() and not touched.all():
            # Not from values put together: where the stock pass has views, sums come out otherwise in the last bit.
            result = _chosen(touched, result, encoder(activations))
        outliers = masks.any(dim=1)
        if "outliers" in result.extras:
            outliers = outliers | result.extras["outliers"]
        return replace(result, extras={**result.extras, "outliers": outliers, "outliers_by_layer": masks})


def _continued(activations: Activations, recording: Recording) -> Activations:
    """The activations of a pass that went on from purified tokens; the embedding is that of the stock pass."""
    values = {**activations.recording.values, **recording.values}
    settings: Any = {"text": activations.text, "positions": activations.positions}
    recording = Recording(activations.depth, values)
    return Activations(
        activations.backbone, activations.images, activations.layout, recording, activations.labels, **settings
    )


def _chosen(touched: Tensor, first: Encoding, second: Encoding) -> Encoding:
    """The images of `first` where `touched` (B), of `second` elsewhere."""

    def choose(purified: Tensor, stock: Tensor) -> Tensor:
        return torch.where(touched.view(-1, *(1,) * (purified.ndim - 1)), purified, stock)

    extras = {name: choose(value, second.extras[name]) for name, value in first.extras.items()}
    token = first.class_token
    if token is not None and second.class_token is not None:
        token = choose(token, second.class_token)
    return replace(first, patches=choose(first.patches, second.patches), class_token=token, extras=extras)

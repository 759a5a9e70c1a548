"""Another detector with a line of its own for each layer: from a profile that was made, or from the images at hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.detectors.base import Detector
from diagnostics.gap_line import GapLine
from diagnostics.layout import Layout
from diagnostics.profile_file import check_model, read_profile
from diagnostics.registry import Registry, spec_name
from diagnostics.taps import EachLayer, Recording, resolve_layer

BATCH = 8  # images in one forward pass while lines are looked for; our choice


@dataclass(frozen=True, kw_only=True)
class Lined(Detector):
    """What detectors with a line have in common: the inner detector's scores less the line.

    `line` is what `fitted` puts here: the threshold of its layer, infinite where the layer has none.
    """

    line: float | None = None

    @property
    def inner_spec(self) -> str:
        """The detector whose scores are looked at."""
        raise NotImplementedError

    @property
    def inner(self) -> Detector:
        # Here and not above: the registry imports this file.
        from diagnostics.detectors import DETECTORS

        registry: Registry[type[Detector]] = DETECTORS
        if spec_name(self.inner_spec) in ("profile", "auto"):
            raise ValueError(f"`{self.inner_spec}` has a line already; name the detector whose scores get one.")
        built: Detector = registry.build(self.inner_spec)
        if built.learns:
            raise ValueError(f"`{self.inner_spec}` learns for each layer; take a detector that scores as it is.")
        return built

    @property
    def needs(self) -> tuple[str, ...]:
        return self.inner.needs

    def unsupported_reason(self, layout: Layout) -> str | None:
        return self.inner.unsupported_reason(layout)

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if self.line is None:
            raise ValueError(
                f"{type(self).__name__} has no line yet: detector.fitted(backbone, images, layer) gets it."
            )
        scores = self.inner.score(recording, layout)
        if math.isinf(self.line):
            # In the same order, and all below 0: nothing is an outlier where there is no line.
            return scores.atan() - math.pi
        return scores - self.line

    def mark(self, scores: Tensor) -> Tensor:
        return scores > 0


@dataclass(frozen=True, kw_only=True)
class Profiled(Lined):
    """Marks what is above the line of a backbone's profile: `profile(FILE)`, a file of `outliers profile`.

    Score: the profile's detector's less the line of the layer, so outliers are above 0; where the layer has no line,
    all are below 0, in the same order. `fitted` reads the file and refuses a profile of other weights or of other
    normalization, and a layer that it does not have.
    Source: ours.

    Extreme values: as the profile's detector has them. In bf16 the weights are others than in fp32: a profile is of the
    precision in which it was made.
    """

    bare: ClassVar[str] = "file"
    published: ClassVar[str] = "no threshold of its own: that of the profile, for the very weights."
    file: str = ""
    facts: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def known(self) -> Mapping[str, Any]:
        """The facts of the profile; ValueError without a file."""
        if self.facts is not None:
            return self.facts
        if not self.file:
            raise ValueError("detector `profile` should name a file: profile(FILE), from outliers profile --out DIR.")
        return read_profile(self.file)

    @property
    def inner_spec(self) -> str:
        return str(self.known["detector"]) if self.facts is not None or self.file else "relative-norm"

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        return self.fitted_to(backbone, images, [layer])[layer]

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        facts = self.known
        check_model(facts, backbone, fingerprint(backbone.model), self.file or "the profile")
        ready = {}
        for layer in layers:
            at = str(resolve_layer(layer, backbone.depth))
            if at not in facts["threshold"]:
                raise ValueError(
                    f"`{self.file or 'the profile'}` has the layers {', '.join(facts['threshold'])}, and layer {at} is "
                    "asked for. Profile it, too: outliers profile IMAGES --out DIR, with all layers by default."
                )
            line = facts["threshold"][at]
            ready[layer] = replace(self, facts=facts, line=math.inf if line is None else float(line))
        return ready


@dataclass(frozen=True, kw_only=True)
class Automatic(Lined):
    """Looks for a line in the scores of the images at hand: `auto`; marks nothing where they have no gap.

    `fitted` scores the images that it gets by `detector` and puts the line where their scores have a gap (`GapLine`);
    it warns what it did. Score: the detector's less the line, so outliers are above 0; without a line all are below 0,
    in the same order. A profile of a hundred images tells more: `profile(FILE)`.
    Source: ours.

    Extreme values: as the detector has them. In bf16 the line may differ a little.
    """

    published: ClassVar[str] = "no threshold of its own: it lies where the scores of the images at hand have a gap."
    detector: str = "relative-norm"
    alpha: float = 0.01

    def __post_init__(self) -> None:
        GapLine(alpha=self.alpha)

    @property
    def inner_spec(self) -> str:
        return self.detector

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        return self.fitted_to(backbone, images, [layer])[layer]

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        resolved = {layer: resolve_layer(layer, backbone.depth) for layer in layers}
        places = sorted(set(resolved.values()))
        scores: dict[int, list[Tensor]] = {at: [] for at in places}
        inner, layout = self.inner, backbone.layout(images)

        def look(at: int, recording: Recording) -> None:
            scores[at].append(inner.score(recording, layout).double().cpu())

        tap = EachLayer(dict.fromkeys(places, inner.needs), look)
        with torch.no_grad():
            for batch in images.split(BATCH):
                backbone.trunk(batch, stop=places[-1], tap=tap)
        rule = GapLine(alpha=self.alpha)
        lines = {at: rule(torch.cat(scores[at]).numpy(), layers=len(places)) for at in places}
        for at, line in lines.items():
            what = "no line" if line.threshold is None else f"a line at {line.threshold:.3g}"
            few = ": too few images to tell" if line.answer == "too few images" else ""
            warnings.warn(
                f"detector `auto` looked at {len(images)} images: `{self.detector}` has {what} at layer {at} of "
                f"`{backbone.spec}`{few}.",
                stacklevel=2,
            )
        threshold = {at: math.inf if line.threshold is None else line.threshold for at, line in lines.items()}
        return {layer: replace(self, line=threshold[at]) for layer, at in resolved.items()}

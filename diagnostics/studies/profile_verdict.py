"""The verdict of a profile, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.gap_line import GapLine
from diagnostics.registry import spec_name

# Detectors whose score is the norm, or the norm over the image's median.
NORM_DETECTORS = ("relative-norm", "norm")


def verdict_of(summary: Mapping[str, Any], detector: str, rule: GapLine) -> str:
    """`none …`, `norm outliers …`, `attention sinks …` or `both …`, with where, how many and how large.

    Outliers by another detector than a norm's are called by it. Layers that more images could decide are named.
    """
    sinks = _sinks(summary) if summary["sink_layers"] else ""
    outliers = _outliers(summary, detector) if summary["first_layer"] is not None else ""
    unsure = summary["too_few_images"]
    if outliers and unsure:
        outliers += f"; more images would tell about {_layers(unsure)}"
    if outliers and sinks:
        same = f"; {100 * summary['sinks_that_are_outliers']:.0f} % of the sinks are these patches"
        return f"both: {outliers}; {sinks}{same}"
    if sinks:
        return f"{sinks}, without large norms" if spec_name(detector) in NORM_DETECTORS else sinks
    return outliers or _none(summary, detector, rule)


def _none(summary: Mapping[str, Any], detector: str, rule: GapLine) -> str:
    images = _count(summary["images"], "image")
    if summary["too_few_images"]:
        layers = _layers(summary["too_few_images"])
        text = f"none shown: not enough images to tell ({images}; a gap at {layers} would count if more had it"
        return f"{text}: give 10 or more)" if summary["images"] < 10 else f"{text})"
    what = {"the norms" if spec_name(detector) in NORM_DETECTORS else "the scores": summary["widest_gap"]}
    if summary["sinks_measured"]:
        what["the attention received"] = summary["widest_sink_gap"]
    near = [
        f"{name} {gap['width']:.2f} at layer {gap['layer']}{' in too few images' * (gap['width'] >= rule.width)}"
        for name, gap in what.items()
        if gap is not None
    ]
    widest = f"; widest gap, in tail scales, of {rule.width:g} asked: {', '.join(near)}" if near else ""
    return f"none: in no layer do {' or '.join(what)} have a gap ({images}{widest})"


def _outliers(summary: Mapping[str, Any], detector: str) -> str:
    norms = spec_name(detector) in NORM_DETECTORS
    name = "norm outliers" if norms else f"outliers by `{detector}`"
    first, last = summary["first_layer"], summary["last_layer"]
    where = f"from layer {first} to {last}" if first != last else f"at layer {first}"
    low, high = summary["outliers_per_image_quartiles"]
    without = summary["images_without"]
    count = f"{summary['outliers_per_image']:g} an image (middle half {low:g} to {high:g}"
    count += f"; {100 * without:.0f} % of the images have none)" if without else ")"
    unit = " x the median norm" if spec_name(detector) == "relative-norm" else ""
    size = "" if summary["typical"] is None else f", typically {summary['typical']:.3g}{unit}"
    return f"{name} {where}: {count}{size} ({_count(summary['images'], 'image')})"


def _sinks(summary: Mapping[str, Any]) -> str:
    share = f"{100 * summary['sink_share']:.0f} % of the patches' attention goes to {summary['sinks_per_image']:.3g}"
    return f"attention sinks at {_layers(summary['sink_layers'])}: {share} patches an image"


def _layers(layers: Sequence[int]) -> str:
    """`layer 8`, `layers 8 to 12`, `layers 8, 10`."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"

"""What the figures of SFP claim, in numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from attention_outliers.papers.claim import NO_RULE, Check, verdict
from attention_outliers.papers.claim_maps import (
    ALIKE,
    HOT,
    attention_maps,
    between_patches,
    hottest,
    likeness,
    mean_over,
    of_class_token,
)
from attention_outliers.papers.claim_scores import method_scores
from attention_outliers.papers.cliptrase.claims import stripes
from attention_outliers.papers.inputs import FigureInputs
from attention_outliers.papers.sfp.figures import BETA, DETECTED_AT, SHEET, marks_of, object_and_background, with_som
from segment.encoders.fusion import aggregate, similarity, thresholded

# Largest over median self-attention of the hottest patches, above which it is said to have their peaks. Our choice.
PEAK = 2.0


def _overview(inputs: FigureInputs, number: int) -> tuple[float, float, float]:
    """At layer 11 of 12: correlation of three maps; what the hottest patches get from the class token, and from
    themselves, over the median patch.
    """
    layer = inputs.layer(11)
    matrix = attention_maps(inputs, [layer], number)[layer]
    between, by_class = between_patches(inputs, matrix), of_class_token(inputs, matrix)
    if by_class is None:
        return float("nan"), float("nan"), float("nan")
    rows = torch.stack([*between[list(object_and_background(inputs))], by_class])
    hot, by_itself = hottest(between.mean(dim=0)), between.diagonal()
    peaks = [float(weights[hot].mean() / weights.quantile(0.5)) for weights in (by_class, by_itself)]
    return likeness(rows), peaks[0], peaks[1]


def main_fig_1(inputs: FigureInputs) -> list[Check]:
    numbers = [_overview(inputs, number) for number in range(len(inputs.images))]
    alike, by_class, by_self = (mean_over(inputs, lambda number, of=of: numbers[number][of]) for of in range(3))  # type: ignore[misc]
    return [
        Check(
            measured="correlation of the maps a, b and c",
            paper="hot at the same places",
            value=alike,
            holds=verdict(alike > ALIKE, alike, line=ALIKE),
        ),
        Check(measured=f"the {HOT} most seen patches in the class token's map, 1 is the median", value=by_class),
        Check(
            measured="the same patches in their attention to themselves",
            paper="no peaks: near 1",
            value=by_self,
            holds=verdict(by_self < PEAK, by_self, line=PEAK),
        ),
    ]


def _norm_ratio(patches: Tensor) -> float:
    norms = patches.float().norm(dim=-1)
    return float(norms.max() / norms.quantile(0.5))


def _purified(inputs: FigureInputs, number: int) -> dict[int, tuple[float, float]]:
    """Largest over median norm of what leaves layers 2 to 9, without SOM and with it at each of them."""
    layers = inputs.layers(*range(2, 10))
    stock = inputs.record("block_out", layers=layers, number=number)
    purified, _ = with_som(inputs.only(number), layers)
    return {
        layer: (
            _norm_ratio(inputs.layout.patches(stock["block_out", layer])),
            _norm_ratio(inputs.layout.patches(purified[layer])),
        )
        for layer in layers
    }


def main_fig_3(inputs: FigureInputs) -> list[Check]:
    layer, layers = inputs.layer(9), inputs.layers(*range(2, 10))

    def ratios(number: int) -> list[float]:
        stock = inputs.record("block_out", layers=[layer], number=number)["block_out", layer]
        purified = inputs.layout.patches(with_som(inputs.only(number), layers)[0][layer]).float()
        enhanced = aggregate(thresholded(similarity(purified), BETA), purified)
        return [_norm_ratio(patches) for patches in (inputs.layout.patches(stock), purified, enhanced)]

    numbers = [ratios(number) for number in range(len(inputs.images))]
    stock, purified, enhanced = (mean_over(inputs, lambda number, of=of: numbers[number][of]) for of in range(3))  # type: ignore[misc]
    words = f"largest over median patch norm, layer {layer}"
    return [
        Check(measured=words, value=stock),
        Check(
            measured=f"{words}, with SOM",
            paper="outliers vanish",
            value=purified,
            holds=verdict(purified < stock, purified, stock),
        ),
        Check(
            measured=f"{words}, with SOM and SAE",
            value=enhanced,
            holds=verdict(enhanced <= purified, enhanced, purified),
        ),
    ]


def main_fig_5(inputs: FigureInputs) -> list[Check]:
    numbers = [_purified(inputs, number) for number in range(len(inputs.images))]
    early, late = inputs.layer(6), inputs.layer(9)
    before, after, purified = (
        mean_over(inputs, lambda number, layer=layer, of=of: numbers[number][layer][of])  # type: ignore[misc]
        for layer, of in ((early, 0), (late, 0), (late, 1))
    )
    words = "largest over median patch norm"
    return [
        Check(measured=f"{words}, layer {early}, without SOM", value=before),
        Check(
            measured=f"{words}, layer {late}, without SOM",
            paper=f"larger than in layer {early}",
            value=after,
            holds=verdict(after > before, after, before),
        ),
        Check(
            measured=f"{words}, layer {late}, with SOM",
            paper="smaller than without",
            value=purified,
            holds=verdict(purified < after, purified, after),
        ),
    ]


def _queries_and_class(inputs: FigureInputs, number: int) -> tuple[float, float]:
    """At layer 11 of 12: correlation of what patches look at; attention that the hottest of them get from the class
    token over that from patches.
    """
    layer = inputs.layer(11)
    matrix = attention_maps(inputs, [layer], number)[layer]
    between, by_class = between_patches(inputs, matrix), of_class_token(inputs, matrix)
    received = between.mean(dim=0)
    hot = hottest(received)
    stronger = float("nan") if by_class is None else float(by_class[hot].sum() / received[hot].sum())
    return likeness(between), stronger


def supp_fig_1(inputs: FigureInputs) -> list[Check]:
    numbers = [_queries_and_class(inputs, number) for number in range(len(inputs.images))]
    alike, stronger = (mean_over(inputs, lambda number, of=of: numbers[number][of]) for of in range(2))  # type: ignore[misc]
    layer = inputs.layer(11)
    return [
        *(claim for claim in stripes(inputs) if claim.paper != "less than before"),  # CLIPtrase's claim alone
        Check(
            measured=f"correlation of what two patches look at, layer {layer}",
            paper="the same for every query",
            value=alike,
            holds=verdict(alike > ALIKE, alike, line=ALIKE),
        ),
        Check(
            measured=f"what the {HOT} most seen patches get from the class token, over what patches give",
            paper="above 1",
            value=stronger,
            holds=verdict(stronger > 1, stronger, line=1),
        ),
    ]


def supp_fig_2(inputs: FigureInputs) -> list[Check]:
    # The layers of the released notebook, which found 0, 0, 4 and 7 in its one image by 1.5 A[cls,i] > A[i,i].
    layers = sorted({*inputs.layers(1, 6, 11), inputs.layer(DETECTED_AT)})
    counts = {
        layer: np.array([int(marks_of(inputs, layer, number).sum()) for number in range(len(inputs.images))])
        for layer in layers
    }
    shown = inputs.layer(DETECTED_AT)
    last = counts[shown]
    claims = [
        Check(
            measured=f"outliers in an image by Eq 4, layer {layer}",
            value=float(marked.mean()),
            paper="none" if layer == layers[0] else "",
            holds=verdict(marked.mean() < 1) if layer == layers[0] else NO_RULE,
        )
        for layer, marked in counts.items()
    ]
    spread = Check(
        measured=f"fewest and most in an image, layer {shown}",
        paper="differ by image",
        value=f"{last.min()} to {last.max()}",
        holds=bool(last.min() < last.max()) if len(last) > 1 else None,
    )
    return [*claims, spread]


def supp_fig_3(inputs: FigureInputs) -> list[Check]:
    return method_scores(inputs, SHEET, "sfp/table-1")


CLAIMS = {
    "main-fig-1": main_fig_1,
    "main-fig-3": main_fig_3,
    "main-fig-5": main_fig_5,
    "supp-fig-1": supp_fig_1,
    "supp-fig-2": supp_fig_2,
    "supp-fig-3": supp_fig_3,
}

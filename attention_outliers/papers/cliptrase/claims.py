"""What the figures of CLIPtrase claim, in numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from attention_outliers.papers.claim import Claim, verdict
from attention_outliers.papers.claim_maps import (
    ALIKE,
    HOT,
    STRIPES,
    attention_maps,
    between_patches,
    first_above,
    hottest,
    labels_of,
    likeness,
    mean_over,
    of_class_token,
    same_class_auc,
    stripe_contrast,
)
from attention_outliers.papers.claim_scores import method_scores, scorable
from attention_outliers.papers.cliptrase.figures import clusters_of, density_table, recovered
from attention_outliers.papers.inputs import Inputs
from segment.methods import METHODS

# Points of mIoU within which a setting counts as good: the paper's best is 81.01, most of its grid is above 75.
NEAR_THE_BEST = 6.0
OWN_EPS, OWN_FEWEST = 0.7, 3  # leaves162/CLIPtrase 2b7de61


def _last(inputs: Inputs, number: int) -> tuple[Tensor, Tensor]:
    """Attention and recovered correlation between patches in the last block: (N, N) each."""
    layer = inputs.backbone.depth
    before = between_patches(inputs, attention_maps(inputs, [layer], number)[layer])
    return before, between_patches(inputs, recovered(inputs, number))


def fig_1a(inputs: Inputs) -> list[Claim]:
    return method_scores(inputs, ("clip", "cliptrase"), "cliptrase/table-1")


def fig_1b(inputs: Inputs) -> list[Claim]:
    pairs = [_last(inputs, number) for number in range(len(inputs.images))]
    before = mean_over(inputs, lambda number: likeness(pairs[number][0]))
    after = mean_over(inputs, lambda number: likeness(pairs[number][1]))
    return [
        Claim(measured="correlation of what two patches look at, attention", paper="alike for all", here=before,
             holds=verdict(before > ALIKE, before)),
        Claim(measured="correlation of what two patches look at, SCR", paper="less", here=after,
             holds=verdict(after < before, before, after)),
    ]  # fmt: skip


def _contrasts(inputs: Inputs) -> dict[int, float]:
    layers = range(1, inputs.backbone.depth + 1)
    found = []
    for number in range(len(inputs.images)):
        maps = attention_maps(inputs, layers, number)
        found.append({layer: stripe_contrast(between_patches(inputs, maps[layer])) for layer in layers})
    return {layer: mean_over(inputs, lambda number, layer=layer: found[number][layer]) for layer in layers}  # type: ignore[misc]


def stripes(inputs: Inputs) -> list[Claim]:
    """Stripes of attention by layer: where they begin, and how far a patch's map is that of the class token."""
    contrasts = _contrasts(inputs)
    middle, late, last = inputs.layer(6), inputs.layer(11), inputs.backbone.depth
    onset = first_above(contrasts, STRIPES)
    words = "largest over median attention that a patch receives"
    seen = [
        Claim(measured=f"{words}, layer {layer}", here=contrasts[layer])
        for layer in inputs.layers(3, 6, 9, 11)
        if layer != last
    ]
    seen += [
        Claim(measured=f"{words}, layer {last}", paper="less than before", here=contrasts[last],
             holds=verdict(contrasts[last] < contrasts[late], contrasts[last], contrasts[late])),
        Claim(measured=f"first layer where it is above {STRIPES:g}", paper=f"about {middle}", here=onset,
             holds=verdict(abs(onset - middle) <= 1, onset)),
    ]  # fmt: skip
    return seen


def _class_and_patches(inputs: Inputs, number: int) -> tuple[float, float]:
    """At layer 11 of 12: correlation of the class token's map with the patches' mean, and the hottest they share."""
    layer = inputs.layer(11)
    matrix = attention_maps(inputs, [layer], number)[layer]
    own = of_class_token(inputs, matrix)
    if own is None:
        return float("nan"), float("nan")
    received = between_patches(inputs, matrix).mean(dim=0)
    shared = len(set(hottest(own).tolist()) & set(hottest(received).tolist()))
    return likeness(torch.stack([own, received])), float(shared)


def fig_2(inputs: Inputs) -> list[Claim]:
    found = [_class_and_patches(inputs, number) for number in range(len(inputs.images))]
    together = mean_over(inputs, lambda number: found[number][0])
    shared = mean_over(inputs, lambda number: found[number][1])
    layer = inputs.layer(11)
    return [
        *stripes(inputs),
        Claim(measured=f"correlation of the class token's map and the patches' mean, layer {layer}", paper="alike",
             here=together, holds=verdict(together > ALIKE, together)),
        Claim(measured=f"of the {HOT} patches that the class token looks at most, those that patches do", here=shared,
             paper="the same few", holds=verdict(shared > HOT / 2, shared)),
    ]  # fmt: skip


def fig_4(inputs: Inputs) -> list[Claim]:
    if inputs.labels is None:
        return fig_1b(inputs)
    areas = []
    for number in range(len(inputs.images)):
        labels = labels_of(inputs, number)
        areas.append([same_class_auc(matrix, labels) for matrix in _last(inputs, number) if labels is not None])
    before = mean_over(inputs, lambda number: areas[number][0])
    after = mean_over(inputs, lambda number: areas[number][1])
    return [
        Claim(measured="same-class AUC of attention", here=before),
        Claim(measured="same-class AUC of SCR", paper="a patch sees its own object", here=after,
             holds=verdict(after > before, before, after)),
    ]  # fmt: skip


def fig_5(inputs: Inputs) -> list[Claim]:
    denoise = METHODS["cliptrase"].settings()["denoise"] if inputs.layout.has_class_token else "self"

    def count(number: int, how: str) -> float:
        return float(clusters_of(inputs, number, f"cliptrase:denoise={how}").max() + 1)

    before = mean_over(inputs, lambda number: count(number, "none"))
    after = mean_over(inputs, lambda number: count(number, str(denoise)))
    return [
        Claim(measured="clusters of an image before denoising", here=before),
        Claim(measured="clusters of an image after denoising", paper="one less: that of global patches", here=after,
             holds=verdict(after < before, before, after)),
    ]  # fmt: skip


def _global_and_local(inputs: Inputs, number: int) -> tuple[float, float]:
    """Recovered correlation of the hottest patches with each other, and with all others."""
    layer = inputs.layer(11)
    received = between_patches(inputs, attention_maps(inputs, [layer], number)[layer]).mean(dim=0)
    some = hottest(received)
    matrix = between_patches(inputs, recovered(inputs, number))
    others = torch.ones(len(matrix), dtype=torch.bool, device=matrix.device)
    others[some] = False
    among = matrix[some][:, some]
    mutual = (among.sum() - among.diagonal().sum()) / (len(some) * (len(some) - 1))
    return float(mutual), float(matrix[some][:, others].mean())


def fig_6(inputs: Inputs) -> list[Claim]:
    found = [_global_and_local(inputs, number) for number in range(len(inputs.images))]
    mutual = mean_over(inputs, lambda number: found[number][0])
    outward = mean_over(inputs, lambda number: found[number][1])
    return [
        Claim(measured=f"SCR of the {HOT} most seen patches with each other", paper="more than with others",
        here=mutual,
             holds=verdict(mutual > outward, mutual, outward)),
        Claim(measured=f"SCR of the {HOT} most seen patches with all others", here=outward),
    ]  # fmt: skip


def fig_7(inputs: Inputs) -> list[Claim]:
    if not scorable(inputs):
        return []
    table = density_table(inputs)
    best = float(table.to_numpy().max())
    near = 100 * float((table > best - NEAR_THE_BEST).to_numpy().mean())
    return [
        Claim(measured="mIoU of the best setting, per cent", paper="81.01 (VOC20)", here=best),
        Claim(measured=f"mIoU at eps {OWN_EPS}, {OWN_FEWEST} samples, as released, per cent", paper="80.95 (VOC20)",
             here=float(table[OWN_FEWEST][OWN_EPS])),
        Claim(measured=f"settings within {NEAR_THE_BEST:g} points of the best, per cent", paper="most (above 75)",
             here=near, holds=verdict(near > 50, near)),
    ]  # fmt: skip


CLAIMS = {
    "fig-1a": fig_1a,
    "fig-1b": fig_1b,
    "fig-2": fig_2,
    "fig-4": fig_4,
    "fig-5": fig_5,
    "fig-6": fig_6,
    "fig-7": fig_7,
    "fig-9": fig_4,
    "fig-10": fig_5,
}

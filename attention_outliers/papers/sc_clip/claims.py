"""What the figures of SC-CLIP claim, in numbers."""

from __future__ import annotations

from torch import Tensor

from attention_outliers.papers.claim import Claim, verdict
from attention_outliers.papers.claim_maps import (
    ALIKE,
    attention_maps,
    between_patches,
    hottest,
    labels_of,
    likeness,
    mean_over,
    same_class_auc,
)
from attention_outliers.papers.claim_scores import method_scores
from attention_outliers.papers.inputs import Inputs
from attention_outliers.papers.sc_clip.figures import (
    BETA,
    SHEET_ALONE,
    STEPS,
    last_attention,
    purified_tokens,
    same_class_curves,
)
from diagnostics.measures.auc import pair_auc
from figures.curves.roc import area_under
from segment.encoders.fusion import aggregate, masked_softmax, similarity, thresholded
from segment.encoders.self_calibrate import POST, PRE, layer_at

# Areas that the paper prints, in the order of its Fig 8: last layer, middle layer, then the steps.
LAST, MIDDLE = "0.66", "0.76"
PUBLISHED = ("0.69", "0.74", "0.80", "0.81")


def fig_2a(inputs: Inputs) -> list[Claim]:
    last = inputs.backbone.depth
    between = [
        between_patches(inputs, attention_maps(inputs, [last], number)[last]) for number in range(len(inputs.images))
    ]
    alike = mean_over(inputs, lambda number: likeness(between[number]))

    def share(number: int) -> float:
        received = between[number].mean(dim=0)
        return 100 * float(received[hottest(received)].sum() / received.sum())

    held = mean_over(inputs, share)
    even = 100 * len(hottest(between[0].mean(dim=0))) / inputs.layout.count
    return [
        Claim(measured="correlation of what two patches look at, last layer", paper="the same places", here=alike,
             holds=verdict(alike > ALIKE, alike)),
        Claim(measured=f"attention that goes to the 5 most seen patches, per cent ({even:.2g} if even)", here=held),
    ]  # fmt: skip


def _distances(inputs: Inputs, number: int) -> tuple[float, float]:
    """How far anomaly tokens and the class token are from the image's mean, over the median of the other patches."""
    tokens, _, mask = purified_tokens(inputs.only(number))
    layout = inputs.layout
    patches = layout.patches(tokens)[0].float()
    mask = mask.to(patches.device)
    center = patches.mean(dim=0)
    away = (patches - center).norm(dim=-1)
    ordinary = away[~mask].quantile(0.5)
    odd = float(away[mask].quantile(0.5) / ordinary) if mask.any() else float("nan")
    if not layout.has_class_token:
        return odd, float("nan")
    return odd, float((layout.class_token(tokens)[0].float() - center).norm() / ordinary)


def fig_2b(inputs: Inputs) -> list[Claim]:
    found = [_distances(inputs, number) for number in range(len(inputs.images))]
    odd = mean_over(inputs, lambda number: found[number][0])
    own = mean_over(inputs, lambda number: found[number][1])
    return [
        Claim(measured="distance of anomaly tokens from the center, 1 is a normal patch", paper="apart: above 1",
             here=odd, holds=verdict(odd > 1, odd)),
        Claim(measured="distance of the class token from the center", paper="with the normal ones, below anomalies",
             here=own, holds=verdict(own < odd, own, odd)),
    ]  # fmt: skip


def _attention_on(inputs: Inputs, matrix: Tensor, mask: Tensor) -> float:
    """Share of attention among patches, in per cent, that ordinary patches give to those marked."""
    between, mask = between_patches(inputs, matrix), mask.to(matrix.device)
    given = between[~mask]
    return 100 * float((given[:, mask].sum(dim=1) / given.sum(dim=1)).mean())


def fig_3(inputs: Inputs) -> list[Claim]:
    found = []
    for number in range(len(inputs.images)):
        tokens, purified, mask = purified_tokens(inputs.only(number))
        found.append([_attention_on(inputs, last_attention(inputs, some), mask) for some in (tokens, purified)])
    before = mean_over(inputs, lambda number: found[number][0])
    after = mean_over(inputs, lambda number: found[number][1])
    return [
        Claim(measured="attention of normal patches that goes to anomaly tokens, per cent", here=before),
        Claim(measured="the same after purification, per cent", paper="less", here=after,
             holds=verdict(after < before, before, after)),
    ]  # fmt: skip


def _areas(inputs: Inputs, steps: dict[str, str]) -> list[float]:
    """Areas under the curves of the figure: last layer, middle layer, steps."""
    return [area_under(fpr, tpr) for fpr, tpr in same_class_curves(inputs, steps).values()]


def fig_4_roc(inputs: Inputs) -> list[Claim]:
    areas = _areas(inputs, {}) if inputs.labels is not None else []
    if len(areas) != 2:
        return []
    last, middle = areas
    return [
        Claim(measured="same-class AUC, last layer", paper=LAST, here=last),
        Claim(measured=f"same-class AUC, layer {layer_at(inputs.backbone.depth, PRE, 'line')}",
             paper=f"{MIDDLE}, above the last", here=middle, holds=verdict(middle > last, middle, last)),
    ]  # fmt: skip


def fig_8(inputs: Inputs) -> list[Claim]:
    areas = _areas(inputs, STEPS) if inputs.labels is not None else []
    if len(areas) != 2 + len(STEPS):
        return []
    seen, former = [], areas[0]
    for words, published, here in zip(STEPS, PUBLISHED, areas[2:], strict=True):
        seen.append(Claim(measured=f"same-class AUC: {words}", paper=f"{published}, above the one before", here=here,
                         holds=verdict(here > former, here, former)))  # fmt: skip
        former = here
    return [Claim(measured="same-class AUC: last layer", paper=LAST, here=areas[0]), *seen]


def _adjusted(inputs: Inputs, number: int) -> list[float]:
    """Same-class AUC of features as they are and aggregated, of attention as it is and enhanced."""
    labels = labels_of(inputs, number)
    if labels is None:
        return [float("nan")] * 4
    layout, pre = inputs.layout, layer_at(inputs.backbone.depth, PRE, "line")
    _, purified, _ = purified_tokens(inputs.only(number))
    patches = layout.patches(purified).float()
    middle = inputs.record("block_out", layers=[pre], number=number)["block_out", pre]
    affinity = similarity(layout.patches(middle))
    aggregated = aggregate(thresholded(affinity, BETA), patches)
    own = between_patches(inputs, last_attention(inputs, purified))
    enhanced = masked_softmax(affinity, shift=1.0, scale=3.0)[0]  # SuleBai/SC-CLIP 0417ba9
    return [
        float(pair_auc(patches, labels[None])),
        float(pair_auc(aggregated, labels[None])),
        same_class_auc(own, labels),
        same_class_auc(enhanced, labels),
    ]


def fig_5(inputs: Inputs) -> list[Claim]:
    if inputs.labels is None:
        return []
    found = [_adjusted(inputs, number) for number in range(len(inputs.images))]
    features, aggregated, own, enhanced = (
        mean_over(inputs, lambda number, which=which: found[number][which])  # type: ignore[misc]
        for which in range(4)
    )
    return [
        Claim(measured="same-class AUC of features", here=features),
        Claim(measured="same-class AUC of aggregated features", paper="more coherent", here=aggregated,
             holds=verdict(aggregated > features, aggregated, features)),
        Claim(measured="same-class AUC of attention", here=own),
        Claim(measured="same-class AUC of enhanced attention", paper="follows objects", here=enhanced,
             holds=verdict(enhanced > own, enhanced, own)),
    ]  # fmt: skip


def fig_7(inputs: Inputs) -> list[Claim]:
    layers = sorted({layer_at(inputs.backbone.depth, POST, "line"), *inputs.layers(5, 8, 9)})

    def breadths(number: int) -> list[float]:
        recording = inputs.record("block_out", layers=layers, number=number)
        close = [similarity(inputs.layout.patches(recording["block_out", layer])) > BETA for layer in layers]
        return [100 * float(one.float().mean()) for one in close]

    found = [breadths(number) for number in range(len(inputs.images))]
    broad = [mean_over(inputs, lambda number, place=place: found[number][place]) for place in range(len(layers))]  # type: ignore[misc]
    seen = [
        Claim(measured=f"patches with a cosine above {BETA} to a patch, layer {layer}, per cent", here=here)
        for layer, here in zip(layers[:-1], broad[:-1], strict=True)
    ]
    deepest = Claim(measured=f"patches with a cosine above {BETA} to a patch, layer {layers[-1]}, per cent",
                   paper=f"broader than in layer {layers[0]}", here=broad[-1],
                   holds=verdict(broad[-1] > broad[0], *broad))  # fmt: skip
    return [*seen, deepest]


def fig_1(inputs: Inputs) -> list[Claim]:
    return method_scores(inputs, SHEET_ALONE, "sc-clip/table-1-b16")


CLAIMS = {
    "fig-1": fig_1,
    "fig-2a": fig_2a,
    "fig-2b": fig_2b,
    "fig-3": fig_3,
    "fig-4-roc": fig_4_roc,
    "fig-5": fig_5,
    "fig-6": fig_1,
    "fig-7": fig_7,
    "fig-8": fig_8,
    "fig-10": fig_1,
}

"""What the figures of SC-CLIP claim, in numbers."""

from __future__ import annotations

from torch import Tensor

from attention_outliers.papers.claim import Check, ImageMean, verdict
from attention_outliers.papers.claim_maps import (
    ALIKE,
    attention_maps,
    between_patches,
    hottest,
    labels_of,
    likeness,
    mean_over,
    on_objects,
    same_class_auc,
)
from attention_outliers.papers.claim_scores import method_scores
from attention_outliers.papers.inputs import FigureInputs
from attention_outliers.papers.sc_clip.figures import (
    BEFORE_AND_AFTER,
    BETA,
    SHEET_ALONE,
    adjusted,
    last_attention,
    purified_tokens,
    same_class,
    same_class_curves,
    steps,
)
from diagnostics.measures.auc import pair_auc
from figures.curves.roc import area_under
from segment.encoders.fusion import similarity
from segment.encoders.self_calibrate import POST, PRE, layer_at

# Areas that the paper prints, in the order of its Fig 8: last layer, middle layer, then the steps.
LAST, MIDDLE = "0.66", "0.76"
PUBLISHED = ("0.69", "0.74", "0.80", "0.81")


def fig_2a(inputs: FigureInputs) -> list[Check]:
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
        Check(
            measured="correlation of what two patches look at, last layer",
            paper="the same places",
            value=alike,
            holds=verdict(alike > ALIKE, alike, line=ALIKE),
        ),
        Check(measured=f"attention that goes to the 5 most seen patches, per cent ({even:.2g} if even)", value=held),
    ]


def _distances(inputs: FigureInputs, number: int) -> tuple[float, float]:
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


def fig_2b(inputs: FigureInputs) -> list[Check]:
    numbers = [_distances(inputs, number) for number in range(len(inputs.images))]
    odd = mean_over(inputs, lambda number: numbers[number][0])
    class_token = mean_over(inputs, lambda number: numbers[number][1])
    return [
        Check(
            measured="distance of anomaly tokens from the center, 1 is a normal patch",
            paper="apart: above 1",
            value=odd,
            holds=verdict(odd > 1, odd, line=1),
        ),
        Check(
            measured="distance of the class token from the center",
            paper="with the normal ones, below anomalies",
            value=class_token,
            holds=verdict(class_token < odd, class_token, odd),
        ),
    ]


def _attention_on(inputs: FigureInputs, matrix: Tensor, mask: Tensor) -> float:
    """Share of attention among patches, in per cent, that ordinary patches give to those marked."""
    between, mask = between_patches(inputs, matrix), mask.to(matrix.device)
    outgoing = between[~mask]
    return 100 * float((outgoing[:, mask].sum(dim=1) / outgoing.sum(dim=1)).mean())


def _anomalies_look(inputs: FigureInputs, matrix: Tensor, mask: Tensor, number: int) -> list[float]:
    """Attention of anomaly tokens that goes to other anomaly tokens and to objects, over what an even share would be.

    1 is even; nan without two anomaly tokens, or without labels of two classes.
    """
    between, mask = between_patches(inputs, matrix), mask.to(matrix.device)
    count, labels = int(mask.sum()), labels_of(inputs, number)
    rows = between[mask]
    objects = on_objects(rows.mean(dim=0), labels) if count and labels is not None else float("nan")
    if count < 2:
        return [float("nan"), objects]
    itself = between.diagonal()[mask]
    others = (rows[:, mask].sum(dim=1) - itself) / (rows.sum(dim=1) - itself)
    return [float(others.mean()) * (len(between) - 1) / (count - 1), objects]


def fig_3(inputs: FigureInputs) -> list[Check]:
    numbers, looks = [], []
    for number in range(len(inputs.images)):
        tokens, purified, mask = purified_tokens(inputs.only(number))
        maps = [last_attention(inputs, state) for state in (tokens, purified)]
        numbers.append([_attention_on(inputs, matrix, mask) for matrix in maps])
        looks.append(_anomalies_look(inputs, maps[0], mask, number))
    before = mean_over(inputs, lambda number: numbers[number][0])
    after = mean_over(inputs, lambda number: numbers[number][1])
    each_other = mean_over(inputs, lambda number: looks[number][0])
    objects = mean_over(inputs, lambda number: looks[number][1])
    more = (
        []
        if inputs.labels is None
        else [
            Check(
                measured="attention of anomaly tokens to objects, all but the largest class, 1 is even",
                paper="above 1: prominent objects",
                value=objects,
                holds=verdict(objects > 1, objects, line=1),
            )
        ]
    )
    return [
        Check(
            measured="attention of anomaly tokens to other anomaly tokens, 1 is even",
            paper="above 1",
            value=each_other,
            holds=verdict(each_other > 1, each_other, line=1),
        ),
        *more,
        Check(measured="attention of normal patches that goes to anomaly tokens, per cent", value=before),
        Check(
            measured="the same after purification, per cent",
            paper="less",
            value=after,
            holds=verdict(after < before, before, after),
        ),
    ]


def _areas(inputs: FigureInputs, methods: dict[str, str]) -> list[float]:
    """Areas under the curves of the figure: last layer, middle layer, methods."""
    curves = same_class(inputs, methods).values()
    return [ImageMean(curve.by_image, pooled=area_under(curve.fpr, curve.tpr)) for curve in curves]


def _second_area(inputs: FigureInputs) -> list[Check]:
    """Area of the last layer of the backbone that stands beside; nothing without one."""
    if inputs.second is None or inputs.labels is None:
        return []
    curves = same_class_curves(inputs.with_backbone(inputs.second), {}, ["last"])
    return [
        Check(measured=f"same-class AUC, {name}", paper="0.77 (DINO)", value=area_under(fpr, tpr))
        for name, (fpr, tpr) in curves.items()
    ]


def fig_4_roc(inputs: FigureInputs) -> list[Check]:
    areas = _areas(inputs, {"SC-CLIP": "sc-clip"}) if inputs.labels is not None else []
    if len(areas) != 3:
        return []
    last, middle, whole = areas
    return [
        Check(measured="same-class AUC, last layer", paper=LAST, value=last),
        Check(
            measured=f"same-class AUC, layer {layer_at(inputs.backbone.depth, PRE, 'line')}",
            paper=f"{MIDDLE}, above the last",
            value=middle,
            holds=verdict(middle > last, middle, last),
        ),
        Check(
            measured="same-class AUC, SC-CLIP",
            paper=f"{PUBLISHED[-1]}, above the middle layer",
            value=whole,
            holds=verdict(whole > middle, whole, middle),
        ),
        *_second_area(inputs),
    ]


def fig_8(inputs: FigureInputs) -> list[Check]:
    areas = _areas(inputs, steps()) if inputs.labels is not None else []
    if len(areas) != 2 + len(steps()):
        return []
    claims, former = [], areas[0]
    for words, published, value in zip(steps(), PUBLISHED, areas[2:], strict=True):
        holds = verdict(value > former, value, former)
        paper = f"{published}, above the one before"
        claims.append(Check(measured=f"same-class AUC: {words}", paper=paper, value=value, holds=holds))
        former = value
    first = Check(measured="same-class AUC: last layer", paper=LAST, value=areas[0])
    return [
        first,
        Check(measured="same-class AUC: middle layer", paper=MIDDLE, value=areas[1]),
        *claims,
        *_second_area(inputs),
    ]


def _adjusted(inputs: FigureInputs, number: int) -> list[float]:
    """Same-class AUC of features and aggregated ones, of K-K attention and the enhanced one, and the patches that
    the largest half of what each of these two gives goes to, in per cent.
    """
    labels, parts = labels_of(inputs, number), adjusted(inputs, number)
    breadths = [_breadth(parts.kk), _breadth(parts.enhanced)]
    if labels is None:
        return [float("nan")] * 4 + breadths
    return [
        float(pair_auc(parts.patches, labels[None])),
        float(pair_auc(parts.aggregated, labels[None])),
        same_class_auc(parts.kk, labels),
        same_class_auc(parts.enhanced, labels),
        *breadths,
    ]


def _breadth(matrix: Tensor) -> float:
    """How many patches hold half of what a patch gives, in per cent of all, mean over patches: (N, N) -> (0, 100]."""
    shares = (matrix / matrix.sum(dim=1, keepdim=True)).sort(dim=1, descending=True).values.cumsum(dim=1)
    return 100 * float(((shares < 0.5).sum(dim=1) + 1).float().mean()) / matrix.shape[1]


def fig_5(inputs: FigureInputs) -> list[Check]:
    numbers = [_adjusted(inputs, number) for number in range(len(inputs.images))]
    features, aggregated, kk, enhanced, narrow, broad = (
        mean_over(inputs, lambda number, which=which: numbers[number][which])  # type: ignore[misc]
        for which in range(6)
    )
    breadth = [
        Check(measured="patches that hold half of K-K attention, per cent", paper="too few", value=narrow),
        Check(
            measured="patches that hold half of enhanced attention, per cent",
            paper="more",
            value=broad,
            holds=verdict(broad > narrow, broad, narrow),
        ),
    ]
    if inputs.labels is None:
        return breadth
    return [
        Check(measured="same-class AUC of features", value=features),
        Check(
            measured="same-class AUC of aggregated features",
            paper="more coherent",
            value=aggregated,
            holds=verdict(aggregated > features, aggregated, features),
        ),
        *breadth,
        Check(measured="same-class AUC of K-K attention", value=kk),
        Check(
            measured="same-class AUC of enhanced attention",
            paper="follows objects",
            value=enhanced,
            holds=verdict(enhanced > kk, enhanced, kk),
        ),
    ]


def fig_7(inputs: FigureInputs) -> list[Check]:
    layers = sorted({layer_at(inputs.backbone.depth, POST, "line"), *inputs.layers(5, 8, 9)})

    def breadths(number: int) -> list[float]:
        recording = inputs.record("block_out", layers=layers, number=number)
        close = [similarity(inputs.layout.patches(recording["block_out", layer])) > BETA for layer in layers]
        return [100 * float(near.float().mean()) for near in close]

    numbers = [breadths(number) for number in range(len(inputs.images))]
    broad = [mean_over(inputs, lambda number, place=place: numbers[number][place]) for place in range(len(layers))]  # type: ignore[misc]
    claims = [
        Check(measured=f"patches with a cosine above {BETA} to a patch, layer {layer}, per cent", value=value)
        for layer, value in zip(layers[:-1], broad[:-1], strict=True)
    ]
    deepest = Check(
        measured=f"patches with a cosine above {BETA} to a patch, layer {layers[-1]}, per cent",
        paper=f"broader than in layer {layers[0]}",
        value=broad[-1],
        holds=verdict(broad[-1] > broad[0], *broad),
    )
    return [*claims, deepest]


def fig_1(inputs: FigureInputs) -> list[Check]:
    return method_scores(inputs, SHEET_ALONE, "sc-clip/table-1-b16")


def fig_1_maps(inputs: FigureInputs) -> list[Check]:
    return method_scores(inputs, BEFORE_AND_AFTER, "sc-clip/table-1-b16")


CLAIMS = {
    "fig-1": fig_1,
    "fig-1-maps": fig_1_maps,
    "fig-2a": fig_2a,
    "fig-2b": fig_2b,
    "fig-3": fig_3,
    "fig-4": fig_4_roc,
    "fig-4-roc": fig_4_roc,
    "fig-5": fig_5,
    "fig-6": fig_1,
    "fig-7": fig_7,
    "fig-8": fig_8,
    "fig-10": fig_1,
}

"""What the figures of ClearCLIP claim, in numbers."""

from __future__ import annotations

from attention_outliers.papers.claim import Check, ImageMean, verdict
from attention_outliers.papers.claim_maps import FOLLOWS, labels_of, mean_over, rank_correlation
from attention_outliers.papers.claim_scores import method_scores, scorable
from attention_outliers.papers.clearclip.figures import (
    AS_TRAINED,
    KINDS,
    SHEET,
    STREAMS,
    WITHOUT_BOTH,
    WITHOUT_RESIDUAL,
    architecture_table,
    norm_table,
    scaling_table,
)
from attention_outliers.papers.inputs import FigureInputs
from diagnostics.measures.auc import pair_auc

# «Near 0» and «near 1» of an entropy, «near 0» of a mIoU as a share of the best stream's, how often the largest value
# of the first layer «about 90 times» is at least, and the share of channels that are «a few». Our choice.
LOW_ENTROPY, HIGH_ENTROPY = 0.2, 0.9
NEARLY_NOTHING = 0.1
GROWN = 10.0
DOMINANT, FEW = 0.1, 0.05
RISES = 0.8
TWICE = (1.5, 2.5)  # «about 2». Our choice.


def fig_1(inputs: FigureInputs) -> list[Check]:
    layer, layout = inputs.backbone.depth, inputs.layout
    taps = {"X_res": "block_in", "X_attn": "attn_out"}
    ratios: dict[str, list[float]] = {name: [] for name in taps}
    areas: dict[str, list[float]] = {name: [] for name in taps}
    for number in range(len(inputs.images)):
        recording, labels = inputs.record(*taps.values(), layers=[layer], number=number), labels_of(inputs, number)
        for name, tap in taps.items():
            patches = layout.patches(recording[tap, layer]).float()
            norms = patches.norm(dim=-1)
            ratios[name].append(float(norms.max() / norms.quantile(0.5)))
            if labels is not None:
                areas[name].append(float(pair_auc(patches, labels[None])))
    ratio = {name: ImageMean(numbers) for name, numbers in ratios.items()}
    noisier = verdict(ratio["X_res"] > ratio["X_attn"], *ratio.values())
    claims = [
        Check(
            measured="largest over median patch norm, X_res",
            paper="larger than X_attn's",
            value=ratio["X_res"],
            holds=noisier,
        ),
        Check(measured="largest over median patch norm, X_attn", value=ratio["X_attn"]),
    ]
    if inputs.labels is not None:
        area = {name: ImageMean(numbers) for name, numbers in areas.items()}
        cleaner = verdict(area["X_attn"] > area["X_res"], *area.values())
        claims += [
            Check(measured="same-class AUC of patches, X_res", value=area["X_res"]),
            Check(
                measured="same-class AUC of patches, X_attn", paper="above X_res's", value=area["X_attn"], holds=cleaner
            ),
        ]
    return claims


def fig_2(inputs: FigureInputs) -> list[Check]:
    norms = norm_table(inputs)
    residual_share = float((norms["X_res"] / norms["X_attn"])[KINDS["qk"]])
    claims = [
        Check(
            measured="norm of X_res over norm of X_attn, q-k", paper="larger in L/14 than in B/16", value=residual_share
        )
    ]
    added = norms["X_attn"]
    summed = float(added[KINDS["qq+kk"]] / added[[KINDS["qq"], KINDS["kk"]]].mean())
    claims.append(
        Check(
            measured="norm of X_attn of q-q + k-k over the mean of q-q and k-k",
            paper="SCLIP is about 2 X_attn",
            value=summed,
            holds=verdict(TWICE[0] < summed < TWICE[1], summed),
        )
    )
    if scorable(inputs):
        scores = architecture_table(inputs, settings=[AS_TRAINED])[AS_TRAINED]
        together = rank_correlation(norms["X_attn"].to_numpy(), scores[norms.index].to_numpy())
        claims += [
            Check(
                measured="rank correlation of mIoU and norm of X_attn, over kinds",
                paper="mIoU follows the norm",
                value=together,
                holds=verdict(together > FOLLOWS, together, line=FOLLOWS),
            ),
            Check(measured="mIoU of q-k, per cent", paper="4.4 (B/16, COCO-Stuff)", value=scores[KINDS["qk"]]),
            Check(
                measured="mIoU of the best kind, per cent",
                paper="nearly 20",
                value=float(scores.max()),
                holds=verdict(scores.max() > scores[KINDS["qk"]], *scores),
            ),
        ]
    return claims


def fig_3(inputs: FigureInputs) -> list[Check]:
    if not scorable(inputs):
        return []
    numbers = inputs.scored(list(STREAMS.values()))
    whole, residual, attended = (numbers[STREAMS[name]] for name in ("X_sum", "X_res", "X_attn"))
    return [
        Check(
            measured="mIoU of X_res, per cent",
            paper="near 0",
            value=residual,
            holds=verdict(residual < NEARLY_NOTHING * attended, residual, attended),
        ),
        Check(measured="mIoU of X_sum, per cent", value=whole),
        Check(
            measured="mIoU of X_attn, per cent",
            paper="above X_sum's",
            value=attended,
            holds=verdict(attended > whole, attended, whole),
        ),
    ]


def fig_4a(inputs: FigureInputs) -> list[Check]:
    entropy = inputs.probe("entropy")["entropy"].mean("image")
    lowest = {stream: float(entropy.sel(stream=stream).min()) for stream in ("block_in", "block_sum", "attn_out")}
    where = int(entropy.sel(stream="block_in").idxmin("layer"))
    there = float(entropy.sel(stream="attn_out", layer=where))
    return [
        Check(
            measured="lowest entropy of X_res over layers",
            paper="near 0 (CLIP), near 1 (DINO)",
            value=lowest["block_in"],
            holds=verdict(lowest["block_in"] < LOW_ENTROPY, lowest["block_in"], line=LOW_ENTROPY),
        ),
        Check(
            measured="layer of that entropy",
            paper="from the middle on",
            value=where,
            holds=where > inputs.backbone.depth / 2,
        ),
        Check(
            measured="entropy of X_attn in that layer",
            paper="near 1",
            value=there,
            holds=verdict(there > HIGH_ENTROPY, there, line=HIGH_ENTROPY),
        ),
        Check(
            measured="lowest entropy of X_sum over layers",
            paper="near 0 (CLIP), near 1 (DINO)",
            value=lowest["block_sum"],
            holds=verdict(lowest["block_sum"] < LOW_ENTROPY, lowest["block_sum"], line=LOW_ENTROPY),
        ),
        Check(
            measured="lowest entropy of X_attn over layers",
            paper="near 1",
            value=lowest["attn_out"],
            holds=verdict(lowest["attn_out"] > HIGH_ENTROPY, lowest["attn_out"], line=HIGH_ENTROPY),
        ),
    ]


def fig_4b(inputs: FigureInputs) -> list[Check]:
    peak = inputs.probe("peak")["peak"].mean("image")
    residual = peak.sel(stream="block_in")
    first, last = float(residual.isel(layer=0)), float(residual.isel(layer=-1))
    grown = last / first if first > 0 else float("nan")
    return [
        Check(measured="largest value of X_res, first layer", value=first),
        Check(measured="largest value of X_res, last layer", paper="below 10 (DINO)", value=last),
        Check(
            measured="the last over the first",
            paper="about 90 (CLIP)",
            value=grown,
            holds=verdict(grown >= GROWN, grown, line=GROWN),
        ),
    ]


def fig_4c(inputs: FigureInputs) -> list[Check]:
    means = abs(inputs.probe("channel-mean")["channel_mean"].mean("image").isel(layer=-1))
    most = means / means.max()
    few = float((most > DOMINANT).mean())
    shared = mean_over(inputs, lambda number: peak_channel_share(inputs, number))
    return [
        Check(
            measured="channels with a mean above a tenth of the largest, last layer, per cent",
            paper="a few",
            value=100 * few,
            holds=verdict(few < FEW, few, line=FEW),
        ),
        Check(measured="largest over median channel mean", value=float(1 / most.median())),
        Check(
            measured="patches of X_res whose largest channel is the commonest one, last layer, per cent",
            paper="the majority",
            value=100 * shared,
            holds=verdict(shared > 0.5, shared, line=0.5),
        ),
    ]


def peak_channel_share(inputs: FigureInputs, number: int = 0) -> float:
    """Share of an image's patches that have their largest magnitude in the same channel, in the last block's X_res."""
    last = inputs.backbone.depth
    patches = inputs.layout.patches(inputs.record("block_in", layers=[last], number=number)["block_in", last])[0]
    peaks = patches.float().abs().argmax(dim=-1)
    return float(peaks.unique(return_counts=True)[1].max() / len(peaks))


def fig_5(inputs: FigureInputs) -> list[Check]:
    if not scorable(inputs):
        return []
    table = architecture_table(inputs)
    trained, pairs = KINDS["qk"], KINDS["qq"]
    gain = table[WITHOUT_BOTH] - table[AS_TRAINED]
    gaining, both = int((gain > 0).sum()), table[WITHOUT_BOTH]
    averages = "mean of 5 data sets"
    return [
        Check(measured="mIoU of q-q, as trained, per cent", paper=f"27.3 ({averages})", value=table[AS_TRAINED][pairs]),
        Check(
            measured="mIoU of q-q, w/o residual",
            paper=f"33.7 ({averages})",
            value=table[WITHOUT_RESIDUAL][pairs],
            holds=verdict(table[WITHOUT_RESIDUAL][pairs] > table[AS_TRAINED][pairs], *table.loc[pairs]),
        ),
        Check(
            measured="mIoU of q-q, w/o residual and FFN",
            paper=f"37.5 ({averages})",
            value=both[pairs],
            holds=verdict(both[pairs] > table[WITHOUT_RESIDUAL][pairs], *table.loc[pairs]),
        ),
        Check(
            measured="mIoU of q-k, w/o residual and FFN",
            paper=f"27.6 ({averages}), below q-q",
            value=both[trained],
            holds=verdict(both[trained] < both[pairs], both[trained], both[pairs]),
        ),
        Check(
            measured=f"kinds of {len(gain)} that gain w/o residual and FFN",
            paper="all",
            value=gaining,
            holds=gaining == len(gain),
        ),
        Check(
            measured="kind that gains most",
            paper="not identity or v-v (B/16)",
            value=str(gain.idxmax()),
            holds=gain.idxmax() not in (KINDS["identity"], KINDS["vv"]),
        ),
    ]


def fig_6(inputs: FigureInputs) -> list[Check]:
    if not scorable(inputs):
        return []
    table = scaling_table(inputs)
    mean = table.mean(axis=1)
    rising = rank_correlation(mean.index.to_numpy(float), mean.to_numpy())
    fall, above = float(mean[1] - mean[0.5]), float(mean[2] - mean[1])
    return [
        Check(
            measured="rank correlation of alpha and mIoU, mean of the kinds",
            paper="1: rises with alpha",
            value=rising,
            holds=verdict(rising > RISES, rising, line=RISES),
        ),
        Check(
            measured="mIoU lost from alpha 1 to 0.5, points",
            paper="a sharp fall, more than from 2 to 1",
            value=fall,
            holds=verdict(fall > max(above, 0), fall, above),
        ),
        Check(measured="mIoU lost from alpha 2 to 1, points", value=above),
    ]


def fig_1b(inputs: FigureInputs) -> list[Check]:
    return method_scores(inputs, SHEET, "clearclip/table-2-b16")


CLAIMS = {
    "fig-1": fig_1,
    "fig-1b": fig_1b,
    "fig-2": fig_2,
    "fig-3": fig_3,
    "fig-3-maps": fig_3,
    "fig-4a": fig_4a,
    "fig-4b": fig_4b,
    "fig-4c": fig_4c,
    "fig-5": fig_5,
    "fig-6": fig_6,
    "fig-7": fig_1b,
}

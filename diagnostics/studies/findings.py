"""The results of a comparison of detectors, in sentences made from its tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

# A detector is said to go blind where its AUC falls by more than this as more outliers are planted. Our choice.
FALL = 0.2
# A detector is said to keep to the grid where its Jaccard with the grid exceeds that with the content by more. Our
# choice.
STAYS = 0.3
# Outliers are few: a detector that marks more than this share of the patches, mean over layers, is named. Our choice.
MANY = 0.25
# Of more layers than this, only the best and the last are reported. Our choice.
MOST_LAYERS = 3


def findings(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Sentences: who fires first, who agrees, who finds what is known, where own thresholds miss, whose tokens move
    with the content, where they sit, and what purifying does.

    `tables` by name: `thresholds` and `agreement`; where there are such, `truth` against natural outliers, `planted`
    against planted ones (with columns `planted` and `clustered`), `stability`, `location`, and `purification`, with a
    column `detector` if there are several. Every sentence follows from the tables.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Tables by name: `thresholds`, `agreement`, and others, above.

    Returns
    -------
    list of str
        Sentences.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> tables = {"thresholds": ao.threshold_table(scores), "agreement": ao.agreement_table(scores)}
    >>> len(ao.findings(tables)) > 0
    True
    """
    silent = _silent(tables["thresholds"])
    if len(silent) == tables["thresholds"]["detector"].nunique():
        sentences = ["Nothing was marked: by their own thresholds the detectors mark no token in any layer."]
    else:
        sentences = _first_layers(tables["thresholds"], silent) + _many(tables["thresholds"])
        sentences += _agreement(tables["agreement"], silent)
    for name, against in (("truth", "the outliers named as truth"), ("planted", "planted outliers")):
        if name in tables:
            sentences += _against(tables[name], against)
    if "planted" in tables:
        sentences += _blindness(tables["planted"])
    if "stability" in tables:
        sentences += _stability(tables["stability"])
    if "location" in tables:
        sentences += _location(tables["location"])
    if "purification" in tables:
        purification = tables["purification"]
        for detector in purification["detector"].unique() if "detector" in purification else [""]:
            table = purification[purification["detector"] == detector] if detector else purification
            whose = f"what {detector} marks at " if detector else ""
            if not table["marked"].any():
                sentences.append(f"Nothing was purified: {detector or 'the detector'} marks no token in these layers.")
                continue
            sentences += _purification(table, whose) + _accuracy(table, whose)
    return sentences


def _silent(thresholds: pd.DataFrame) -> list[str]:
    """Detectors that mark no token of any layer by their own thresholds."""
    marked = thresholds[thresholds["own"]].groupby("detector", sort=False)["tokens"].sum()
    return [str(name) for name in marked.index[marked == 0]]


def _first_layers(thresholds: pd.DataFrame, silent: Collection[str]) -> list[str]:
    first_layer = thresholds[thresholds["own"]].drop_duplicates("detector").set_index("detector")["first_layer"]
    fires, rare = first_layer.dropna(), first_layer[first_layer.isna()].drop(list(silent), errors="ignore")
    sentences = []
    if not fires.empty:
        layers = "; ".join(f"{', '.join(names.index)} at {int(layer)}" for layer, names in fires.groupby(fires))
        sentences.append(f"First layer at which half the images have a marked token: {layers}.")
    if not rare.empty:
        sentences.append(f"By their own thresholds these never mark half the images: {', '.join(rare.index)}.")
    if silent:
        sentences.append(f"By their own thresholds these mark nothing in any layer: {', '.join(silent)}.")
    return sentences


def _many(thresholds: pd.DataFrame) -> list[str]:
    """A warning of detectors that mark much of the image by their own thresholds."""
    share = thresholds[thresholds["own"]].groupby("detector", sort=False)["share"].mean()
    many = [f"{name} ({value:.0%})" for name, value in share.items() if value > MANY]
    if not many:
        return []
    return [
        f"By their own thresholds these mark more than a quarter of the patches, mean over layers, which is no mark of "
        f"outliers: {', '.join(many)}."
    ]


def _agreement(agreement: pd.DataFrame, silent: Collection[str]) -> list[str]:
    """Who marks the same tokens, among the detectors that mark any; no sentence where fewer than two do."""
    active = ~(agreement["detector"].isin(silent) | agreement["other"].isin(silent))
    complete = agreement[active].dropna(subset=["jaccard"])
    if complete.empty:
        return []
    mean = complete.groupby(["detector", "other"])["jaccard"].mean()
    pairs = [" and ".join(map(str, pair)) for pair in mean.index.tolist()]
    most, least = pairs[int(mean.argmax())], pairs[int(mean.argmin())]
    if mean.max() == 0:
        return ["No two detectors mark a token in common."]
    if len(pairs) == 1:
        return [f"{most} mark the same tokens with a Jaccard of {mean.max():.2f}, mean over layers."]
    return [f"{most} agree most (Jaccard {mean.max():.2f}, mean over layers), {least} least ({mean.min():.2f})."]


def _against(table: pd.DataFrame, against: str) -> list[str]:
    means = table.groupby("detector")[["auc", "best_f1"]].mean()
    ranked = means["auc"].dropna().sort_values(ascending=False)
    if ranked.empty:
        return []
    best = [name for name, value in ranked.items() if value >= ranked.iloc[0] - 0.005]
    sentences = [
        f"Against {against}, {', '.join(map(str, best))} rank{'s' if len(best) == 1 else ''} patches best "
        f"(AUC {ranked.iloc[0]:.3f}), {ranked.index[-1]} worst ({ranked.iloc[-1]:.3f})."
    ]
    judged = table.dropna(subset=["best_f1"]).copy()
    precision, recall = judged["own_precision"].fillna(0), judged["own_recall"].fillna(0)
    judged["own_f1"] = np.where(
        precision + recall > 0, 2 * precision * recall / (precision + recall).clip(lower=1e-12), 0
    )
    lost = (judged["best_f1"] - judged["own_f1"]).groupby(judged["detector"]).mean().sort_values(ascending=False)
    if not lost.empty and lost.iloc[0] > 0.1:
        worst = str(lost.index[0])
        row = judged[judged["detector"] == worst].iloc[0]
        sentences.append(
            f"The default threshold costs {worst} the most: F1 {row['own_f1']:.2f} at layer {int(row['layer'])} where "
            f"{row['best_threshold']:.3g} would reach {row['best_f1']:.2f}."
        )
    return sentences


def _blindness(planted: pd.DataFrame) -> list[str]:
    sentences = []
    for (detector, clustered), table in planted.groupby(["detector", "clustered"]):
        curve = table.groupby("planted")["auc"].mean().dropna()
        if len(curve) > 1 and curve.iloc[0] - curve.iloc[-1] > FALL:
            arrangement = "clustered" if clustered else "scattered"
            sentences.append(
                f"{detector} goes blind as {arrangement} outliers grow in number: AUC {curve.iloc[0]:.2f} with "
                f"{curve.index[0]}, {curve.iloc[-1]:.2f} with {curve.index[-1]}."
            )
    return sentences


def _stability(stability: pd.DataFrame) -> list[str]:
    shifted = stability[stability["change"] == "shift"].groupby("detector", sort=False)
    means = shifted[["jaccard", "jaccard_chance", "jaccard_grid"]].mean().dropna()
    if means.empty:
        return []
    stay = means[means["jaccard_grid"] - means["jaccard"] > STAYS]
    # A detector that marks nearly everything has a high Jaccard by chance.
    most = int((means["jaccard"] - means["jaccard_chance"]).to_numpy().argmax())
    best = means.iloc[most]
    if means["jaccard"].max() == 0:
        sentences = ["After a shift by one patch no detector marks any of the same content."]
    elif best["jaccard"] <= best["jaccard_chance"]:
        sentences = ["After a shift by one patch no detector marks more of the same content than chance would."]
    else:
        sentences = [
            f"After a shift by one patch, {means.index[most]} marks the same content furthest above chance (Jaccard "
            f"{best['jaccard']:.2f}, of as many random patches {best['jaccard_chance']:.2f})."
        ]
    if not stay.empty:
        grid, content = stay["jaccard_grid"].mean(), stay["jaccard"].mean()
        sentences.append(
            f"These keep to places of the grid, whatever is there: {', '.join(map(str, stay.index))} (Jaccard "
            f"{grid:.2f} with the grid, {content:.2f} with the content, on average)."
        )
    return sentences


def _location(location: pd.DataFrame) -> list[str]:
    if "background" not in location:
        return []
    complete = location.dropna(subset=["background", "background_all"])
    if complete.empty:
        return []
    more = (complete["background"] - complete["background_all"]).to_numpy(dtype=float)
    # The further from the base rate and the more tokens, the less is it chance.
    row = complete.iloc[int(np.argmax(np.abs(more) * np.sqrt(complete["labeled"].to_numpy(dtype=float))))]
    return [
        f"Of the {int(row['labeled'])} labeled tokens that {row['detector']} marks at layer {int(row['layer'])}, "
        f"{row['background']:.0%} lie on background, and of all patches {row['background_all']:.0%}."
    ]


def _purification(purification: pd.DataFrame, whose: str) -> list[str]:
    in_place = purification[(purification["mode"] == "in place") & purification["delta_auc"].notna()]
    layers = sorted(set(in_place["layer"].tolist()))
    best = {layer: in_place[in_place["layer"] == layer].sort_values("delta_auc").iloc[-1] for layer in layers}
    # Where nothing is marked nothing changes.
    changed = [layer for layer in best if (in_place.loc[in_place["layer"] == layer, "delta_auc"] != 0).any()]
    if len(changed) > MOST_LAYERS:
        changed = sorted({max(changed, key=lambda layer: best[layer]["delta_auc"]), changed[-1]})
    sentences = []
    for layer in changed:
        row, table = best[layer], in_place[in_place["layer"] == layer]
        sure = "" if row["low"] > 0 or row["high"] < 0 else ", which chance explains"
        sentence = (
            f"Purifying {whose}layer {layer} with {row['purifier']} changes its same-class AUC by "
            f"{row['delta_auc']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{sure}"
        )
        control = table[table["purifier"].str.startswith("shuffle")]
        if not control.empty and not str(row["purifier"]).startswith("shuffle"):
            sentence += f"; the control, other patches of the image, by {control['delta_auc'].iloc[0]:+.3f}"
        sentences.append(f"{sentence}.")
    return sentences


def _accuracy(purification: pd.DataFrame, whose: str) -> list[str]:
    if "accuracy_after" not in purification:
        return []
    complete = purification[purification["marked"] > 0].dropna(subset=["accuracy_before", "accuracy_after"])
    if complete.empty:
        return []
    best = complete.sort_values("accuracy_after", kind="stable").iloc[-1]
    worst = complete.sort_values("accuracy_after", kind="stable").iloc[0]
    return [
        f"The zero-shot accuracy is {best['accuracy_before']:.3f}; purifying {whose}layer {int(best['layer'])} with "
        f"{best['purifier']} makes it {best['accuracy_after']:.3f}, layer {int(worst['layer'])} with "
        f"{worst['purifier']} {worst['accuracy_after']:.3f}: the most and the least of those tried."
    ]

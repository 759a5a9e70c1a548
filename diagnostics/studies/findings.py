"""What a comparison of detectors found, in sentences made from its tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

# A detector is said to go blind where its AUC falls by more than this as more outliers are planted. Our choice.
FALL = 0.2
# A detector is said to keep to the grid where its Jaccard with the grid exceeds that with the content by more. Our
# choice.
STAYS = 0.3
# Of more layers than this, purifying is told of the best and the last one. Our choice.
MOST_LAYERS = 3


def findings(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Sentences: who fires first, who agrees, who finds what is known, where own thresholds miss, whose tokens move
    with the content, where they sit, and what purifying does.

    `tables` by name: `thresholds` and `agreement` of diagnostics.studies.scoring; where there are some, `truth` against
    natural outliers, `planted` against planted ones (with columns `planted` and `clustered`), `stability`,
    `location`, and `purification`, with a column `detector` if there are several. Nothing is said that the tables do
    not show.
    """
    said = _first_layers(tables["thresholds"]) + _agreement(tables["agreement"])
    for name, against in (("truth", "the outliers named as truth"), ("planted", "planted outliers")):
        if name in tables:
            said += _against(tables[name], against)
    if "planted" in tables:
        said += _blindness(tables["planted"])
    if "stability" in tables:
        said += _stability(tables["stability"])
    if "location" in tables:
        said += _location(tables["location"])
    if "purification" in tables:
        purification = tables["purification"]
        for detector in purification["detector"].unique() if "detector" in purification else [""]:
            table = purification[purification["detector"] == detector] if detector else purification
            whose = f"what {detector} marks at " if detector else ""
            said += _purification(table, whose) + _accuracy(table, whose)
    return said


def _first_layers(thresholds: pd.DataFrame) -> list[str]:
    own = thresholds[thresholds["own"]].drop_duplicates("detector").set_index("detector")["first_layer"]
    fires, silent = own.dropna(), own[own.isna()]
    said = []
    if not fires.empty:
        layers = "; ".join(f"{', '.join(names.index)} at {int(layer)}" for layer, names in fires.groupby(fires))
        said.append(f"First layer at which half the images have a marked token: {layers}.")
    if not silent.empty:
        said.append(f"By their own thresholds these never mark half the images: {', '.join(silent.index)}.")
    return said


def _agreement(agreement: pd.DataFrame) -> list[str]:
    known = agreement.dropna(subset=["jaccard"])
    if known.empty:
        return []
    mean = known.groupby(["detector", "other"])["jaccard"].mean()
    pairs = [" and ".join(map(str, pair)) for pair in mean.index.tolist()]
    most, least = pairs[int(mean.argmax())], pairs[int(mean.argmin())]
    if len(pairs) == 1:
        return [f"{most} mark the same tokens with a Jaccard of {mean.max():.2f}, mean over layers."]
    return [f"{most} agree most (Jaccard {mean.max():.2f}, mean over layers), {least} least ({mean.min():.2f})."]


def _against(table: pd.DataFrame, against: str) -> list[str]:
    means = table.groupby("detector")[["auc", "best_f1"]].mean()
    ranked = means["auc"].dropna().sort_values(ascending=False)
    if ranked.empty:
        return []
    best = [name for name, value in ranked.items() if value >= ranked.iloc[0] - 0.005]
    said = [
        f"Against {against}, {', '.join(map(str, best))} rank{'s' if len(best) == 1 else ''} patches best "
        f"(AUC {ranked.iloc[0]:.3f}), {ranked.index[-1]} worst ({ranked.iloc[-1]:.3f})."
    ]
    own = table.dropna(subset=["best_f1"]).copy()
    precision, recall = own["own_precision"].fillna(0), own["own_recall"].fillna(0)
    own["own_f1"] = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall).clip(lower=1e-12), 0)
    lost = (own["best_f1"] - own["own_f1"]).groupby(own["detector"]).mean().sort_values(ascending=False)
    if not lost.empty and lost.iloc[0] > 0.1:
        worst = str(lost.index[0])
        row = own[own["detector"] == worst].iloc[0]
        said.append(
            f"The default threshold costs {worst} the most: F1 {row['own_f1']:.2f} at layer {int(row['layer'])} where "
            f"{row['best_threshold']:.3g} would reach {row['best_f1']:.2f}."
        )
    return said


def _blindness(planted: pd.DataFrame) -> list[str]:
    said = []
    for (detector, clustered), table in planted.groupby(["detector", "clustered"]):
        curve = table.groupby("planted")["auc"].mean().dropna()
        if len(curve) > 1 and curve.iloc[0] - curve.iloc[-1] > FALL:
            how = "clustered" if clustered else "scattered"
            said.append(
                f"{detector} goes blind as {how} outliers grow in number: AUC {curve.iloc[0]:.2f} with "
                f"{curve.index[0]}, {curve.iloc[-1]:.2f} with {curve.index[-1]}."
            )
    return said


def _stability(stability: pd.DataFrame) -> list[str]:
    shifted = stability[stability["change"] == "shift"].groupby("detector", sort=False)[["jaccard", "jaccard_grid"]]
    means = shifted.mean().dropna()
    if means.empty:
        return []
    stay = means[means["jaccard_grid"] - means["jaccard"] > STAYS]
    most = int(means["jaccard"].to_numpy().argmax())
    said = [
        f"After a shift by one patch, {means.index[most]} marks the same content most often (Jaccard "
        f"{means['jaccard'].iloc[most]:.2f})."
    ]
    if not stay.empty:
        grid, content = stay["jaccard_grid"].mean(), stay["jaccard"].mean()
        said.append(
            f"These keep to places of the grid, whatever is there: {', '.join(map(str, stay.index))} (Jaccard "
            f"{grid:.2f} with the grid, {content:.2f} with the content, on average)."
        )
    return said


def _location(location: pd.DataFrame) -> list[str]:
    if "background" not in location:
        return []
    known = location.dropna(subset=["background", "background_all"])
    if known.empty:
        return []
    more = (known["background"] - known["background_all"]).to_numpy(dtype=float)
    # The further from the base rate and the more tokens, the less is it chance.
    row = known.iloc[int(np.argmax(np.abs(more) * np.sqrt(known["labeled"].to_numpy(dtype=float))))]
    return [
        f"Of the {int(row['labeled'])} labeled tokens that {row['detector']} marks at layer {int(row['layer'])}, "
        f"{row['background']:.0%} lie on background, and of all patches {row['background_all']:.0%}."
    ]


def _purification(purification: pd.DataFrame, whose: str) -> list[str]:
    in_place = purification[(purification["mode"] == "in place") & purification["delta_auc"].notna()]
    layers = sorted(set(in_place["layer"].tolist()))
    best = {layer: in_place[in_place["layer"] == layer].sort_values("delta_auc").iloc[-1] for layer in layers}
    # Where nothing is marked nothing changes, and of that there is nothing to say.
    telling = [layer for layer in best if (in_place.loc[in_place["layer"] == layer, "delta_auc"] != 0).any()]
    if len(telling) > MOST_LAYERS:
        telling = sorted({max(telling, key=lambda layer: best[layer]["delta_auc"]), telling[-1]})
    said = []
    for layer in telling:
        row, table = best[layer], in_place[in_place["layer"] == layer]
        sure = "" if row["low"] > 0 or row["high"] < 0 else ", which chance explains"
        sentence = (
            f"Purifying {whose}layer {layer} with {row['purifier']} changes its same-class AUC by "
            f"{row['delta_auc']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{sure}"
        )
        control = table[table["purifier"].str.startswith("shuffle")]
        if not control.empty and not str(row["purifier"]).startswith("shuffle"):
            sentence += f"; the control, other patches of the image, by {control['delta_auc'].iloc[0]:+.3f}"
        said.append(f"{sentence}.")
    return said


def _accuracy(purification: pd.DataFrame, whose: str) -> list[str]:
    if "accuracy_after" not in purification:
        return []
    known = purification.dropna(subset=["accuracy_before", "accuracy_after"])
    if known.empty:
        return []
    best = known.sort_values("accuracy_after", kind="stable").iloc[-1]
    worst = known.sort_values("accuracy_after", kind="stable").iloc[0]
    return [
        f"The zero-shot accuracy is {best['accuracy_before']:.3f}; purifying {whose}layer {int(best['layer'])} with "
        f"{best['purifier']} makes it {best['accuracy_after']:.3f}, layer {int(worst['layer'])} with "
        f"{worst['purifier']} {worst['accuracy_after']:.3f}: the most and the least of those tried."
    ]

"""What a comparison of detectors found, in sentences made from its tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

# A detector is said to go blind where its AUC falls by more than this as more outliers are planted. Our choice.
FALL = 0.2


def findings(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Sentences: who fires first, who agrees, who finds what is known, where own thresholds miss, what mending does.

    `tables` by name: `thresholds` and `agreement` of diagnostics.compare; where there are some, `truth` against
    natural outliers, `planted` against planted ones (with columns `planted` and `clustered`), and `removal`. Nothing
    is said that the tables do not show.
    """
    said = _first_layers(tables["thresholds"]) + _agreement(tables["agreement"])
    for name, against in (("truth", "the outliers named as truth"), ("planted", "planted outliers")):
        if name in tables:
            said += _against(tables[name], against)
    if "planted" in tables:
        said += _blindness(tables["planted"])
    if "removal" in tables:
        said += _removal(tables["removal"])
    return said


def _first_layers(thresholds: pd.DataFrame) -> list[str]:
    own = thresholds[thresholds["own"]].drop_duplicates("detector").set_index("detector")["first_layer"]
    fires, silent = own.dropna(), own[own.isna()]
    said = []
    if not fires.empty:
        layers = "; ".join(f"{', '.join(names.index)} at {int(layer)}" for layer, names in fires.groupby(fires))
        said.append(f"First layer at which half the pictures have a marked token: {layers}.")
    if not silent.empty:
        said.append(f"By their own thresholds these never mark half the pictures: {', '.join(silent.index)}.")
    return said


def _agreement(agreement: pd.DataFrame) -> list[str]:
    known = agreement.dropna(subset=["jaccard"])
    if known.empty:
        return []
    mean = known.groupby(["detector", "other"])["jaccard"].mean()
    pairs = [" and ".join(map(str, pair)) for pair in mean.index.tolist()]
    most, least = pairs[int(mean.argmax())], pairs[int(mean.argmin())]
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


def _removal(removal: pd.DataFrame) -> list[str]:
    said = []
    in_place = removal[(removal["mode"] == "in place") & removal["delta_auc"].notna()]
    for layer, table in in_place.groupby("layer"):
        best = table.sort_values("delta_auc").iloc[-1]
        sure = "" if best["low"] > 0 or best["high"] < 0 else ", which chance explains"
        sentence = (
            f"Mending layer {layer} with {best['purifier']} changes its same-class AUC by {best['delta_auc']:+.3f} "
            f"[{best['low']:+.3f}, {best['high']:+.3f}]{sure}"
        )
        control = table[table["purifier"].str.startswith("shuffle")]
        if not control.empty and not str(best["purifier"]).startswith("shuffle"):
            sentence += f"; the control, other patches of the picture, by {control['delta_auc'].iloc[0]:+.3f}"
        said.append(f"{sentence}.")
    return said

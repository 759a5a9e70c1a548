"""The tables of a comparison of detectors, short enough to read: one number for each detector and layer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd


def short_tables(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Title -> marked tokens by layer, how that stands against what is known, and what purifying does.

    Layers in which a detector marks nothing have no column in its purification tables, since nothing changes there;
    a detector that marks nothing at all has none of these tables.
    """
    thresholds = tables["thresholds"]
    by_layer = thresholds[thresholds["own"]].pivot_table("tokens", "detector", "layer", sort=False)
    short = {"tokens marked by the own threshold, mean of an image, by layer": by_layer}
    if "truth" in tables and tables["truth"]["auc"].notna().any():
        short["ROC-AUC against patches of large norm, by layer"] = judged_by(tables["truth"], ["layer"])
    if "planted" in tables:
        for clustered, table in tables["planted"].groupby("clustered"):
            arrangement = "side by side" if clustered else "scattered"
            short[f"ROC-AUC against planted outliers, {arrangement}"] = judged_by(table, ["planted", "layer"])
    if "stability" in tables:
        short["same tokens after a change, Jaccard, mean over layers"] = stable_by(tables["stability"])
    if "purification" in tables:
        for spec, table in tables["purification"].groupby("detector", sort=False):
            for title, numbers in purified_by(table).items():
                short[f"{title}, purifying what {spec} marks, by layer"] = numbers
    return short


def judged_by(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """AUC of each detector, a column for each layer, and for each number that was planted."""
    auc = table.pivot_table("auc", "detector", keys, sort=False, dropna=False)
    if len(keys) > 1:
        auc.columns = [f"k={pair[0]} layer\u00a0{pair[1]}" for pair in auc.columns.to_list()]
    return auc.reindex(table["detector"].unique()).rename_axis("detector")


def stable_by(table: pd.DataFrame) -> pd.DataFrame:
    """Jaccard of each detector after each change; after a shift also that of chance, and where the grid stays."""
    means = table.pivot_table("jaccard", "detector", "change", sort=False, dropna=False)
    shifted = table[table["change"] == "shift"].groupby("detector")[["jaccard_chance", "jaccard_grid"]].mean()
    if shifted.empty:
        return means
    beside = {"shift, by chance": shifted["jaccard_chance"], "shift, same grid place": shifted["jaccard_grid"]}
    return means.assign(**beside)


def purified_by(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> a number of each purifier at each layer: change of AUC where there are labels, class token, accuracy."""
    columns = {
        "change of same-class AUC": ("in place", "delta_auc"),
        "change of same-class AUC at the last layer": ("propagated", "delta_auc_last"),
        "cosine of the class token": ("propagated", "class_cosine"),
        "zero-shot accuracy": ("propagated", "accuracy_after"),
    }
    numbers: dict[str, pd.DataFrame] = {}
    for title, (mode, column) in columns.items():
        rows = table[(table["mode"] == mode) & table[column].notna() & (table["marked"] > 0)]
        if rows.empty:
            continue
        before = rows["accuracy_before"].iloc[0]
        full_title = f"{title} ({before:.3f} before)" if column == "accuracy_after" else title
        numbers[full_title] = rows.pivot_table(column, "purifier", "layer", sort=False)
    return numbers

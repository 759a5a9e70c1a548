"""The folder of `outliers compare`: tables as Parquet, scores as zarr, figures as PNG and PDF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from diagnostics import image_paths
from diagnostics.images import open_image
from diagnostics.studies.detector_study import DetectorStudy
from figures.figure_files import write_figures as write_all
from figures.tables.compare_report import compare_figures
from figures.tables.compare_report import planted_figures as figures_of_planted


def write_tables(study: DetectorStudy, out: Path, *, planted_figures: bool) -> dict[str, pd.DataFrame]:
    """The tables by name, each written as soon as it is there: what comes later may fail.

    `planted_figures`: the curves of planted outliers are drawn at once, since their scores are not kept.
    """
    tables: dict[str, pd.DataFrame] = {}
    for name, table in study:
        if not tables:
            out.mkdir(parents=True, exist_ok=True)
            study.scores.to_zarr(out / "scores.zarr", mode="w", zarr_format=3, consolidated=False)
        table.to_parquet(out / f"{name}.parquet")
        tables[name] = table
        if name == "planted" and planted_figures:
            last = table.iloc[-1]
            figures = figures_of_planted(study.planted, count=int(last["planted"]), clustered=bool(last["clustered"]))
            write_all(figures, out / "figures", source=study.backbone.spec)
    return tables


def write_figures(study: DetectorStudy, tables: Mapping[str, pd.DataFrame], folder: Path, maps: int) -> None:
    """The figures of a comparison, with score maps of the first `maps` images."""
    paths = image_paths(study.images)
    names = [str(name) for name in study.scores["image"].values[:maps]]
    shown = {name: np.asarray(open_image(paths[name])) for name in names}
    figures = compare_figures(study.scores, tables, images=shown, maps_for=maps)
    write_all(figures, folder, source=study.backbone.spec)

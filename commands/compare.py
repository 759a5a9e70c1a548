"""`outliers compare`: which tokens are outliers, and do the detectors agree?"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import xarray as xr
from rich.console import Console

from commands.options import (
    BackboneSpec,
    Batch,
    Device,
    Pictures,
    Positions,
    Precision,
    SizeText,
    backbone_of,
    layers_of,
    numbers,
)
from commands.output import first_pictures, write_figures
from commands.tables import as_rich
from diagnostics.registry import split_specs

DEFAULT = (
    "norm,relative-norm,norm-topk,massive,channel-peak,som,som-release,lof,lof-release,class-residual,"
    "received-attention,stripe,attention-rank1,singular-defect,mahalanobis,knn,random"
)


def compare(
    pictures: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the tables (Parquet) and scores (zarr).")],
    backbone: BackboneSpec = "pocket",
    detectors: Annotated[
        str, typer.Option("--detectors", "-d", help="Which detectors; see `outliers list detectors`.")
    ] = DEFAULT,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Which layers, such as 8,11 or -2. All by default.")
    ] = None,
    thresholds: Annotated[int, typer.Option("--thresholds", min=2, help="Thresholds of each sweep.")] = 20,
    plant: Annotated[
        str | None,
        typer.Option("--plant", help="Outliers with known places: k=1,4,10 or 'k=1,4,10,29,35 clustered'."),
    ] = None,
    truth_norm: Annotated[
        float | None,
        typer.Option("--truth-norm", help="Also judge against the patches whose norm is above this, such as 100."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Folder of label maps: tells where outliers sit and what mending them does to AUC."
        ),
    ] = None,
    ignore: Annotated[str, typer.Option("--ignore", help="Labels that are no class, such as 255.")] = "255",
    background: Annotated[str, typer.Option("--background", help="Labels that are background, such as 0.")] = "0",
    stability: Annotated[
        bool,
        typer.Option(
            "--stability", help="Also: same tokens after a shift, a flip, another size, JPEG? (4 more passes)"
        ),
    ] = False,
    purify: Annotated[
        str | None,
        typer.Option(
            "--purify", help="Also mend what this detector marks, such as norm:threshold=100, with --purifiers."
        ),
    ] = None,
    purifiers: Annotated[
        str, typer.Option("--purifiers", help="How to mend; see `outliers list purifiers`.")
    ] = "neighbour-mean,neighbour-median,image-mean,zero,shuffle,keep",
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the figures into OUT/figures.")] = True,
    maps: Annotated[int, typer.Option("--maps", min=0, help="Pictures whose score maps are drawn.")] = 3,
    size: SizeText = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
) -> None:
    """Compare detectors of outliers: what each marks at which threshold, how far they agree, and who is right.

    One forward pass a picture serves all detectors, layers and thresholds.
    """
    from diagnostics.findings import findings
    from diagnostics.removal import removal_table
    from diagnostics.stability import stability_table
    from diagnostics.whereabouts import whereabouts_table

    comparing = importlib.import_module("diagnostics.compare")

    model = backbone_of(backbone, device, precision, positions)
    specs, chosen = split_specs(detectors), layers_of(layers)
    counts, clustered = planted_of(plant)
    out.mkdir(parents=True, exist_ok=True)
    scores = comparing.score_pictures(model, pictures, specs, layers=chosen, size=size, batch=batch, progress=True)
    tables = {
        "thresholds": comparing.threshold_table(scores, thresholds=thresholds),
        "agreement": comparing.agreement_table(scores),
        "seconds": scores["seconds"].to_series().rename_axis("detector").reset_index(),
    }
    if truth_norm is not None:
        norms = comparing.score_pictures(model, pictures, ["norm"], layers=chosen, size=size, batch=batch)
        tables["truth"] = comparing.truth_table(scores, norms["score"].isel(detector=0) > truth_norm)
    if counts:
        tables["planted"] = comparing.planted_truth(
            model, pictures, specs, counts, clustered=clustered, layers=chosen, size=size, batch=batch, progress=True
        )
    tables["whereabouts"] = whereabouts_table(
        scores,
        pictures,
        patch_size=model.patch_size,
        labels=labels,
        background=numbers(background, "--background"),
        ignore=numbers(ignore, "--ignore"),
    )
    if stability:
        tables["stability"] = stability_table(
            model, pictures, specs, layers=chosen, size=size, batch=batch, progress=True
        )
    if purify is not None:
        tables["removal"] = removal_table(
            model,
            pictures,
            detector=purify,
            purifiers=split_specs(purifiers),
            layers=chosen or list(range(1, model.depth + 1)),
            labels=labels,
            ignore=numbers(ignore, "--ignore"),
            size=size,
            batch=batch,
            progress=True,
        )
    for name, table in tables.items():
        table.attrs = {"backbone": model.spec, "size": scores.attrs["size"]}
        table.to_parquet(out / f"{name}.parquet")
    scores.to_zarr(out / "scores.zarr", mode="w", zarr_format=3, consolidated=False)
    report(tables, out)
    console = Console()
    if plots:
        draw(scores, tables, pictures, out / "figures", maps)
    for sentence in findings(tables):
        console.print(f"· {sentence}", markup=False, highlight=False, soft_wrap=True)


def draw(scores: xr.Dataset, tables: dict[str, pd.DataFrame], pictures: list[str], folder: Path, maps: int) -> None:
    """Writes the figures of a comparison as PNG and PDF."""
    from figures.compare_report import compare_figures

    shown = first_pictures(scores, pictures, maps)
    figures = compare_figures(scores, tables, pictures=shown, maps_for=maps)
    write_figures(figures, folder, source=scores.attrs["backbone"])
    Console().print(f"figures: {folder}", markup=False, highlight=False, soft_wrap=True)


def planted_of(text: str | None) -> tuple[list[int], bool]:
    """`k=1,4,10 clustered` -> ([1, 4, 10], True); nothing for None."""
    if text is None:
        return [], False
    words = text.replace(" ,", ",").replace(", ", ",").split()
    clustered = "clustered" in words
    counts = [word.removeprefix("k=") for word in words if word != "clustered"]
    try:
        (numbers,) = counts
        return [int(number) for number in numbers.split(",")], clustered
    except ValueError:
        raise ValueError(f"`--plant` should read k=1,4,10 or 'k=1,4,10 clustered'; got `{text}`.") from None


def report(tables: dict[str, pd.DataFrame], out: Path) -> None:
    """Prints each detector's own threshold by layer, and how it stands against what is known."""
    console = Console()
    own = tables["thresholds"][tables["thresholds"]["own"]]
    tokens = own.pivot_table("tokens", "detector", "layer", sort=False)
    tokens.columns = [f"layer {layer}" for layer in tokens.columns]
    console.print(as_rich(tokens, "tokens marked by the own threshold, mean of a picture", digits=1))
    for name, title in (("truth", "against patches of large norm"), ("planted", "against planted outliers")):
        if name in tables:
            keys = [key for key in ("planted", "layer") if key in tables[name]]
            table = tables[name].pivot_table("auc", "detector", keys, sort=False)
            table.columns = [
                " ".join(f"{k} {v}" for k, v in zip(keys, at if isinstance(at, tuple) else (at,), strict=True))
                for at in table.columns
            ]
            console.print(as_rich(table, f"ROC-AUC {title}", digits=3))
    console.print(f"tables: {out}/*.parquet", markup=False, highlight=False, soft_wrap=True)

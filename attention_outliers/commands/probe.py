"""`outliers probe`: every per-layer measurement of a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
import xarray as xr
from rich.console import Console
from rich.table import Table

import diagnostics
from attention_outliers.commands.options import (
    BackboneSpec,
    Batch,
    Device,
    Images,
    Positions,
    Precision,
    SizeText,
    Strict,
    backbone_of,
    layers_of,
    numbers,
)
from attention_outliers.commands.output import first_images, tell_left_out, tell_note
from diagnostics.registry import split_specs
from diagnostics.studies.store import left_out


def probe(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="The zarr store to write, such as run.zarr.")],
    backbone: BackboneSpec = "pocket",
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            "-m",
            help="Which measures, such as norms,entropy,query-attention:patches=90+105; see `outliers list measures`. "
            "All that need no whole attention maps by default.",
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Which layers, such as 1,6,8-11 or -2,-1. All by default.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Folder of label maps named as the images, for the same-class AUC and ROC (measure auc)."
        ),
    ] = None,
    ignore: Annotated[str, typer.Option("--ignore", help="Labels that are no class, such as 255 or 0,255.")] = "255",
    size: SizeText = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", help="Folder for figures: layer curves, and maps of the first images."),
    ] = None,
    maps: Annotated[int, typer.Option("--maps", min=0, help="Images whose maps --plots draws.")] = 3,
) -> None:
    """Measure images layer by layer into one labeled data set, and print what stands out.

    A run that was stopped goes on where it was when the same command is given again.

    In Python, the store opens with diagnostics.open_run("run.zarr").
    """
    model = backbone_of(backbone, device, precision, positions)
    tell_note(model)
    dataset = diagnostics.probe(
        model,
        images,
        measures=None if measures is None else split_specs(measures),
        layers=layers_of(layers),
        labels=labels,
        ignore=numbers(ignore, "--ignore"),
        size=size,
        batch=batch,
        out=out,
        strict=strict,
        progress=True,
    )
    report(dataset, out)
    if plots is not None:
        draw(dataset, images, plots, maps)


def report(dataset: xr.Dataset, out: Path) -> None:
    """Prints the table of layers, the images that were left out, and where the data are."""
    console = Console()
    count = dataset.sizes["image"]
    title = f"{count} image{'s' * (count != 1)}, {dataset.backbone}"
    console.print(title, style="italic", markup=False, highlight=False, soft_wrap=True)
    frame = diagnostics.layer_table(dataset)
    if frame.columns.size:
        console.print(_as_rich(frame))
    tell_left_out(left_out(out))
    console.print(f"data set: {out}", markup=False, highlight=False, soft_wrap=True)


def _as_rich(frame: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layer", justify="right", style="bold")
    for column in frame.columns:
        table.add_column(column, justify="right")
    for layer, row in zip(frame.index, frame.to_numpy(), strict=True):
        table.add_row(str(layer), *(_number(value, column) for value, column in zip(row, frame.columns, strict=True)))
    return table


def _number(value: float, column: str) -> str:
    if column == "top channel":
        return f"{int(value)}"
    return f"{value:.1f}" if "norm" in column or "tokens" in column else f"{value:.3f}"


def draw(dataset: xr.Dataset, images: list[str], folder: Path, maps: int) -> None:
    """Writes the figures that the data set allows as PNG and PDF."""
    from figures.curves.probe_report import probe_figures
    from figures.figure_files import write_figures

    shown = first_images(dataset, images, maps)
    figures = probe_figures(dataset, images=shown, maps_for=maps)
    drawn = write_figures(figures, folder, source=f"{dataset.backbone} {dataset.attrs['size']}")
    said = f"figures:  {folder}" if drawn else "figures:  none; no figure shows these measures"
    Console().print(said, markup=False, highlight=False, soft_wrap=True)

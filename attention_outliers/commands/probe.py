"""`outliers probe`: every measurement of a folder of images, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.fit import check_layers, large_images
from attention_outliers.commands.options import (
    IgnoreLabels,
    Images,
    Labels,
    LayersText,
    Model,
    Palette,
    Passes,
    check_inputs,
    check_outside,
    check_parts,
    device_of,
    first_images,
    layers_of,
    numbers,
    short_spec,
    specs_of,
)
from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table

if TYPE_CHECKING:
    import xarray as xr

    from diagnostics.options import RunOptions


OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The zarr store to write, such as run.zarr. Without it, print only."),
]
MeasuresOption = Annotated[
    str | None,
    typer.Option(
        "--measures",
        "-m",
        autocompletion=complete.measures,
        help="Which measures, such as norms,entropy,query-attention:patches=90+105; see `outliers list measures`. "
        "By default all that need no whole attention maps.",
    ),
]
PlotsOption = Annotated[
    Path | None,
    typer.Option("--plots", help="Folder for figures: layer curves, and maps of the first images."),
]
MapsOption = Annotated[int, typer.Option("--maps", min=0, help="Images whose maps --plots draws.")]


# Under the table, which has the papers' names; figures and variables have both.
STREAMS = (
    "X_res: the block's input (block_in); X_attn: the output of its attention (attn_out); X_sum: their sum (block_sum)"
)


def probe(
    images: Images,
    *,
    out: OutOption = None,
    measures: MeasuresOption = None,
    layers: LayersText = None,
    labels: Labels = None,
    ignore: IgnoreLabels = "255",
    palette: Palette = None,
    plots: PlotsOption = None,
    maps: MapsOption = 3,
    model: Model,
    passes: Passes,
    show: Output,
) -> None:
    """Measure images layer by layer, and print what stands out.

    With --out, an interrupted run resumes when the same command is given again, and the store opens in Python with
    ao.open_run("run.zarr"). With --labels, the AUC and ROC of same-class pairs are measured, too.

    Example: outliers probe photos/ --backbone timm:vit_base_patch16_224.dino --out run.zarr --plots figures/
    """
    check_inputs(images, labels=labels)
    check_outside(images, plots=plots)
    asked = None if measures is None else specs_of(measures)
    check_parts(measures=asked or ())
    options, no_class = passes.options(show, layers_of(layers)), numbers(ignore, "--ignore")
    import diagnostics
    from diagnostics.studies.store import left_out

    check_layers(model.backbone, options.layers)
    _check_fit(model, images, measures, options)
    backbone = model.load(show)
    show.padding(options.size, backbone)
    with TemporaryDirectory() as folder:
        store = Path(folder) / "run.zarr" if out is None else out
        dataset = diagnostics.probe(
            backbone,
            images,
            measures=asked,
            labels=labels,
            ignore=no_class,
            palette=palette,
            out=store,
            options=options,
        )
        _print(dataset, show)
        show.left_out(left_out(store))
        if out is not None:
            show.path("data set", out)
        if plots is not None:
            _draw(dataset, images, plots, maps, show)


def _check_fit(model: Model, images: list[str], measures: str | None, options: RunOptions) -> None:
    """Refuses images that are too large for the measures, before the model is loaded."""
    if large := large_images(model, images, options.size):
        from diagnostics.measures import DEFAULT_MEASURES, measures_of
        from diagnostics.studies.probe import check_fit

        parts = measures_of(DEFAULT_MEASURES if measures is None else specs_of(measures))
        check_fit(*large, parts, len(options.layers or [1]), device=device_of(model.device))


def _print(dataset: xr.Dataset, show: Output) -> None:
    """The table of layers."""
    import diagnostics

    count = dataset.sizes["image"]
    frame = diagnostics.layer_table(dataset)
    digits = {column: 1 if "norm" in column or "tokens" in column else 3 for column in frame.columns}
    if "top channel" in frame:
        frame = frame.astype({"top channel": int})
    title = f"{count} image{'s' * (count != 1)}, {short_spec(dataset.backbone)}"
    show.record.update(backbone=dataset.backbone, images=count)
    if frame.columns.size:
        table = Table.of_frame(frame, title, digits=digits)
        named = any("X_res" in str(column) for column in frame.columns)
        show.table("layers", replace(table, caption=STREAMS if named else ""))
    else:
        show.say(title)


def _draw(dataset: xr.Dataset, images: list[str], folder: Path, maps: int, show: Output) -> None:
    """Writes the figures that the data set allows as PNG and PDF."""
    from figures.curves.probe_report import probe_figures
    from figures.figure_files import write_figures

    figures = probe_figures(dataset, images=first_images(dataset, images, maps), maps_for=maps)
    count = write_figures(figures, folder, source=f"{dataset.backbone} {dataset.attrs['size']}")
    if count:
        show.path("figures", folder)
    else:
        show.say("figures: none; no figure shows these measures", figures=None)

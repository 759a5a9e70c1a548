"""`outliers demo`: the main job on two pictures, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

import diagnostics
from commands.options import BackboneSpec, backbone_of
from commands.probe import draw, report


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the data set and the figures.")] = Path(
        "results"
    ),
    backbone: BackboneSpec = "pocket",
) -> None:
    """Probe scikit-learn's two sample pictures, print the table, and draw the figures."""
    import sklearn.datasets  # here, since it takes seconds that no other command needs

    pictures = [str(Path(sklearn.datasets.__file__).parent / "images" / name) for name in ("china.jpg", "flower.jpg")]
    model = backbone_of(backbone, "cpu", "fp32", None)
    if model.note:
        typer.echo(model.note)
    store = out / "demo.zarr"
    # Always made anew, so that a demo of last month's model is not in the way.
    shutil.rmtree(store, ignore_errors=True)
    dataset = diagnostics.probe(model, pictures, out=store, progress=True)
    report(dataset, store)
    draw(dataset, pictures, out / "figures", maps=2)

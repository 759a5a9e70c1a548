"""`outliers encode`: dense tokens of any block or tap, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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
)
from attention_outliers.commands.output import tell_left_out
from segment.features import encode_images


def encode(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as features.safetensors.")],
    backbone: BackboneSpec = "pocket",
    layer: Annotated[
        int, typer.Option("--layer", "-l", help="1…L as the papers count; 0 is the embedding, -1 the last block.")
    ] = -1,
    tap: Annotated[str, typer.Option("--tap", "-t", help="Which place in the block; see `outliers list taps`.")] = (
        "block_out"
    ),
    project: Annotated[
        bool,
        typer.Option("--project", help="Final norm and projection on top: the space of the text. For block_out."),
    ] = False,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-M",
            help="Dense features of a segmentation method in place of a tap, such as clearclip or "
            "sc-clip:purifier=median; see `outliers list methods`. --layer, --tap and --project have no part then.",
        ),
    ] = None,
    prefix: Annotated[bool, typer.Option("--prefix", help="Class token and registers too, under NAME/prefix.")] = False,
    size: SizeText = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
) -> None:
    """Write dense tokens, or a method's dense features: one tensor (rows, cols, D) an image, under its name.

    Read them with safetensors.torch.load_file(FILE). A run that was stopped goes on where it was.
    """
    model = backbone_of(backbone, device, precision, positions)
    shared: dict[str, Any] = {"prefix": prefix, "size": size, "batch": batch, "strict": strict, "progress": True}
    if method is None:
        left_out = diagnostics.encode(model, images, out=out, layer=layer, tap=tap, project=project, **shared)
    else:
        if (layer, tap, project) != (-1, "block_out", False):
            raise ValueError("`--method` makes its own features; leave --layer, --tap and --project out.")
        left_out = encode_images(model, images, method, out=out, positions=positions, **shared)
    tell_left_out(left_out)
    Console().print(f"features: {out}", markup=False, highlight=False, soft_wrap=True)

"""Options that several subcommands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from diagnostics import Backbone, load_backbone

Images = Annotated[
    list[str],
    typer.Argument(help="Images: files, folders (with all below them), or globs such as 'photos/*.jpg'."),
]
BackboneSpec = Annotated[
    str,
    typer.Option(
        "--backbone",
        "-b",
        help=(
            "Which model: pocket (inside the package), open_clip:ViT-B-16/openai, open_clip:ARCHITECTURE@FILE, "
            "timm:vit_base_patch16_224.dino, timm:NAME@FILE, openai:FILE, hf-hub:ORG/NAME, tiny. "
            "See `outliers list backbones`."
        ),
    ),
]
SizeText = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="Size the network sees: 224 (square, stretched), WxH, short:336 (keeps the shape), native. "
        "The model's own size by default.",
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Images in one forward pass.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1; auto takes a GPU where there is one.")]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option("--precision", help="fp32 or bf16. Measurements are made in fp32 either way.")
]
Positions = Annotated[
    str | None,
    typer.Option("--positions", help="How positions are stretched to other sizes; see `outliers list positions`."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image or label map that can't be read.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes.")]


def backbone_of(spec: str, device: str, precision: Literal["fp32", "bf16"], positions: str | None) -> Backbone:
    """The backbone that the options name."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_backbone(spec, device=device, precision=precision, positions=positions)


def layers_of(text: str | None) -> list[int] | None:
    """`1,6,8-11,-1` -> [1, 6, 8, 9, 10, 11, -1]; None for all."""
    if text is None:
        return None
    layers: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().rpartition("-")
        try:
            if dash and first.strip():
                if int(first) > int(last):
                    raise ValueError
                layers += range(int(first), int(last) + 1)
            else:
                layers.append(int(piece))
        except ValueError:
            raise ValueError(f"`--layers` should read 1,6,8-11 or -2,-1; got `{text}`.") from None
    return layers


def numbers(text: str, option: str) -> list[int]:
    """`0,255` -> [0, 255]."""
    try:
        return [int(piece) for piece in text.split(",") if piece.strip()]
    except ValueError:
        raise ValueError(f"`{option}` should be label numbers such as 0,255; got `{text}`.") from None

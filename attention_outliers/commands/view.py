"""`outliers view`: one page to look inside with, in a browser, without a server or a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console

from attention_outliers.commands.options import (
    BackboneSpec,
    Device,
    Images,
    Positions,
    Precision,
    SizeText,
    Strict,
    backbone_of,
    layers_of,
)
from attention_outliers.commands.output import tell_left_out, tell_note, write_whole
from attention_outliers.commands.words import Background, Classes, ClassesFile, Rows, Templates, words_of
from diagnostics import Backbone
from diagnostics.registry import split_specs

if TYPE_CHECKING:  # what only segmentation needs is not loaded for pages without label maps
    from diagnostics.studies.image_report import ImageReport
    from figures.view import PageImage
    from segment.method import TextFeatures

# Detectors of the page where none are asked for: those of SC-CLIP, SFP and CLIPtrase, and two simple ones. Those of
# them that can't run on the backbone, or on images of that size, are left out. Our choice.
DETECTORS = ("relative-norm", "lof", "som", "self-correlation", "received-attention")
METHODS = "clip,clearclip,sc-clip"


def view(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("page.html"),
    backbone: BackboneSpec = "pocket",
    detectors: Annotated[
        str | None,
        typer.Option(
            "--detectors",
            "-d",
            help="Detectors of outliers, such as norm:threshold=100,lof; see `outliers list detectors`. "
            f"{', '.join(DETECTORS)} by default, those of them that can run.",
        ),
    ] = None,
    purifier: Annotated[
        str, typer.Option("--purifier", help="How outliers are purified; see `outliers list purifiers`.")
    ] = "neighbor-mean",
    purified_by: Annotated[
        str | None,
        typer.Option("--purified-by", help="Which of --detectors says what is purified. The first by default."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-M",
            help=f"Methods whose label maps are shown, such as clip,sc-clip. {METHODS} by default, where there are "
            "--classes.",
        ),
    ] = None,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    background: Background = None,
    templates: Templates = "openai-80",
    rows: Rows = None,
    windows: Annotated[
        str, typer.Option("--windows", help="Windows of the label maps; see `outliers list windows`.")
    ] = "slide",
    layers: Annotated[
        str | None, typer.Option("--layers", help="Which layers, such as 1,6,8-11 or -2,-1. All by default.")
    ] = None,
    heads: Annotated[
        Literal["all", "mean"], typer.Option("--heads", help="Attention of all heads, or their mean alone.")
    ] = "all",
    size: SizeText = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
) -> None:
    """Write one page to look inside with: point at any patch and see its attention, similarity and norm by layer.

    The page is one file of at most 15 MB. It needs no server and no network: open it, or send it. Where attention of
    all heads would be too much, it is reduced, and the page says so.

    Example: outliers view photo.jpg --classes "cat, dog, grass" --method clip,sc-clip --out page.html
    """
    model = backbone_of(backbone, device, precision, positions)
    console = Console()
    tell_note(model)
    named = classes is not None or classes_file is not None
    if not named and model.spec == "pocket":
        from segment.datasets.shapes import NAMES

        classes, named = ", ".join(NAMES), True
    if method is not None and not named:
        raise ValueError(f"`--method {method}` draws label maps, which need names: --classes 'cat, dog, grass'.")
    text = words_of(model, classes, classes_file, background, templates, rows) if named else None
    reasons = view_page(
        model,
        images,
        out,
        detectors=None if detectors is None else split_specs(detectors),
        purifier=purifier,
        purified_by=purified_by,
        methods=split_specs(method or METHODS),
        text=text,
        windows=windows,
        layers=layers_of(layers),
        heads=heads,
        size=size,
        strict=strict,
    )
    tell_left_out(reasons)
    megabytes = out.stat().st_size / 1e6
    console.print(f"page: {out} ({megabytes:.1f} MB)", markup=False, highlight=False, soft_wrap=True)


def view_page(
    model: Backbone,
    images: Any,
    out: Path,
    *,
    detectors: Sequence[str] | None = None,
    purifier: str = "neighbor-mean",
    purified_by: str | None = None,
    methods: Sequence[str] = (),
    text: TextFeatures | None = None,
    windows: str = "slide",
    layers: Sequence[int] | None = None,
    heads: Literal["all", "mean"] = "all",
    size: str | None = None,
    strict: bool = False,
) -> Mapping[str, str]:
    """Writes the page of `outliers view`; returns the images left out, with reasons.

    Label maps are drawn where `text` is given. The file appears when it is whole; an older one is replaced.
    """
    from diagnostics.studies.image_report import LookInside
    from figures.view import page_html

    specs = usable_detectors(model, images, size) if detectors is None else list(detectors)
    inside = LookInside(
        model,
        images,
        specs,
        purifier=purifier,
        by=purified_by,
        layers=layers,
        heads=heads,
        size=size,
        strict=strict,
    )
    seen = _seen(model, inside, methods, text, windows)
    page = page_html(seen, title=f"Inside {public_spec(model.spec)}", note=model.note)
    write_whole(out, page)
    return inside.left_out


def public_spec(spec: str) -> str:
    """The spec with files named without the folders above them, since a page may be sent to others."""
    family, _, argument = spec.partition(":")
    if family in ("openai", "local-dir"):
        return f"{family}:{Path(argument).name}"
    model, at, file = spec.partition("@")
    return f"{model}@{Path(file).name}" if at else spec


def usable_detectors(model: Backbone, images: Any, size: str | None) -> list[str]:
    """Those of DETECTORS that can run on all these images."""
    from diagnostics.detectors import DETECTORS as KNOWN
    from diagnostics.images.feed import list_images, size_for
    from diagnostics.studies.scoring import layouts_of

    layouts = layouts_of(model, list_images(images, size_for(model, size), strict=False))
    return [spec for spec in DETECTORS if not any(KNOWN.build(spec).unsupported_reason(layout) for layout in layouts)]


def _seen(
    model: Backbone, inside: Any, methods: Sequence[str], text: TextFeatures | None, windows: str
) -> Iterator[PageImage]:
    """Each image with its label maps, one at a time."""
    from figures.view import PageImage

    for one in inside:
        if text is None or not methods:
            yield PageImage(inside=one)
        else:
            labels = _labels(model, one, methods, text, windows)
            yield PageImage(inside=one, labels=labels, classes=text.names, background=text.background)


def _labels(
    model: Backbone, inside: ImageReport, methods: Sequence[str], text: TextFeatures, windows: str
) -> dict[str, np.ndarray]:
    import segment

    return segment.segment_one(model, inside.image, text, methods, windows=windows)

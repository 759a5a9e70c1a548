"""`outliers segment`: label maps of images, by words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import (
    Images,
    Model,
    ProfileFile,
    Strict,
    check_inputs,
    keywords,
    profiled,
    specs_of,
)
from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table
from attention_outliers.commands.words import (
    Background,
    ClassEmbeddings,
    Classes,
    ClassFile,
    Templates,
    check_names,
    vocabulary_of,
    words_of,
)

if TYPE_CHECKING:
    from diagnostics.options import RunOptions
    from segment.run import SegmentRun

MOST_CLASSES = 20  # rows of the printed table


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How dense features become label maps."""

    panel: ClassVar[str] = "Decoding"

    windows: Annotated[
        str,
        typer.Option(
            "--windows",
            autocompletion=complete.windows,
            help="slide, slide:crop=224,stride=112, whole, or center; see `outliers list windows`.",
        ),
    ] = "slide"
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Size of the image before windows are cut: short:336, 224, WxH, native. By default that of --windows. "
            "Memory: 45 bytes a pixel of the image, 12 more for each further method; see docs/segment.md.",
        ),
    ] = None
    scale: Annotated[float | None, typer.Option("--scale", help="Factor of the cosines before the softmax.")] = None
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Pixels whose best probability is below it become background."),
    ] = None
    smallest_area: Annotated[
        float | None,
        typer.Option("--smallest-area", help="Classes with at most this share of the foreground are left out."),
    ] = None
    refine: Annotated[
        str,
        typer.Option(
            "--refine",
            autocompletion=complete.refiners,
            help="none, pamr, pamr:iterations=10, …; see `outliers list refiners`.",
        ),
    ] = "none"
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in one forward pass.")] = 8
    strict: Strict = False

    def options(self, positions: str | None, *, progress: bool) -> RunOptions:
        """How windows go through the backbone."""
        from diagnostics.options import RunOptions

        return RunOptions(size=self.size, batch=self.batch, strict=self.strict, positions=positions, progress=progress)

    def methods(self, specs: str) -> list[Any]:
        """The methods of a list, with the settings of decoding that were given."""
        from segment.methods import METHODS

        settings = keywords(self, "scale", "threshold", "smallest_area")
        changed = {name: value for name, value in settings.items() if value is not None}
        methods = [METHODS.build(spec) for spec in specs_of(specs)]
        return [replace(method, decode=replace(method.decode, **changed)) for method in methods]


OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for label maps, overlays and their JSON.")]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        "-M",
        autocompletion=complete.methods,
        help="One method or several, such as clip,clearclip,sc-clip:detector=som,purifier=median; "
        "see `outliers list methods`. Several share the forward pass and are drawn on one sheet.",
    ),
]
OverlaysOption = Annotated[bool, typer.Option(help="Draw the labels over the image, with a legend.")]


def segment(
    images: Images,
    *,
    out: OutOption,
    classes: Classes = None,
    method: MethodOption = "sc-clip",
    profile: ProfileFile = None,
    background: Background = None,
    templates: Templates = "openai-80",
    embeddings: ClassEmbeddings = None,
    overlays: OverlaysOption = True,
    decoding: Decoding,
    file: ClassFile,
    model: Model,
    show: Output,
) -> None:
    """Give every pixel of images one of the classes that you name.

    OUT/METHOD/NAME.labels.png is the label map (palette PNG; 16 bit past 255 classes), NAME.overlay.png the same over
    the image, NAME.json areas, confidence and every setting; OUT/sheets has several methods side by side. An
    interrupted run resumes.

    Example: outliers segment photos/ --classes "cat, dog, grass" --method clip,clearclip,sc-clip --out labels/
    """
    check_names(classes, file, background)
    check_inputs(images, class_embeddings=embeddings)
    from segment.run import SegmentRun
    from segment.segmenter import Segmenter

    vocabulary, methods = vocabulary_of(classes, file, background), decoding.methods(profiled(method, profile))
    options = decoding.options(model.positions, progress=show.progress)
    backbone = model.load(show)
    segmenter = Segmenter(
        backbone,
        methods,
        words_of(backbone, vocabulary, templates, embeddings, file.combine, progress=show.progress),
        windows=decoding.windows,
        refine=decoding.refine,
        options=options,
    )
    about = {"queries": vocabulary.classes, "templates": templates, "combine": file.combine}
    run = SegmentRun(segmenter, images, out, about=about, progress=show.progress)
    areas, count = _segmented(run, overlays)
    if count:
        show.table("shares", _shares(areas, segmenter.text.names, count))
    else:
        show.say("nothing is left to do: the images that can be read were done already.")
    show.record["images"] = count
    show.left_out(run.left_out)
    show.path("label maps", out)


def _segmented(run: SegmentRun, overlays: bool) -> tuple[dict[str, Any], int]:
    """Sums of the areas by method, and the number of images; overlays are written."""
    areas: dict[str, Any] = dict.fromkeys(run.methods, 0)
    count = 0
    for segmentations in run:
        if overlays:
            from attention_outliers.overlays import write_overlays

            write_overlays(run, segmentations)
        for segmentation in segmentations:
            areas[segmentation.method] = areas[segmentation.method] + segmentation.areas
        count += 1
    return areas, count


def _shares(areas: dict[str, Any], names: tuple[str, ...], count: int) -> Table:
    """The largest classes of this run, by method."""
    total = sum(areas.values())
    order = sorted((number for number in range(len(names)) if total[number] > 0), key=lambda number: -total[number])
    more = len(order) - MOST_CLASSES
    return Table(
        heads=["class", *areas],
        rows=[
            [names[number], *(float(area[number]) / count for area in areas.values())]
            for number in order[:MOST_CLASSES]
        ],
        title=f"mean share of the pixels over {count} images",
        caption=f"and {more} more classes" if more > 0 else "",
    )

"""`outliers segment`: label maps of images, by words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import Images, Model, ProfileFile, check_inputs, profiled, specs_of
from attention_outliers.commands.output import Output
from attention_outliers.commands.segment_options import Decoding
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

MOST_CLASSES = 20  # rows of the printed table


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
    from attention_outliers.overlays import total_areas
    from segment.run import SegmentRun
    from segment.segmenter import Segmenter

    vocabulary, methods = vocabulary_of(classes, file, background), decoding.methods(profiled(method, profile))
    if profile is not None:
        methods = _as_asked(methods, specs_of(method), profile, show)
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
    areas, count = total_areas(run, overlays=overlays)
    if count:
        show.table("shares", _shares(areas, segmenter.text.names, count))
    else:
        show.say("nothing is left to do: the images that can be read were done already.")
    show.record["images"] = count
    show.left_out(run.left_out)
    show.path("label maps", out)


def _as_asked(methods: Sequence[Any], specs: Sequence[str], profile: Path, show: Output) -> list[Any]:
    """The methods under the specs that were typed, which tell them apart: the profile is named once, not in each.

    The folder's settings hold the profile, so a run with another one is refused there.
    """
    fed = [spec for method, spec in zip(methods, specs, strict=True) if method.spec != spec]
    if fed:
        show.say(f"profile: {profile} says which patches are outliers in {', '.join(fed)}", profile=str(profile))
    return [method.named(spec) for method, spec in zip(methods, specs, strict=True)]


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

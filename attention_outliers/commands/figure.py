"""`outliers figure`: any measured figure of the papers, on any images and backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.list import figures_table
from attention_outliers.commands.options import Labels, Model, check_inputs, check_outside, load
from attention_outliers.commands.output import Output
from attention_outliers.commands.words import ClassEmbeddings, Classes, ClassesFile, Templates

if TYPE_CHECKING:
    from attention_outliers.papers.inputs import FigureInputs, PaperFigure

LIST = "list"
MOST_DRAWN = 3  # images that a figure about one image is drawn for
# Figures of papers whose numbers a run of `outliers probe` has: the drawing, and the variable that it draws.
FROM_RUN = {
    "clearclip/fig-4a": ("layer-curve", "entropy"),
    "clearclip/fig-4b": ("layer-curve", "peak"),
    "clearclip/fig-4c": ("channel-means", ""),
}
OPTIONS = {"words": "--classes 'cat, dog, grass'", "labels": "--labels DIR"}


NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="PAPER/FIG",
        autocompletion=complete.figures,
        help="Which figure, such as clearclip/fig-4a; `list` shows all.",
    ),
]
ImagesArgument = Annotated[
    list[str] | None, typer.Argument(help="Images: files, folders, or globs such as 'photos/*.jpg'.")
]
SecondOption = Annotated[
    str | None,
    typer.Option(
        "--second",
        autocompletion=complete.backbones,
        help="Another backbone, for figures that set two side by side.",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder; the figure is OUT/PAPER-FIG.png and .pdf.")]
IgnoreOption = Annotated[int, typer.Option("--ignore", help="The label that stands for no class.")]
ScenesOption = Annotated[
    int, typer.Option("--scenes", min=0, help="Drawn scenes in place of images; they bring labels and words.")
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="A stored run of `outliers probe`, in place of images and model. Figures: layer-overview, "
        "layer-curve:VARIABLE, maps-over-layers, pca-maps, attention-heads, channel-means, channel-heatmap, "
        "layer-similarity, roc-curves, and those of papers whose numbers it has.",
    ),
]
EachOption = Annotated[int, typer.Option("--each", min=1, help="Images that a figure about one image is drawn for.")]


def figure(
    name: NameArgument,
    images: ImagesArgument = None,
    *,
    second: SecondOption = None,
    out: OutOption = Path("results/figures"),
    labels: Labels = None,
    ignore: IgnoreOption = 255,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    templates: Templates = "openai-80",
    embeddings: ClassEmbeddings = None,
    scenes: ScenesOption = 0,
    each: EachOption = MOST_DRAWN,
    stored: FromOption = None,
    model: Model,
    show: Output,
) -> None:
    """Draw a figure of a paper from your images and backbone; `outliers figure list` shows what there is.

    Labels of --labels number the --classes from 0.

    Example: outliers figure clearclip/fig-4a photos/ -b open_clip:ViT-B-16-quickgelu/openai --second
    timm:vit_base_patch16_224.dino

    Example: outliers figure sc-clip/fig-8 --scenes 24
    """
    if name == LIST:
        show.table("figures", figures_table())
        return
    if stored is not None:
        if images or scenes:
            raise ValueError("`--from` draws a stored run; leave images and --scenes out.")
        _write_stored(name, stored, out, show)
        return
    if bool(images) == bool(scenes):
        raise ValueError("give either images, or --scenes N for drawn ones.")
    present = {"words": bool(classes or classes_file or scenes), "labels": bool(labels or scenes)}
    entry = _entry(name, {need for need in present if present[need]}, pair=second is not None)
    check_outside(images or (), out=out)
    check_inputs(images or (), labels=labels, classes_file=classes_file, class_embeddings=embeddings)
    from attention_outliers.papers.claims import claim_lines
    from attention_outliers.papers.inputs import images_of, scenes_of, with_words

    backbone = model.load(show)
    inputs, left_out = (
        (scenes_of(scenes, backbone), {}) if scenes else images_of(images or [], backbone, labels, ignore)
    )
    show.left_out(left_out)
    inputs = with_words(inputs, classes_file or classes, templates, embeddings, drawn=bool(scenes))
    if second is not None:
        inputs = replace(inputs, second=load(second, model.options()))
    _write(name, entry, inputs, out, each)
    lines = claim_lines(name, inputs)
    show.result(f"{name}: {entry.shows}", figure=name, shows=entry.shows, claim=entry.claim, checks=lines)
    for line in lines:
        show.result(line)
    show.path("figures", out)


def _write_stored(name: str, stored: Path, out: Path, show: Output) -> None:
    """A figure from a run alone; ValueError that names what the run lacks, or that the figure needs the model."""
    import inspect

    from diagnostics import open_run
    from diagnostics.registry import unknown_name
    from figures import FIGURES
    from figures.figure_files import write_figures

    dataset = open_run(stored)
    plain, _, variable = name.partition(":")
    drawing, variable = FROM_RUN.get(name, (plain, variable))
    if drawing not in FIGURES:
        known = [*FROM_RUN, *FIGURES]
        if "/" in name:
            raise ValueError(
                f"`{name}` needs the model and the images, not a stored run alone; without them there are "
                f"{', '.join(known)}."
            )
        raise unknown_name("figure of a stored run", name, known)
    draw = FIGURES[drawing]
    first = next(iter(inspect.signature(draw).parameters))
    if first == "scores":
        raise ValueError(
            f"`{drawing}` draws scores of `outliers compare`, which a run of `outliers probe` does not hold."
        )
    if first == "measurement" and variable not in dataset:
        raise ValueError(
            f"`{name}` draws {f'`{variable}`' if variable else f'a variable, {drawing}:VARIABLE'}; `{stored}` has "
            f"{', '.join(map(str, dataset.data_vars))}. Probe with the measure that yields it."
        )
    figure = draw(dataset[variable] if first == "measurement" else dataset)
    stem = name.replace("/", "-").replace(":", "-")
    write_figures([(stem, figure)], out, source=f"{dataset.attrs['backbone']}, {stored}")
    show.result(f"{name}: {dataset.sizes['image']} images of {stored}", figure=name)
    show.path("figures", out)


def _entry(name: str, present: set[str], *, pair: bool) -> PaperFigure:
    """The figure; ValueError where it needs what is not present, or where a second backbone has no place in it."""
    from attention_outliers.papers.figures import PAPER_FIGURES, paper_figure

    entry = paper_figure(name)
    if pair and not entry.pair:
        pairs = ", ".join(other for other in PAPER_FIGURES if PAPER_FIGURES[other].pair)
        raise ValueError(f"`{name}` is drawn from one backbone, so --second has no place in it. Two stand in {pairs}.")
    missing = [need for need in entry.needs if need not in present]
    if missing:
        raise ValueError(
            f"`{name}` needs {' and '.join(missing)}; give {' and '.join(OPTIONS[need] for need in missing)}, or "
            "--scenes 24 for drawn scenes that bring both."
        )
    return entry


def _write(name: str, entry: PaperFigure, inputs: FigureInputs, out: Path, each: int) -> None:
    """The figure as PNG and PDF; one about a single image for the first `each` images."""
    from figures.figure_files import write_figures

    stem, specs = name.replace("/", "-"), ", ".join(backbone.spec for backbone in inputs.backbones)
    views = entry.views(inputs, each)
    for number, view in enumerate(views, start=1):
        suffix = f"-{number}" if len(views) > 1 else ""
        write_figures([(f"{stem}{suffix}", entry.draw(view))], out, source=f"{specs}, {len(inputs.images)} images")

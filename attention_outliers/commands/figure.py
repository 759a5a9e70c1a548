"""`outliers figure`: any measured figure of the papers, on any images and backbone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console

import diagnostics
from attention_outliers.commands.options import BackboneSpec, Device, Positions, Precision, backbone_of
from attention_outliers.commands.output import tell_note, write_figures
from attention_outliers.commands.words import Classes, ClassesFile, Rows, Templates, words_of
from diagnostics.images import ImageError, open_image
from diagnostics.images.label_maps import find_label, read_labels

if TYPE_CHECKING:
    from attention_outliers.papers.figures import Inputs

MOST_DRAWN = 3  # images that a figure about one image is drawn for


def figure(
    name: Annotated[
        str, typer.Argument(metavar="PAPER/FIG", help="Which figure, such as clearclip/fig-4a; `list` shows all.")
    ],
    images: Annotated[
        list[str] | None, typer.Argument(help="Images: files, folders, or globs such as 'photos/*.jpg'.")
    ] = None,
    backbone: BackboneSpec = "pocket",
    second: Annotated[
        str | None, typer.Option("--second", help="Another backbone, for figures that set two side by side.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; the figure is OUT/PAPER-FIG.png and .pdf.")] = Path(
        "results/figures"
    ),
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Folder of label maps named as the images; numbers are --classes.")
    ] = None,
    ignore: Annotated[int, typer.Option("--ignore", help="The label that is no class.")] = 255,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    templates: Templates = "openai-80",
    rows: Rows = None,
    scenes: Annotated[
        int, typer.Option("--scenes", min=0, help="Drawn scenes in place of images; they bring labels and words.")
    ] = 0,
    each: Annotated[
        int, typer.Option("--each", min=1, help="Images that a figure about one image is drawn for.")
    ] = MOST_DRAWN,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
) -> None:
    """Draw a figure of a paper from your images and backbone; `outliers figure list` shows what there is.

    Examples: outliers figure clearclip/fig-4a photos/ -b open_clip:ViT-B-16-quickgelu/openai --second
    timm:vit_base_patch16_224.dino; outliers figure sc-clip/fig-8 --scenes 24
    """
    if name == "list":
        tell_list()
        return
    from attention_outliers.papers.figures import paper_figure
    from attention_outliers.papers.inputs import takes_words

    entry = paper_figure(name)
    if bool(images) == bool(scenes):
        raise ValueError("give either images, or --scenes N for drawn ones.")
    model = backbone_of(backbone, device, precision, positions)
    other = None if second is None else backbone_of(second, device, precision, positions)
    console = Console()
    tell_note(model)
    named = classes is not None or classes_file is not None
    inputs = scenes_of(scenes, model) if scenes else images_of(images or [], model, labels, ignore)
    lacking = {"words": not (named or scenes), "labels": inputs.labels is None}
    if missing := [need for need in entry.needs if lacking[need]]:
        options = {"words": "--classes 'cat, dog, grass'", "labels": "--labels DIR"}
        raise ValueError(
            f"`{name}` needs {' and '.join(missing)}; give {' and '.join(options[one] for one in missing)}, or "
            "--scenes 24 for drawn scenes that bring both."
        )
    if named or (scenes and takes_words(model)):
        from dataclasses import replace

        words = words_of(model, classes or (None if classes_file else _scene_words()), classes_file, None, templates,
                         rows)  # fmt: skip
        inputs = replace(inputs, text=words)
    inputs = inputs if other is None else _with_second(inputs, other)
    stem = name.replace("/", "-")
    source = f"{model.spec}, {len(inputs.images)} images"
    shown = min(each, len(inputs.images)) if entry.each else 1
    for number in range(shown):
        given = inputs.only(number) if entry.each else inputs
        suffix = f"-{number + 1}" if shown > 1 else ""
        write_figures([(f"{stem}{suffix}", entry.draw(given))], out, source=source)
    console.print(f"{name}: {entry.shows}", markup=False, highlight=False, soft_wrap=True)
    if entry.claim:
        console.print(f"the paper: {entry.claim}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"figures: {out}", markup=False, highlight=False, soft_wrap=True)


def tell_list() -> None:
    """Prints every figure with its line, and what it needs beyond images."""
    from attention_outliers.papers.figures import CATALOGUE

    console = Console()
    width = max(map(len, CATALOGUE))
    for name, entry in CATALOGUE.items():
        needs = f" (needs {' and '.join(entry.needs)})" if entry.needs else ""
        console.print(f"{name:<{width}}  {entry.shows}{needs}", markup=False, highlight=False, soft_wrap=True)


def scenes_of(count: int, model: diagnostics.Backbone) -> Inputs:
    """Drawn scenes with their labels."""
    from attention_outliers.papers.figures import Inputs
    from segment.datasets.shapes import Shapes

    samples = list(Shapes(scenes=count))
    return Inputs(
        backbone=model,
        images=tuple(sample.image for sample in samples),
        names=tuple(sample.name for sample in samples),
        labels=tuple(sample.labels for sample in samples),
    )


def images_of(images: list[str], model: diagnostics.Backbone, labels: Path | None, ignore: int) -> Inputs:
    """Images that can be opened, with their label maps; one that can't be is left out and told."""
    from attention_outliers.papers.figures import Inputs

    paths = diagnostics.image_paths(images)
    opened: dict[str, np.ndarray] = {}
    maps: dict[str, np.ndarray] = {}
    reasons = []
    for one, path in paths.items():
        try:
            image = open_image(path)
            if labels is not None:
                maps[one] = read_labels(find_label(path, labels), expected_size=image.size)
            opened[one] = np.asarray(image)
        except ImageError as error:
            reasons.append(str(error))
    if reasons:
        from attention_outliers.commands.output import tell_left_out

        tell_left_out(dict(enumerate(reasons)))  # type: ignore[arg-type]
    if not opened:
        raise ValueError(f"none of the {len(paths)} images can be read. The first: {reasons[0]}")
    return Inputs(
        backbone=model,
        images=tuple(opened.values()),
        names=tuple(re.sub(r"\.\w+$", "", one) for one in opened),
        labels=tuple(maps[one] for one in opened) if labels is not None else None,
        ignore=ignore,
    )


def _scene_words() -> str:
    from segment.datasets.shapes import NAMES

    return ", ".join(NAMES)


def _with_second(inputs: Inputs, other: diagnostics.Backbone) -> Inputs:
    from dataclasses import replace

    return replace(inputs, second=other)

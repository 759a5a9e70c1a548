"""`outliers figure`: any measured figure of the papers, on any images and backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from attention_outliers.commands.options import BackboneSpec, Device, Positions, Precision, backbone_of
from attention_outliers.commands.output import tell_left_out, tell_note
from attention_outliers.commands.words import Classes, ClassesFile, Rows, Templates, words_of

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
    from dataclasses import replace

    from attention_outliers.papers.figures import paper_figure
    from attention_outliers.papers.inputs import images_of, scenes_of, takes_words
    from figures.figure_files import write_figures

    entry = paper_figure(name)
    if bool(images) == bool(scenes):
        raise ValueError("give either images, or --scenes N for drawn ones.")
    model = backbone_of(backbone, device, precision, positions)
    other = None if second is None else backbone_of(second, device, precision, positions)
    console = Console()
    tell_note(model)
    named = classes is not None or classes_file is not None
    left_out: dict[str, str] = {}
    if scenes:
        inputs = scenes_of(scenes, model)
    else:
        inputs, left_out = images_of(images or [], model, labels, ignore)
    tell_left_out(left_out)
    lacking = {"words": not (named or scenes), "labels": inputs.labels is None}
    if missing := [need for need in entry.needs if lacking[need]]:
        options = {"words": "--classes 'cat, dog, grass'", "labels": "--labels DIR"}
        raise ValueError(
            f"`{name}` needs {' and '.join(missing)}; give {' and '.join(options[one] for one in missing)}, or "
            "--scenes 24 for drawn scenes that bring both."
        )
    if named or (scenes and takes_words(model)):
        words = words_of(model, classes or (None if classes_file else _scene_words()), classes_file, None, templates,
                         rows)  # fmt: skip
        inputs = replace(inputs, text=words)
    inputs = inputs if other is None else replace(inputs, second=other)
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
    from attention_outliers.papers.figures import PAPER_FIGURES

    console = Console()
    width = max(map(len, PAPER_FIGURES))
    for name, entry in PAPER_FIGURES.items():
        needs = f" (needs {' and '.join(entry.needs)})" if entry.needs else ""
        console.print(f"{name:<{width}}  {entry.shows}{needs}", markup=False, highlight=False, soft_wrap=True)


def _scene_words() -> str:
    from segment.datasets.shapes import NAMES

    return ", ".join(NAMES)

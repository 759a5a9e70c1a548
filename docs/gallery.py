"""Draws every figure of `outliers figure list` on what needs no network, for the gallery of the documents.

`python docs/gallery.py` draws into docs/generated/gallery; `make docs` calls it. conf.py writes the page's list of
figures from `PAPER_FIGURES`, with the images that are there.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from attention_outliers.papers.figures import PAPER_FIGURES, FigureInputs, PaperFigure

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "generated" / "gallery"

PLAIN, PLANTED = "pocket", "pocket:planted"
# Drawn scenes: few enough for minutes in all, many enough for curves that do not jump.
SCENES = 8
# Dots per inch: legible on a page, some ten kilobytes a figure.
DPI = 90

# Figures about outliers, which `pocket` has none of by itself: drawn with those in the weights as well.
OUTLYING = frozenset(
    {
        "cliptrase/fig-2",
        "sc-clip/fig-2a",
        "sc-clip/fig-2b",
        "sc-clip/fig-3",
        "sfp/main-fig-1",
        "sfp/main-fig-3",
        "sfp/main-fig-5",
        "sfp/supp-fig-1",
        "sfp/supp-fig-2",
        "ours/agreement",
        "ours/threshold-sweep",
        "ours/timeline",
        "ours/purification",
    }
)
TITLES = {
    "clearclip": "ClearCLIP",
    "cliptrase": "CLIPtrase",
    "sc-clip": "SC-CLIP",
    "sfp": "SFP",
    "ours": "Ours",
}


def drawings(name: str) -> dict[str, str]:
    """The backbones that a figure is drawn with, and the file of each."""
    stem = name.replace("/", "-")
    return {PLAIN: f"{stem}.png"} | ({PLANTED: f"{stem}-planted.png"} if name in OUTLYING else {})


def inputs_of(spec: str) -> FigureInputs:
    """Drawn scenes with their labels and words, for a backbone inside the package."""
    from attention_outliers.papers.inputs import scenes_of
    from diagnostics import load_backbone
    from segment import Vocabulary, text_features
    from segment.datasets.shapes import NAMES

    backbone = load_backbone(spec)
    words = text_features(backbone, Vocabulary.parse(", ".join(NAMES)), "openai-80", progress=False)
    return replace(scenes_of(SCENES, backbone), text=words)


def draw_one(figure: PaperFigure, inputs: FigureInputs, path: Path) -> None:
    """One figure as a small PNG; one about single images is drawn for the first."""
    from figures.look import style

    drawn = figure.draw(figure.views(inputs)[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        drawn.savefig(path, format="png", dpi=DPI)


def draw_all(folder: Path, names: list[str]) -> None:
    """Draws the figures into the folder, and says how long each took; images of figures that are gone are removed."""
    known = {file for name in PAPER_FIGURES for file in drawings(name).values()}
    for old in folder.glob("*.png"):
        if old.name not in known:
            old.unlink()
    inputs = {spec: inputs_of(spec) for spec in (PLAIN, PLANTED)}
    for name in names:
        started = time.perf_counter()
        for spec, file in drawings(name).items():
            chosen = inputs[spec]
            if PAPER_FIGURES[name].pair:
                chosen = replace(chosen, second=inputs[PLANTED].backbone)
            draw_one(PAPER_FIGURES[name], chosen, folder / file)
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)


def write_page(folder: Path) -> Path:
    """Writes the list of all figures, `figures.md`, with the images that lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for paper in dict.fromkeys(name.partition("/")[0] for name in PAPER_FIGURES):
        parts.append(f"## {TITLES.get(paper, paper)}")
        for name, figure in PAPER_FIGURES.items():
            if name.partition("/")[0] == paper:
                parts += entry(name, figure, folder)
    page = folder / "figures.md"
    text = "\n\n".join(parts) + "\n"
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")
    return page


def entry(name: str, figure: PaperFigure, folder: Path) -> list[str]:
    """What the page says of one figure."""
    first = figure.shows[:2]
    shows = (first.capitalize() if first.islower() else first) + figure.shows[2:]  # mIoU stays
    parts = [f"### `{name}`", f"{_plain(shows)}." + (f" The paper: {_plain(figure.claim)}." if figure.claim else "")]
    for spec, file in drawings(name).items():
        both = f"{spec} and {PLANTED}" if figure.pair else spec
        if (folder / file).exists():
            parts += [f"![{name} with {both}](generated/gallery/{file})", f"*{both}*"]
        else:
            parts.append("*Not drawn in this build: `python docs/gallery.py` draws it.*")
            break
    return parts


def _plain(text: str) -> str:
    """Text without what Markdown would read as markup."""
    return text.replace("_", r"\_").replace("*", r"\*")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="figures such as sfp/main-fig-1; all where none is named")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the images")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in PAPER_FIGURES]
    if unknown:
        sys.exit(f"there is no figure {', '.join(unknown)}; `outliers figure list` shows all.")
    draw_all(chosen.out, chosen.names or list(PAPER_FIGURES))

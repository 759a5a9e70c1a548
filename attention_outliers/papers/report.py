"""A paper walked through figure by figure, for its notebook: each one drawn, and its claim set against what is seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from attention_outliers.papers.claims import claims_table
from attention_outliers.papers.figures import paper_figure
from attention_outliers.papers.inputs import FigureInputs, images_of, scenes_of, takes_words
from diagnostics import Backbone, load_backbone
from segment.text.features import text_features

SCENES = 8  # drawn where no images are given: what a notebook has time for
EXAMPLE = 7  # the scene among them with four classes, two of them plain
# What stands beside a backbone unless it is said: outliers are in the weights of the second.
BESIDE = {"pocket": "pocket:planted"}


def gather(
    backbone: Backbone,
    images: str | Path | Sequence[str | Path] | None = None,
    *,
    labels: str | Path | None = None,
    classes: str | Sequence[str] | None = None,
    templates: str = "openai-80",
    ignore: int = 255,
    scenes: int = SCENES,
) -> FigureInputs:
    """What figures are drawn from: images (files, folders, globs) with a folder of label maps and the classes' words.

    `classes` number the labels. Without images, drawn scenes with labels; their words come along if the backbone has
    a text tower.
    """
    if images is None:
        from segment.datasets.shapes import NAMES

        inputs = scenes_of(scenes, backbone)
        classes = classes or (NAMES if takes_words(backbone) else None)
    else:
        paths = [images] if isinstance(images, str | Path) else images
        folder = None if labels is None else Path(labels)
        inputs, left_out = images_of([str(path) for path in paths], backbone, folder, ignore)
        if left_out:
            lines = "".join(f"\n  {reason}" for reason in left_out.values())
            warnings.warn(f"left out ({len(left_out)}):{lines}", stacklevel=2)
    if classes is None:
        return inputs
    words = classes if isinstance(classes, str) else list(classes)
    return replace(inputs, text=text_features(backbone, words, templates, progress=False))


def paper_report(
    paper: str, backbone: str | Backbone, *, beside: str | Backbone | None = "auto", **more: Any
) -> PaperReport:
    """A paper figure by figure, with one backbone or two: `auto` is `pocket:planted` beside `pocket`, else none.

    The rest goes to `gather`, which is asked for the same images and words by each of the two.

    Parameters
    ----------
    paper : str
        `clearclip`, `cliptrase`, `sc-clip` or `sfp`.
    backbone : str or Backbone
        A spec, or a loaded model.
    beside : str, Backbone or None
        The backbone whose numbers stand beside.
    **more
        `images`, `labels`, `classes`, `templates`, `ignore`, `scenes`: what figures are drawn from.

    Returns
    -------
    PaperReport
        `draw("fig-4a")` gives the figure, `seen("fig-4a")` the table of claims against findings.

    Raises
    ------
    ValueError
        For images that can not be read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> sfp = ao.paper_report("sfp", "pocket", beside=None, scenes=2)
    >>> type(sfp.draw("supp-fig-1")).__name__
    'Figure'
    """
    first = load_backbone(backbone) if isinstance(backbone, str) else backbone
    if beside == "auto":
        beside = BESIDE.get(first.spec)
    second = load_backbone(beside) if isinstance(beside, str) else beside
    return PaperReport(
        paper=paper,
        inputs=gather(first, **more),
        beside=None if second is None else gather(second, **more),
    )


@dataclass(frozen=True, kw_only=True)
class PaperReport:
    """A paper (`clearclip`, `cliptrase`, `sc-clip`, `sfp`) on some images.

    `beside`: the same images with another backbone, whose numbers stand beside the first one's. `example`: the
    image for which figures about one image are drawn, counted on from the start if there are fewer.
    """

    paper: str
    inputs: FigureInputs = field(repr=False)
    beside: FigureInputs | None = field(default=None, repr=False)
    example: int = EXAMPLE

    @property
    def backbone(self) -> Backbone:
        """The first backbone."""
        return self.inputs.backbone

    @cached_property
    def both(self) -> FigureInputs:
        """The first backbone's, with the other one as second; made once, since scores are kept with it."""
        return self.inputs if self.beside is None else replace(self.inputs, second=self.beside.backbone)

    def draw(self, figure: str, *, start: int | None = None, beside: bool = False) -> Figure | str:
        """A figure of the paper, such as `fig-4a`; where something is lacking, a sentence that says what.

        `start`: the first image that is drawn, the example by default where the figure is about one, else the first
        one. `beside`: with the backbone that stands beside; figures that set two side by side do so anyway.
        """
        name = f"{self.paper}/{figure}"
        entry = paper_figure(name)
        view = self.beside if beside else self.both
        if view is None:
            return f"{name} is not drawn: no backbone stands beside."
        lacking = {"words": view.text is None, "labels": view.labels is None}
        missing = [need for need in entry.needs if lacking[need]]
        if missing:
            return f"{name} is not drawn: it needs {' and '.join(missing)}; see `gather`."
        if view.second is not None and "words" in entry.needs and not takes_words(view.second):
            view = self.inputs
        first = self.example if entry.each else 0 if not entry.continues else entry.most
        view = turned(view, start if start is not None else first)
        if not entry.pair:
            view = replace(view, second=None)
        if entry.each:  # the title is the image's name: the backbone stands there, since there may be two
            view = replace(view.only(0), names=(f"{view.names[0]}, {view.model}",))
        return entry.draw(view)

    def claims(self, figure: str) -> pd.DataFrame | str:
        """What the figure claims against what is seen over all images, as `claims_table` says, or why it is empty."""
        name = f"{self.paper}/{figure}"
        views = [self.both] if self.beside is None else [self.both, self.beside]
        table = claims_table(name, *views)
        return table if len(table) else f"{name} has no numbers here: it may need labels and words; see `gather`."


def turned(inputs: FigureInputs, first: int) -> FigureInputs:
    """The same images from number `first` on, those before it at the end."""
    first %= len(inputs.images)
    if not first:
        return inputs

    def turn(items: tuple) -> tuple:
        return items[first:] + items[:first]

    labels = None if inputs.labels is None else turn(inputs.labels)
    return replace(inputs, images=turn(inputs.images), names=turn(inputs.names), labels=labels)

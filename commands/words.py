"""Options that name classes, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diagnostics import Backbone

if TYPE_CHECKING:  # what only segmentation needs is not loaded for the other commands
    from segment.method import TextFeatures
    from segment.vocabulary import Vocabulary

Classes = Annotated[
    str | None, typer.Option("--classes", "-c", help="The classes, with commas between: 'cat, dog, grass'.")
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes-file", help="Class-name file: a line for each class, synonyms with commas or semicolons between."
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background", help="Words of a class for the rest: 'sky, wall, road'. It becomes class 0, called background."
    ),
]
Templates = Annotated[
    str,
    typer.Option(
        "--templates",
        help="Sentences that words are put into: openai-80, photo, plain, …; a file of sentences with {} in them. "
        "See `outliers list templates`.",
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option(
        "--rows",
        help="For classifiers without a text tower: JSON of word -> rows of the head. ImageNet names are known.",
    ),
]


def vocabulary_of(classes: str | None, classes_file: Path | None, background: str | None) -> Vocabulary:
    """The vocabulary that the options name; exactly one of `--classes` and `--classes-file` must be given."""
    from segment.vocabulary import Vocabulary

    if (classes is None) == (classes_file is None):
        raise ValueError("give either --classes 'cat, dog' or --classes-file FILE, to say what to look for.")
    found = Vocabulary.parse(classes) if classes is not None else Vocabulary.read(Path(str(classes_file)))
    return found if background is None else found.with_background(background)


def words_of(
    model: Backbone,
    classes: str | None,
    classes_file: Path | None,
    background: str | None,
    templates: str,
    rows: Path | None,
) -> TextFeatures:
    """The words that the options name, as unit vectors of the model."""
    from segment.text import text_features

    return text_features(model, vocabulary_of(classes, classes_file, background), templates, rows=rows)

"""Options that name classes, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from diagnostics import Backbone

if TYPE_CHECKING:  # what only segmentation needs is not loaded for the other commands
    from segment.method import TextFeatures
    from segment.text.vocabulary import Vocabulary

Classes = Annotated[
    str | None, typer.Option("--classes", "-c", help="The classes, with commas between: 'cat, dog, grass'.")
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        "--classes-file", help="Class-name file: a line for each class, synonyms with '; ', ', ' or ',' between."
    ),
]
Separator = Annotated[
    str,
    typer.Option(
        "--separator",
        help="What stands between the synonyms of a line of --classes-file, such as '; '. auto: the first of '; ', "
        "', ' and ',' that the file holds.",
    ),
]
BackgroundClass = Annotated[
    int | None,
    typer.Option(
        "--background-class",
        min=0,
        help="Number, from 0, of the class that stands for the rest, where it is among the classes: 0 for files whose "
        "first line holds background words.",
    ),
]
Repeats = Annotated[
    bool, typer.Option("--repeats", help="Let a word stand in several classes; of equal ones the first class wins.")
]
Combine = Annotated[
    Literal["mean", "each"],
    typer.Option(
        "--combine",
        help="For classifiers without a text tower: a class is the mean direction of its rows (mean), or each row is "
        "a query and the best one speaks (each).",
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


def vocabulary_of(
    classes: str | None,
    classes_file: Path | None,
    background: str | None,
    *,
    separator: str = "auto",
    background_class: int | None = None,
    repeats: bool = False,
) -> Vocabulary:
    """The vocabulary that the options name; exactly one of `--classes` and `--classes-file` must be given."""
    from segment.text.vocabulary import Vocabulary

    if (classes is None) == (classes_file is None):
        raise ValueError("give either --classes 'cat, dog' or --classes-file FILE, to say what to look for.")
    if background is not None and background_class is not None:
        raise ValueError(
            "give either --background 'sky, wall', which adds a class, or --background-class N, which names one "
            "that is there."
        )
    if classes is not None and separator != "auto":
        raise ValueError("`--separator` is for --classes-file; words of --classes have commas between. Leave it out.")
    found = Vocabulary.parse(
        classes_file or str(classes), separator=separator, background=background_class, repeats=repeats
    )
    return found if background is None else found.with_background(background)


def words_of(
    model: Backbone,
    classes: str | None,
    classes_file: Path | None,
    background: str | None,
    templates: str,
    rows: Path | None,
    *,
    separator: str = "auto",
    background_class: int | None = None,
    repeats: bool = False,
    combine: Literal["mean", "each"] = "mean",
) -> TextFeatures:
    """The words that the options name, as unit vectors of the model."""
    from segment.text.features import text_features

    vocabulary = vocabulary_of(
        classes, classes_file, background, separator=separator, background_class=background_class, repeats=repeats
    )
    return text_features(model, vocabulary, templates, rows=rows, combine=combine)

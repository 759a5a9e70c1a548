"""Options that name classes, and the words that come of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import check_inputs

if TYPE_CHECKING:
    from diagnostics import Backbone
    from segment.method import TextFeatures
    from segment.text.vocabulary import Vocabulary

Classes = Annotated[
    str | None, typer.Option("--classes", "-c", help="The classes, with commas between: 'cat, dog, grass'.")
]
ClassesFile = Annotated[
    Path | None,
    typer.Option("--classes-file", help="File with a line for each class; synonyms with '; ', ', ' or ',' between."),
]
Background = Annotated[
    str | None,
    typer.Option("--background", help="Words for the rest: 'sky, wall, road'. They become class 0, called background."),
]
Templates = Annotated[
    str,
    typer.Option(
        "--templates",
        autocompletion=complete.templates,
        help="Sentences around the words: openai-80, photo, plain, …, or a file of sentences with {} in them. "
        "See `outliers list templates`.",
    ),
]
ClassEmbeddings = Annotated[
    Path | None,
    typer.Option(
        "--class-embeddings",
        help="For models without a text tower: JSON of class -> numbers of the classifier's class embeddings, "
        '{"cat": [281, 282]}. Names of ImageNet classes are known without it.',
    ),
]


@dataclass(frozen=True, kw_only=True)
class ClassFile:
    """How a class-name file is read, and how several class embeddings stand for a class."""

    panel: ClassVar[str] = "Classes in files"

    classes_file: ClassesFile = None
    separator: Annotated[
        str,
        typer.Option(
            "--separator",
            help="What stands between the synonyms of a line of --classes-file, such as '; '. auto: the first of "
            "'; ', ', ' and ',' that occurs in the file.",
        ),
    ] = "auto"
    background_class: Annotated[
        int | None,
        typer.Option(
            "--background-class",
            min=0,
            help="Number, from 0, of the class that stands for the rest, if it is among the classes: 0 for files "
            "whose first line holds background words.",
        ),
    ] = None
    repeats: Annotated[
        bool,
        typer.Option("--repeats", help="Allow a word in several classes; of equal scores the first class wins."),
    ] = False
    combine: Annotated[
        Literal["mean", "each"],
        typer.Option(
            "--combine",
            help="For models without a text tower: a class is the mean of its class embeddings (mean), or its best "
            "one counts (each).",
        ),
    ] = "mean"


def check_names(classes: str | None, file: ClassFile, background: str | None = None) -> None:
    """ValueError for options of classes that do not go together, before a model is loaded."""
    if (classes is None) == (file.classes_file is None):
        raise ValueError("give either --classes 'cat, dog' or --classes-file FILE, to say what to look for.")
    if background is not None and file.background_class is not None:
        raise ValueError(
            "give either --background 'sky, wall', which adds a class, or --background-class N, which names one "
            "of the classes."
        )
    if classes is not None and file.separator != "auto":
        raise ValueError("`--separator` is for --classes-file; words of --classes have commas between. Leave it out.")
    check_inputs(classes_file=file.classes_file)


def vocabulary_of(classes: str | None, file: ClassFile, background: str | None = None) -> Vocabulary:
    """The vocabulary that the options name; exactly one of `--classes` and `--classes-file` must be given."""
    from segment.text.vocabulary import Vocabulary

    check_names(classes, file, background)
    vocabulary = Vocabulary.parse(
        file.classes_file or str(classes),
        separator=file.separator,
        background=file.background_class,
        repeats=file.repeats,
    )
    return vocabulary if background is None else vocabulary.with_background(background)


def words_of(
    model: Backbone,
    vocabulary: Vocabulary,
    templates: str,
    embeddings: Path | None,
    combine: Literal["mean", "each"],
    *,
    progress: bool,
) -> TextFeatures:
    """The words as unit vectors of the model."""
    from segment.text.features import text_features

    return text_features(model, vocabulary, templates, rows=embeddings, combine=combine, progress=progress)

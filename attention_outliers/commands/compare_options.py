"""Options of `outliers compare`: outliers that are known, and what is purified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import specs_of
from attention_outliers.commands.words import ClassEmbeddings

if TYPE_CHECKING:
    from diagnostics import Backbone

NOTHING = "none"
ARRANGEMENTS = {"scattered": False, "clustered": True}  # word -> whether planted outliers lie side by side


@dataclass(frozen=True, kw_only=True)
class Known:
    """Outliers that are known, to judge detectors by."""

    panel: ClassVar[str] = "Outliers that are known"

    plant: Annotated[
        str | None,
        typer.Option(
            "--plant",
            help="Outliers with known places, put in at the first of the layers: how many, scattered or side by side, "
            "such as k=1,4,10, 'k=1,4,10,29,35 clustered', or 'k=10,35 scattered clustered' for both.",
        ),
    ] = None
    truth_norm: Annotated[
        float | None,
        typer.Option("--truth-norm", help="Also judge against the patches whose norm is above this, such as 100."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Purify:
    """Whose outliers are purified, how, and what that does to the accuracy."""

    panel: ClassVar[str] = "Purification"

    purify: Annotated[
        str,
        typer.Option(
            "--purify",
            autocompletion=complete.detectors,
            help="Whose outliers are purified, by each of --purifiers: one detector or several, such as "
            "norm:threshold=100,lof-release; none leaves purifying out.",
        ),
    ] = "relative-norm"
    purifiers: Annotated[
        str,
        typer.Option(
            "--purifiers",
            autocompletion=complete.purifiers,
            help="How to purify; see `outliers list purifiers`.",
        ),
    ] = "neighbor-mean,neighbor-median,image-mean,zero,shuffle,keep"
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            "-c",
            help="Names of classes, 'cat, dog, horse', for the zero-shot accuracy before and after purifying; needs "
            "--truth. A model without a text tower takes the class embeddings with these names.",
        ),
    ] = None
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            help='Which of --classes each image shows: CSV of image,class or JSON {"a.jpg": "cat"}.',
        ),
    ] = None
    embeddings: ClassEmbeddings = None

    def detectors(self) -> list[str]:
        """Whose outliers are purified; ValueError for options that lack another."""
        specs = [] if self.purify.strip().lower() == NOTHING else specs_of(self.purify)
        if (self.classes is None) != (self.truth is None) or (self.embeddings is not None and self.classes is None):
            raise ValueError(
                "`--classes` and `--truth` go together, and `--class-embeddings` needs both: the names, and which of "
                "them each image shows."
            )
        if self.classes is not None and not specs:
            raise ValueError(
                "`--classes` ask what purifying does to the accuracy, but `--purify none` purifies nothing; name whose "
                "outliers to purify, such as --purify relative-norm."
            )
        return specs

    def accuracy(self, model: Backbone, images: Sequence[str]) -> dict[str, Any]:
        """`classes` and `truth` of a purification table: names for the text tower, or class embeddings by name."""
        if self.classes is None or self.truth is None:
            return {}
        from diagnostics import image_paths
        from diagnostics.images.image_classes import classes_of, read_classes
        from segment.text.class_head import rows_of
        from segment.text.vocabulary import Vocabulary

        names = list(Vocabulary.parse(self.classes).names)
        shown = classes_of(list(image_paths(images)), read_classes(self.truth), names)
        if not model.has_text:
            return {"classes": rows_of(names, len(model.class_head()), mapping=self.embeddings), "truth": shown}
        if self.embeddings is not None:
            raise ValueError(
                f"`--class-embeddings` choose among those of a classifier; `{model.spec}` has a text tower instead."
            )
        return {"classes": names, "truth": shown}


def with_loose_words(images: list[str], plant: str | None) -> tuple[list[str], str | None]:
    """Images and --plant; without quotes, `--plant k=4 clustered` leaves its second word among the images."""
    if plant is None:
        return images, None
    loose = [word for word in images if word in ARRANGEMENTS and not Path(word).exists()]
    return [image for image in images if image not in loose], " ".join([plant, *loose])


def planted_of(text: str | None) -> tuple[list[int], list[bool]]:
    """`k=1,4,10 clustered` -> ([1, 4, 10], [True]): how many, and whether clustered; nothing for None."""
    if text is None:
        return [], []
    words = text.replace(" ,", ",").replace(", ", ",").split()
    arrangements = [clustered for word, clustered in ARRANGEMENTS.items() if word in words]
    counts = [word.removeprefix("k=") for word in words if word not in ARRANGEMENTS]
    try:
        (joined,) = counts
        return [int(number) for number in joined.split(",")], arrangements or [False]
    except ValueError:
        raise ValueError(
            f"`--plant` should read k=1,4,10, 'k=1,4,10 clustered' or 'k=1,4,10 scattered clustered'; got `{text}`."
        ) from None

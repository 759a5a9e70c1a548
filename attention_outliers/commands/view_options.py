"""Options of `outliers view`: label maps on the page, of which methods, for which words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.words import (
    Background,
    ClassEmbeddings,
    Classes,
    ClassesFile,
    ClassFile,
    Templates,
    vocabulary_of,
    words_of,
)

if TYPE_CHECKING:
    from diagnostics import Backbone
    from segment.method import TextFeatures
    from segment.text.vocabulary import Vocabulary

METHODS = "clip,clearclip,sc-clip"


@dataclass(frozen=True, kw_only=True)
class LabelMaps:
    """Label maps on the page: of which methods, for which words."""

    panel: ClassVar[str] = "Label maps"

    classes: Classes = None
    classes_file: ClassesFile = None
    background: Background = None
    templates: Templates = "openai-80"
    embeddings: ClassEmbeddings = None
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-M",
            autocompletion=complete.methods,
            help=f"Methods whose label maps are shown. With --classes, {METHODS} by default.",
        ),
    ] = None
    windows: Annotated[
        str,
        typer.Option(
            "--windows",
            autocompletion=complete.windows,
            help="Windows of the label maps; see `outliers list windows`.",
        ),
    ] = "slide"

    def vocabulary(self, backbone: str) -> Vocabulary | None:
        """The words; those of the drawn scenes for `pocket`; None for a page without label maps."""
        classes = self.classes
        if classes is None and self.classes_file is None:
            if backbone == "pocket":
                from segment.datasets.shapes import NAMES

                classes = ", ".join(NAMES)
            elif self.method is None:
                return None
            else:
                raise ValueError(
                    f"`--method {self.method}` draws label maps, which need names: --classes 'cat, dog, grass'."
                )
        return vocabulary_of(classes, ClassFile(classes_file=self.classes_file), self.background)

    def words(self, backbone: Backbone, vocabulary: Vocabulary, *, progress: bool) -> TextFeatures:
        """The words as unit vectors of the backbone."""
        return words_of(backbone, vocabulary, self.templates, self.embeddings, "mean", progress=progress)

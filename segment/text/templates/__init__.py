"""Sentences that a word is put into before it is encoded, by name; the sentences are data, in templates.json."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from diagnostics.registry import Registry
from diagnostics.sources import NotInSource, entries_of

__all__ = ["TEMPLATES", "TemplateSet", "fill_templates", "load_templates"]

# Where the word goes.
GAP = "{}"


@dataclass(frozen=True)
class TemplateSet:
    """Sentences with `{}` where the word goes: written out, or by the name under which open_clip has them."""

    summary: str
    written: tuple[str, ...] = ()
    open_clip: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        if not self.open_clip:
            return self.written
        try:
            return _written_by_open_clip(self.open_clip)
        except NotInSource:  # another version may write them in another form
            import open_clip

            # Functions of the word; of the gap they make the sentence with the gap.
            return tuple(sentence(GAP) for sentence in getattr(open_clip, self.open_clip))


@cache
def _written_by_open_clip(name: str) -> tuple[str, ...]:
    """The sentences in open_clip's source file, functions such as `lambda word: f"a photo of a {word}."`; to import
    open_clip takes many times as long. NotInSource where they don't stand there so.
    """
    sentences = []
    for function in entries_of(f"open_clip.zero_shot_metadata:{name}"):
        body = function.body if isinstance(function, ast.Lambda) else None
        if not isinstance(body, ast.JoinedStr):
            raise NotInSource(f"the sentences {name} of open_clip are written in another form")
        pieces = [piece.value if isinstance(piece, ast.Constant) else GAP for piece in body.values]
        sentences.append("".join(map(str, pieces)))
    return tuple(sentences)


def _entries() -> dict[str, TemplateSet | str]:
    data: dict[str, dict[str, Any]] = json.loads(files(__name__).joinpath("templates.json").read_text("utf-8"))
    return {
        name: TemplateSet(entry["summary"], tuple(entry.get("sentences", ())), entry.get("open_clip", ""))
        for name, entry in data.items()
    }


TEMPLATES: Registry[TemplateSet] = Registry("set of templates", _entries, group="templates")


def load_templates(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The sentences that a name, a file, one sentence or a list of sentences stands for, with `{}` for the word.

    A file is a Path, or a text that ends in `.txt` (a line for each sentence; blank lines count for nothing) or `.json`
    (a list). Raises ValueError for an unknown name, an empty file and a sentence without `{}`.
    """
    place = ""
    if isinstance(source, str) and GAP in source:
        sentences: tuple[Any, ...] = (source,)
    elif isinstance(source, Path) or (isinstance(source, str) and source.strip().endswith((".txt", ".json"))):
        sentences, place = _read(Path(source).expanduser()), f" of `{source}`"
    elif isinstance(source, str):
        sentences = TEMPLATES[source].sentences
    else:
        sentences = tuple(source)
    if not sentences:
        raise ValueError(
            f"the templates{place} should have at least one sentence, such as 'a photo of a {GAP}.'; got none."
        )
    for sentence in sentences:
        if not isinstance(sentence, str) or GAP not in sentence:
            raise ValueError(
                f"a template{place} should be a sentence with {GAP} where the word goes; got {sentence!r}."
            )
    return sentences


def fill_templates(sentences: Sequence[str], word: str) -> list[str]:
    """The sentences with the word in their gaps; braces in the word mean nothing."""
    return [sentence.replace(GAP, word) for sentence in sentences]


def _read(path: Path) -> tuple[Any, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        sentences = json.loads(text) if path.suffix == ".json" else [line for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"templates `{path}` can't be read ({error}); they should be a .txt with a sentence in each line, or a "
            ".json with a list of sentences."
        ) from error
    if not isinstance(sentences, list):
        raise ValueError(f"templates `{path}` should be a JSON list of sentences; got {type(sentences).__name__}.")
    return tuple(sentences)

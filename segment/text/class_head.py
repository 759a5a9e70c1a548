"""The rows of a model's own classifier in place of a text tower: which rows a word stands for."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from segment.text.vocabulary import Vocabulary

# A word -> its rows: numbers of rows, WordNet numbers ("n02124075"), ranges of them ("n02121620-n02124484"), or words.
RowMap = Mapping[str, Sequence[int | str]]
Combine = Literal["mean", "each"]

MOST_NAMED = 8  # class embeddings in a message
NUMBER = re.compile(r"n\d{8}")
RANGE = re.compile(r"(n\d{8})-(n\d{8})")


class RowsError(ValueError):
    """Words and rows of a classifier that do not go together. The message says the way out in Python; `shell`, the
    message of the command line, says it there.
    """

    shell: str

    @classmethod
    def of(cls, problem: str, word: str, python: str, shell: str) -> RowsError:
        """The problem, and a way out of it for this word in Python or in a shell; both end in a colon."""
        error = cls(f"{problem} {python} rows={{'{word}': [row, …]}}, or the path of a JSON file of that form.")
        error.shell = (
            f'{problem} {shell} --class-embeddings FILE, a JSON file such as {{"{word}": [0, 1]}}. In `evaluate`, '
            "--set words=names leaves one word for a protocol's background."
        )
        return error


@dataclass(frozen=True)
class HeadNames:
    """What the rows of an ImageNet head are called: WordNet numbers, and the names of each, in lower case."""

    numbers: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]


@cache
def head_names(rows: int) -> HeadNames | None:
    """The names of a head by its number of rows, as timm has them: ImageNet-1k, 12k, 21k, 22k; None for others."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": rows})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    names = tuple(tuple(_plain(name) for name in text.split(", ")) for text in info.label_descriptions())
    return HeadNames(tuple(info.label_names()), names)


def rows_of(words: Iterable[str], rows: int, *, mapping: RowMap | str | Path | None = None) -> dict[str, list[int]]:
    """Word -> the rows of a head of `rows` rows that it stands for, in ascending order.

    Looked for in this order, without regard to case: `mapping` (or a JSON file of one); the words of
    imagenet_words.json, our choice, which name whole branches of animals and the classes of PASCAL VOC; rows that have
    the word as a name; rows with a name that ends in the word (`bottle`: beer bottle, wine bottle). The last three need
    a head of ImageNet. ValueError with the near names for a word that is nowhere.
    """
    mapped = {_plain(word): entries for word, entries in row_map(mapping).items()}
    return {word: _rows(word, rows, mapped) for word in words}


def class_rows(
    backbone: Backbone, vocabulary: Vocabulary, *, mapping: RowMap | str | Path | None = None, combine: Combine = "mean"
) -> tuple[Tensor, list[int]]:
    """Unit vectors (Q, E) of a vocabulary from the rows of the classifier, and the class of each; biases are left out.

    `mean`: a class is the direction of the mean of its unit rows, as a word is that of its sentences; `each`: every row
    is a query, and the best one speaks for its class, which favors classes of many rows. Both are our choice. A row
    that several classes name belongs to the one that names the fewest, so that beside `bird` a `flamingo` keeps its
    own. ValueError where a class is left with none.
    """
    head = backbone.class_head().detach().float()
    rows = rows_of(vocabulary.queries, len(head), mapping=mapping)
    claims = [sorted({row for word in words for row in rows[word]}) for words in vocabulary.classes]
    owned = [_owned(number, claims, vocabulary) for number in range(len(claims))]
    unit = F.normalize(head, dim=-1)
    if combine == "mean":
        return F.normalize(torch.stack([unit[rows].mean(dim=0) for rows in owned]), dim=-1), list(range(len(owned)))
    if combine == "each":
        return unit[[row for rows in owned for row in rows]], [
            number for number, rows in enumerate(owned) for _ in rows
        ]
    raise ValueError(f"`combine` should be mean or each; got `{combine}`.")


def _owned(number: int, claims: Sequence[Sequence[int]], vocabulary: Vocabulary) -> list[int]:
    """The rows of a class that no class with fewer rows names, too."""
    rows = list(claims[number])
    for other, others in enumerate(claims):
        shared = set(claims[number]) & set(others)
        if other == number or not shared:
            continue
        if len(others) == len(claims[number]):
            first, second = sorted((number, other))
            raise RowsError.of(
                f"classes {first} (`{vocabulary.names[first]}`) and {second} (`{vocabulary.names[second]}`) stand for "
                f"the same rows of the classifier, such as {min(shared)}.",
                vocabulary.names[first],
                "Make them one class, or give rows for each:",
                "Make them one class, or say the rows of each:",
            )
        if len(others) < len(claims[number]):
            rows = [row for row in rows if row not in shared]
    if not rows:
        raise RowsError.of(
            f"class {number} (`{vocabulary.names[number]}`) has no row of the classifier for itself: other classes "
            "name all of them, and fewer besides.",
            vocabulary.names[number],
            "Take one of them out, or give rows:",
            "Take one of them out, or say its rows:",
        )
    return rows


def _rows(word: str, count: int, mapped: RowMap) -> list[int]:
    plain, names = _plain(word), head_names(count)
    if plain in mapped:
        entries = mapped[plain]
        if isinstance(entries, str) or not isinstance(entries, Sequence) or not entries:
            raise ValueError(f"the rows of `{word}` should be a list with at least one entry; got {entries!r}.")
        return sorted({row for entry in entries for row in _entry_rows(entry, word, count, names)})
    if names is None:
        raise RowsError.of(
            f"the classifier has {count} rows, whose names are not known (those of ImageNet with 1000, 11221, 11821, "
            f"21841, 21842 and 21843 are).",
            word,
            f"Say which rows stand for `{word}`:",
            f"Say which rows stand for `{word}`:",
        )
    rows = _named_rows(plain, names) or _unknown(word, names)
    if len(rows) > 1 and plain not in _our_words() and any(plain in names.names[row] for row in rows):
        entries = ", ".join(f"{row} ({names.numbers[row]}: {', '.join(names.names[row])})" for row in rows[:MOST_NAMED])
        warnings.warn(
            f"`{word}` is the name of {len(rows)} class embeddings, which may show different things: {entries}. To "
            f"take some of them, name them: rows={{'{word}': [{rows[0]}]}}, or --class-embeddings FILE.",
            stacklevel=2,
        )
    return rows


def _named_rows(plain: str, names: HeadNames) -> list[int]:
    """Rows by our words, else by their names, else by the ends of their names; empty if there are none."""
    ours = sorted({row for entry in _our_words().get(plain, ()) for row in _wordnet_rows(entry, names)})
    if ours:
        return ours
    exact = [row for row, known in enumerate(names.names) if plain in known]
    return exact or [row for row, known in enumerate(names.names) if any(name.endswith(f" {plain}") for name in known)]


def _entry_rows(entry: Any, word: str, count: int, names: HeadNames | None) -> list[int]:
    """The rows that one entry of a mapping stands for."""
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < count:
        return [entry]
    rows: list[int] = []
    if isinstance(entry, str) and names is not None:
        by_number = NUMBER.fullmatch(entry) or RANGE.fullmatch(entry)
        rows = _wordnet_rows(entry, names) if by_number else _named_rows(_plain(entry), names)
    if not rows:
        raise ValueError(
            f"the rows of `{word}` should be numbers in 0…{count - 1}, or for a head of ImageNet also names or WordNet "
            f"numbers that it has (n02124075, n02121620-n02124484); got {entry!r}."
        )
    return rows


def _wordnet_rows(entry: str, names: HeadNames) -> list[int]:
    """Rows of a WordNet number or a range of numbers, both ends included."""
    ends = RANGE.fullmatch(entry)
    first, last = ends.groups() if ends else (entry, entry)
    return [row for row, number in enumerate(names.numbers) if first <= number <= last]


def _unknown(word: str, names: HeadNames) -> list[int]:
    known = sorted({name for synonyms in names.names for name in synonyms} | _our_words().keys())
    near = difflib.get_close_matches(_plain(word), known, n=5, cutoff=0.6)
    raise RowsError.of(
        f"no row of the classifier is called `{word}`." + (f" Near: {', '.join(near)}." if near else ""),
        word,
        "Use a name that it has, or give its rows:",
        "Use a name that it has, or say its rows:",
    )


def row_map(source: RowMap | str | Path | None) -> RowMap:
    """Word -> its rows, from a mapping or a JSON file of one; empty for None. ValueError for a file of another form."""
    if source is None or isinstance(source, Mapping):
        return source or {}
    path = Path(source).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"rows `{path}` can't be read ({error}); they should be JSON: {{'cat': [281, 282]}}."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"rows `{path}` should be a JSON object, word -> list of rows; got {type(content).__name__}.")
    return content


@cache
def _our_words() -> dict[str, tuple[str, ...]]:
    data = json.loads(files("segment.text").joinpath("imagenet_words.json").read_text("utf-8"))
    return {word: tuple(entry["rows"]) for entry in data["words"] for word in entry["words"]}


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", " ".join(word.replace("_", " ").split())).casefold()

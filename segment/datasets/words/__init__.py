"""The words by which released code asks for the classes of each data set; lists are data, one file a repository."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from diagnostics.registry import parse_spec, unknown_name
from segment.datasets.base import Dataset
from segment.text.vocabulary import Vocabulary

__all__ = ["WORD_LISTS", "load_words", "word_list_choices", "word_list_data_sets"]

# Name -> file. NACLIP's and SC-CLIP's lists are SCLIP's to the byte.
_FILES = {
    "sclip": "sclip",
    "naclip": "sclip",
    "sc-clip": "sclip",
    "sfp": "sfp",
    "clearclip": "clearclip",
    "proxyclip": "proxyclip",
    "cliptrase": "cliptrase",
}
# One query a class, the name that the data set itself gives it.
NAMES = "names"
WORD_LISTS = (*_FILES, NAMES)
# Data sets with the classes of another.
_SAME_CLASSES = {"coco-stuff-10k": "coco-stuff"}


@cache
def _file(name: str) -> dict[str, Any]:
    if name not in _FILES:
        raise unknown_name("list of words", name, WORD_LISTS)
    return dict(json.loads(files(__name__).joinpath(f"{_FILES[name]}.json").read_text("utf-8")))


def load_words(words: str, data: str, dataset: Dataset | None = None) -> Vocabulary:
    """The queries that the repository `words` uses for the data set `data` (a name, or a spec).

    Words are kept as released, blanks at their ends and all. `dataset`, if given, must have as many classes and its
    background in the same place. It is needed for the list `names` and for lists that take the names beside the data
    (context459, ade847). ValueError for a list or a data set that is not there.
    """
    name = parse_spec(data)[0]
    name = _SAME_CLASSES.get(name, name)
    if words == NAMES or name in _file(words).get("from_names", ()):
        if dataset is None:
            raise ValueError(
                f"the words `{words}` for `{data}` are the data set's own names: give the data set itself."
            )
        return Vocabulary(tuple((name,) for name in dataset.names), dataset.background)
    content = _file(words)
    owner = content.get("same", {}).get(name)
    lists = (_file(owner) if owner else content)["lists"]
    if name not in lists:
        known = ", ".join(word_list_data_sets(words))
        raise ValueError(
            f"the words `{words}` have no list for `{data}`, only for {known}. Take `names`, one query a class, or a "
            "class-name file of your own."
        )
    vocabulary = Vocabulary(tuple(map(tuple, lists[name]["classes"])), lists[name]["background"])
    if dataset is not None and (len(vocabulary), vocabulary.background) != (len(dataset.names), dataset.background):
        words_have, data_has = (
            f"{count} classes and {'no background' if place is None else f'the background as class {place}'}"
            for count, place in ((len(vocabulary), vocabulary.background), (len(dataset.names), dataset.background))
        )
        raise ValueError(
            f"the words `{words}` for `{data}` have {words_have}; the data set has {data_has}. CLIPtrase's words "
            f"belong to {name}:convention=cliptrase, all others to the usual convention."
        )
    return vocabulary


def word_list_data_sets(words: str) -> tuple[str, ...]:
    """The data sets for which a list has words, or takes the names beside the data."""
    content = _file(words)
    return tuple(dict.fromkeys([*content["lists"], *content.get("same", ()), *content.get("from_names", ())]))


def word_list_choices(words: str) -> tuple[str, ...]:
    """What in a list is our choice, where the source says only the rule or the number of words."""
    return tuple(_file(words)["choices"])

"""Which words a protocol asks a data set with: a released list, the data set's own names, or a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segment.datasets.base import Dataset
from segment.datasets.words import load_words
from segment.text.vocabulary import Vocabulary

OURS = "ours"
# Data whose names are the user's: words that are one text to a text tower are refused; released lists are as they are.
OWN = "folder"
# Words for «none of the others» in the protocol `ours`. Source: the list that SCLIP, NACLIP, SC-CLIP, SFP and ProxyCLIP
# have for VOC21; that it stands for every background is our choice.
BACKGROUND_OF = ("sclip", "voc21")


def vocabulary_for(words: str, name: str, dataset: Dataset) -> Vocabulary:
    """The vocabulary that `words` stands for on data set `name`, a class for each of its labels, in their order.

    A name of segment.datasets.words: that list, or the data set's own `names`. `ours`: the names, written as people do
    (blanks for - and _), and for the background one list of words on every data set. A file that ends in `.txt` or
    `.json`: see Vocabulary.read. ValueError where the number of classes is not the data set's.
    """
    if words == OURS:
        return replace(_ours(dataset), distinct=name == OWN)
    if not words.endswith((".txt", ".json")):
        return replace(load_words(words, name, dataset), distinct=name == OWN)
    vocabulary = Vocabulary.read(Path(words), background=dataset.background, repeats=True)
    if len(vocabulary) != len(dataset.names):
        raise ValueError(
            f"`{words}` has {len(vocabulary)} classes, and data set `{name}` has {len(dataset.names)}: "
            f"{', '.join(dataset.names[:6])}, … Give one line for each label, in their order."
        )
    return vocabulary


def _ours(dataset: Dataset) -> Vocabulary:
    classes: list[tuple[str, ...]] = [(_as_written(name),) for name in dataset.names]
    if dataset.background is not None:
        rest = load_words(*BACKGROUND_OF).classes[0]
        # A word that is a class of its own is no word for the rest.
        taken = {word for words in classes for word in words}
        classes[dataset.background] = tuple(word for word in rest if word not in taken)
    return Vocabulary(tuple(classes), dataset.background)


def _as_written(name: str) -> str:
    return " ".join(name.replace("-", " ").replace("_", " ").split())

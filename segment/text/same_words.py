"""Words that are one text to a text tower, and texts that it cuts: looked for among the tokens, before anything is
encoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from diagnostics.backbones.base import Backbone
from segment.text.templates import fill_templates
from segment.text.vocabulary import Vocabulary

MOST_NAMED, LONGEST_NAMED = 5, 60  # words in a message, and letters of each


def check_distinct(backbone: Backbone, vocabulary: Vocabulary, sentences: Sequence[str]) -> None:
    """Refuses words of two classes that have the same tokens in all sentences; a warning names words that are cut.

    CLIP's tokenizer drops case, blanks at the ends and the width of signs, resolves HTML's names of signs, and cuts
    what is longer than its context. The background may share words with a class. ValueError names both words and what
    to do; a backbone that does not show its tokens is not checked.
    """
    shortest, longest = min(sentences, key=len), max(sentences, key=len)
    queries = vocabulary.queries
    tokens = backbone.text_tokens([_filled(shortest, word) for word in queries])
    if tokens is None:
        return
    _warn_of_cuts(backbone, queries, longest)
    owner: dict[tuple[int, ...], tuple[str, int]] = {}
    for word, number, row in zip(queries, vocabulary.owners, map(tuple, tokens), strict=True):
        if number == vocabulary.background:
            continue
        other, theirs = owner.setdefault(row, (word, number))
        if theirs != number and _all_alike(backbone, word, other, sentences):
            raise ValueError(
                f"`{_short(other)}` (class {theirs}) and `{_short(word)}` (class {number}) are one text to the text "
                f"tower of `{backbone.spec}`, so that only the first could ever win. Write one of them in another "
                "way, take it out, or say that words may repeat: repeats=True (--repeats)."
            )


def _short(word: str) -> str:
    return word if len(word) <= LONGEST_NAMED else f"{word[:LONGEST_NAMED]}…"


def _filled(sentence: str, word: str) -> str:
    return fill_templates([sentence], word)[0]


def _all_alike(backbone: Backbone, word: str, other: str, sentences: Sequence[str]) -> bool:
    both = [backbone.text_tokens(fill_templates(sentences, name)) for name in (word, other)]
    return both[0] == both[1]


def _warn_of_cuts(backbone: Backbone, queries: Sequence[str], sentence: str) -> None:
    are_cut = backbone.cut_texts([_filled(sentence, word) for word in queries])
    cut = [word for word, is_cut in zip(queries, are_cut, strict=True) if is_cut]
    if cut:
        names = ", ".join(f"`{_short(word)}`" for word in cut[:MOST_NAMED])
        more = f" and {len(cut) - MOST_NAMED} more" if len(cut) > MOST_NAMED else ""
        warnings.warn(
            f"{len(cut)} of {len(queries)} words are longer than the text tower of `{backbone.spec}` reads, and are "
            f"cut at its context: {names}{more}. Write them shorter.",
            stacklevel=4,
        )

"""The tokenizer of `pocket`: CLIP's own, with only the rows of the vocabulary that the captions need."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from diagnostics.backbones.clip_words import tokenizer as clip_tokenizer

CONTEXT = 32  # our choice: the longest caption of `shapes` in the longest prompt has 28 tokens
# Words of the captions of `shapes`, of usual prompts, and of OpenAI's 80 prompts for ImageNet. Another word becomes the
# token for unknown words.
LEXICON = """
zebra ladybird chessboard tiger leaf melon cheese strawberry giraffe tartan sky grass sand brick water wood
a an and , . - over on of the with in there is are this that some things background object picture scene image
bad photo many sculpture hard to see low resolution rendering graffiti cropped tattoo embroidered bright clean dirty
dark drawing my plastic cool close up black white painting pixelated jpeg corrupted blurry good video game one doodle
origami sketch toy rendition large nice weird cartoon art itap plushie small
"""
PADDING, UNKNOWN = 0, 1


class PocketTokenizer:
    """Texts to rows of the text tower's table, as CLIP's tokenizer cuts them.

    Rows are 0 for padding, 1 for unknown words, then the pieces of LEXICON in the order of their numbers in the full
    vocabulary, then start and end. The end is the greatest, since open_clip's text tower reads the feature there. A
    piece without a row becomes the unknown token, which the model has seen in training as a word that says nothing;
    a UserWarning names the words.
    """

    def __init__(self, context_length: int = CONTEXT) -> None:
        self.context_length = context_length
        self.stock = clip_tokenizer()
        kept = sorted(set(self.stock.encode(LEXICON)))
        self.rows = {piece: row for row, piece in enumerate(kept, start=UNKNOWN + 1)}
        self.start, self.end = len(kept) + 2, len(kept) + 3
        self.vocab_size = len(kept) + 4

    def encode(self, text: str) -> list[int]:
        """Rows of one text without start and end."""
        return [self.rows.get(piece, UNKNOWN) for piece in self.stock.encode(text)]

    def pieces(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """The same in CLIP's own numbers, where unknown words stay apart: a warning names those when they are read."""
        return self.stock(texts, context_length or self.context_length)

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """C texts -> (C, context_length) integers; longer texts are cut, as in open_clip."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        rows = torch.full((len(texts), length), PADDING)
        for number, text in enumerate(texts):
            tokens = [self.start, *self.encode(text)[: length - 2], self.end]
            rows[number, : len(tokens)] = torch.tensor(tokens)
        unknown = [text for text, row in zip(texts, rows, strict=True) if UNKNOWN in row]
        if unknown:
            warnings.warn(
                f"`pocket` does not know every word of {len(unknown)} texts, such as {unknown[0]!r}; it was trained on "
                "drawn scenes and knows the classes of segment.datasets.shapes alone.",
                UserWarning,
                stacklevel=2,
            )
        return rows


@cache
def tokenizer() -> PocketTokenizer:
    """The one tokenizer of all `pocket` models; reading CLIP's word list takes a moment."""
    return PocketTokenizer()

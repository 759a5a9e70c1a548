"""CLIP's words as numbers: byte pairs, merged by the list that open_clip's package holds; open_clip isn't imported.

Source: the vocabulary and the rules of OpenAI's CLIP, as open_clip's `SimpleTokenizer` has them.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
# 49,152 entries less 256 bytes, with and without the mark of a word's end, as OpenAI counted them.
MERGES = 49152 - 256 - 2
LENGTH = 77
END = "</w>"
SPECIAL = ("<start_of_text>", "<end_of_text>")
WORDS = regex.compile(
    "|".join(SPECIAL) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def merges_file() -> Path:
    """Where open_clip's package keeps the list of merges."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ValueError("CLIP's words are read from the package open_clip_torch, which is missing: install it.")
    return Path(spec.origin).parent / MERGES_FILE


def byte_signs() -> dict[int, str]:
    """A printable sign for every byte: itself where Latin-1 prints it, and one above 255 for the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


class ClipTokenizer:
    """Texts to numbers, as open_clip's SimpleTokenizer gives them; the end is the greatest number."""

    def __init__(self, context_length: int = LENGTH) -> None:
        self.context_length = context_length
        lines = gzip.decompress(merges_file().read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
        merges = [(left, right) for left, right in (line.split() for line in lines)]
        self.signs = byte_signs()
        bare = list(self.signs.values())
        entries = [*bare, *(sign + END for sign in bare), *("".join(pair) for pair in merges), *SPECIAL]
        self.numbers = {entry: number for number, entry in enumerate(entries)}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.vocab_size = len(entries)
        self.start, self.end = (self.numbers[sign] for sign in SPECIAL)
        self._known: dict[str, tuple[int, ...]] = {sign: (self.numbers[sign],) for sign in SPECIAL}

    def encode(self, text: str) -> list[int]:
        """Numbers of one text, without start and end."""
        return [number for word in WORDS.findall(cleaned(text)) for number in self._numbers_of(word)]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """C texts -> (C, context_length) integers, 0 behind the end; longer texts are cut."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        rows = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            numbers = [self.start, *self.encode(text)[: length - 2], self.end]
            row[: len(numbers)] = torch.tensor(numbers)
        return rows

    def _numbers_of(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            signs = [self.signs[byte] for byte in word.encode("utf-8")]
            signs[-1] += END
            self._known[word] = tuple(self.numbers[piece] for piece in self._merged(signs))
        return self._known[word]

    def _merged(self, pieces: list[str]) -> list[str]:
        """The pair that comes first in the list of merges is joined wherever it stands, until no pair is in it."""
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, MERGES))
            if best not in self.ranks:
                break
            pieces = list(_joined(pieces, best))
        return pieces


def _joined(pieces: list[str], pair: tuple[str, str]) -> Iterator[str]:
    place = 0
    while place < len(pieces):
        both = tuple(pieces[place : place + 2]) == pair
        yield "".join(pair) if both else pieces[place]
        place += 2 if both else 1


def cleaned(text: str) -> str:
    """Broken characters replaced, HTML's names of signs resolved twice, blanks made one, small letters."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@cache
def tokenizer() -> ClipTokenizer:
    """One tokenizer for all models of CLIP's own length."""
    return ClipTokenizer()

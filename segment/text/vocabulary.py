"""Which classes a segmentation knows, and the words that stand for each: from a text, a list or a class-name file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from segment.text.class_file import SUFFIXES, check_lines, check_words, json_classes

# Between the synonyms of one line, in the order in which they are looked for. Source: the files of ProxyCLIP; of
# SCLIP, NACLIP, SC-CLIP and SFP; of ClearCLIP. Names may hold commas where "; " stands between them.
SEPARATORS = ("; ", ", ", ",")
BACKGROUND = "background"


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of their numbers, each with its synonyms; a synonym is one query to the text tower.

    `background` is the number of the class that stands for the rest, or None. Queries are kept exactly as they came:
    with upper case, and with blanks at the end. `distinct`: words that are one text to a model's text tower are
    refused like equal ones (segment.text.same_words); `parse` and `read` set it, unless `repeats` allows equal words.
    """

    classes: tuple[tuple[str, ...], ...]
    background: int | None = None
    distinct: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("a vocabulary should have at least one class; got none. Name them: 'cat, dog, grass'.")
        for number, words in enumerate(self.classes):
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise TypeError(f"class {number} should be a tuple of words; got {words!r}. Use Vocabulary.parse.")
            if not words or not all(word.strip() for word in words):
                raise ValueError(f"class {number} should have words, none of them blank; got {words!r}.")
        if self.background is not None and not 0 <= self.background < len(self.classes):
            raise ValueError(
                f"`background` should be the number of a class, 0…{len(self.classes) - 1}, or None; "
                f"got {self.background}."
            )

    @classmethod
    def parse(
        cls,
        source: Vocabulary | str | Path | Sequence[str | Sequence[str]],
        *,
        separator: str = "auto",
        background: int | None = None,
        repeats: bool = False,
    ) -> Vocabulary:
        """A vocabulary from whatever names one; a Vocabulary comes back as it is.

        A text holds one word a class between commas, `cat, dog, grass`. A Path, or a text that ends like a file
        (`.txt`, `.json`, `.csv` …), is a class-name file (see `read`). A list holds for each class a word or the list
        of its synonyms. `repeats` lets the same word stand in several classes, or twice in one, as in some released
        files; ValueError otherwise, unless one of the classes is the background.
        """
        if isinstance(source, Vocabulary):
            return source
        if isinstance(source, Path) or (isinstance(source, str) and _is_file(source)):
            return cls.read(
                Path(source if isinstance(source, Path) else source.strip()),
                separator=separator,
                background=background,
                repeats=repeats,
            )
        classes: list[tuple[str, ...]]
        if isinstance(source, str):
            classes = [(word,) for word in split_words(source)]
        elif isinstance(source, Iterable):
            classes = [(item,) if isinstance(item, str) else _words(item, place) for place, item in enumerate(source)]
        else:
            raise TypeError(
                "a vocabulary should be a text ('cat, dog'), a list of words or of lists of synonyms, or the path of a "
                f"class-name file; got {type(source).__name__}."
            )
        return cls(tuple(classes), background, not repeats)._checked(between=repeats, within=repeats)

    @classmethod
    def read(
        cls, path: str | Path, *, separator: str = "auto", background: int | None = None, repeats: bool = False
    ) -> Self:
        """The vocabulary of a class-name file: a line for each class, its synonyms between separators.

        `auto` takes the first of `"; "`, `", "`, `","` that the file holds, for all of its lines; where a comma is part
        of a name, give the separator. Nothing is stripped but the ends of lines: a blank before one stays in the query,
        as in the released code. The file may end in a newline. A JSON file holds a list of names or of lists of
        synonyms, or an object of numbers and names. Raises ValueError for an empty file, a blank line, an empty synonym
        and a repeated word (`repeats` as in `parse`), with the line; and for numbered lines, tables, comments and other
        separators (segment.text.class_file).
        """
        path = Path(path).expanduser()
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"class-name file `{path}` can't be read ({error}); it should be text in UTF-8, a line for each class."
            ) from error
        if "\0" in text:
            raise ValueError(f"class-name file `{path}` holds zero bytes; it should be text, a line for each class.")
        if not text.strip():
            raise ValueError(f"class-name file `{path}` is empty; it should have a line for each class.")
        if (listed := json_classes(text, path)) is not None:
            vocabulary = cls(tuple(map(tuple, listed)), background, not repeats)
            return vocabulary._checked(between=repeats, within=repeats, where=str(path))
        lines = text.removesuffix("\n").split("\n")
        check_lines(lines, path, separator=separator)
        between = _separator(lines, separator, path)
        classes = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                raise ValueError(
                    f"line {number} of `{path}` is blank; every line is a class, so the numbers of all that follow "
                    "would shift. Take the line out."
                )
            words = tuple(line.split(between)) if between else (line,)
            if not all(word.strip() for word in words):
                raise ValueError(f"line {number} of `{path}` has an empty synonym: {line!r}. Take the separator out.")
            if separator == "auto" and between == ", " and any("," in word for word in words):
                raise ValueError(
                    f"line {number} of `{path}` holds a comma without a blank after it, though synonyms stand between "
                    f"', ' in this file: {line!r}. Say which it is: separator=', ' or separator=',' (--separator)."
                )
            classes.append(words)
        vocabulary = cls(tuple(classes), background, not repeats)
        return vocabulary._checked(between=repeats, within=repeats, where=str(path))

    def with_background(self, words: str | Sequence[str], *, place: Literal["first", "last"] = "first") -> Vocabulary:
        """The vocabulary with one more class for the rest, whose synonyms are `words` (`sky, wall`, or a list).

        `first`: class 0, and all others move up by one, as SCLIP and its followers have it. `last`: class C, as
        CLIPtrase has it, where every answer past the C classes is mapped back to C.
        """
        if self.background is not None:
            raise ValueError(
                f"the vocabulary has a background already, class {self.background} ({', '.join(self.queries[:3])} …); "
                "add one only to a vocabulary without."
            )
        rest = split_words(words) if isinstance(words, str) else _words(words, BACKGROUND)
        if place == "first":
            return replace(self, classes=(rest, *self.classes), background=0)._checked(between=True)
        if place == "last":
            return replace(self, classes=(*self.classes, rest), background=len(self.classes))._checked(between=True)
        raise ValueError(f"`place` should be first or last; got `{place}`.")

    def __len__(self) -> int:
        """C, the number of classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """What the C classes are called in legends: the first word, or «background»."""
        return tuple(
            BACKGROUND if number == self.background else words[0].strip() for number, words in enumerate(self.classes)
        )

    @property
    def queries(self) -> tuple[str, ...]:
        """All Q words, class by class."""
        return tuple(word for words in self.classes for word in words)

    @property
    def owners(self) -> tuple[int, ...]:
        """The class of each query: Q numbers in 0…C-1."""
        return tuple(number for number, words in enumerate(self.classes) for _ in words)

    def _checked(self, *, between: bool, within: bool = False, where: str = "the vocabulary") -> Self:
        """Itself, if no word stands in two classes besides the background, unless `between`, or twice in one, unless
        `within`.
        """
        for number, words in enumerate(self.classes):
            word, times = Counter(words).most_common(1)[0]
            if times > 1 and not within:
                raise ValueError(
                    f"`{word}` stands {times} times in class {number} of {where}; name it once, or repeats=True "
                    "(--repeats)."
                )
        places: dict[str, int] = {}
        for number, words in enumerate(self.classes):
            if between or number == self.background:
                continue
            for word in words:
                if word in places:
                    raise ValueError(
                        f"`{word}` stands in two classes of {where}, {places[word]} and {number}: only the first could "
                        "ever win. Take one out; or say which class is the background, background=0 "
                        "(--background-class 0); or repeats=True (--repeats)."
                    )
                places[word] = number
        return self


def split_words(text: str) -> tuple[str, ...]:
    """`sky, wall` -> ("sky", "wall"): words between commas, without blanks around them."""
    if "\n" in text.strip():
        raise ValueError(
            f"words should stand in one line, between commas; got {text!r}. A line for each class makes a class-name "
            "file: Vocabulary.read(path)."
        )
    check_words(text)
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise ValueError(f"words should stand between commas, none of them empty, as in 'cat, dog'; got {text!r}.")
    return words


def _is_file(text: str) -> bool:
    """Whether a text is the path of a class-name file: it ends like one, or names a file in a folder."""
    text = text.strip()
    return text.lower().endswith(SUFFIXES) or ("/" in text and "," not in text and Path(text).expanduser().is_file())


def _words(item: Any, place: object) -> tuple[str, ...]:
    if isinstance(item, Iterable):
        words = tuple(item)
        if all(isinstance(word, str) for word in words):
            return words
    raise TypeError(f"class {place} should be a word or a list of words; got {item!r}.")


def _separator(lines: Sequence[str], separator: str, path: Path) -> str | None:
    """What stands between the synonyms of a file; None where every line is one word."""
    if separator != "auto":
        if not separator:
            raise ValueError(f"`separator` of `{path}` should be a text such as ', ' or '; ', or auto; got ''.")
        return separator
    return next((mark for mark in SEPARATORS if any(mark in line for line in lines)), None)

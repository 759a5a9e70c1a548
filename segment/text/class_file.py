"""Class-name files of other shapes: JSON is read; numbers, heads of tables, comments and stray separators are refused.

Each of them would pass for a word that no image shows, or shift the numbers of all classes that follow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Suffixes by which a text is the path of a class-name file and no word.
SUFFIXES = (".txt", ".json", ".csv", ".tsv", ".names", ".yaml", ".yml", ".xml", ".xlsx")
# Words over the columns of a table, which are no classes.
HEADINGS = frozenset(
    {"category", "class", "classes", "class_name", "class name", "id", "idx", "index", "label", "labels", "name"}
    | {"names", "number", "number of class", "value"}
)
# What stands between synonyms or columns elsewhere, and is never part of a name. A `;` with a blank behind is ours.
STRAY = ("\t", "|", ";")
ENTITY = re.compile(r"&(#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+);")
# A number ahead of a name or behind it, and what parts it from the name.
_AHEAD = re.compile(r"\s*[\[(]?(?P<number>\d+)[\])]?\s*(?P<mark>[:=,;|\t]|(?<=[\])])|[.)-]|\s)\s*(?=\S)")
_BEHIND = re.compile(r"\S\s*(?P<mark>[:=,;|\t]|\s)\s*(?P<number>\d+)\s*$")
_CLEAR = tuple(":=,;|\t")


def json_classes(text: str, path: Path) -> list[list[str]] | None:
    """The classes of a JSON file, each with its synonyms; None for a text that is no JSON.

    A list of names or of lists of synonyms, or an object of one of them whose keys are the numbers 0…C-1, or whose
    values are. ValueError for JSON of another form.
    """
    if path.suffix.lower() != ".json" and not text.lstrip().startswith(("[", "{")):
        return None
    form = 'a list, ["cat", ["tv", "screen"]], or an object of numbers and names, {"0": "cat", "1": "dog"}'
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"class-name file `{path}` can't be read as JSON ({error}); it should hold {form}.") from error
    if isinstance(content, dict):
        content = _in_order(content)
    classes = [[item] if isinstance(item, str) else item for item in content] if isinstance(content, list) else []
    if not classes or not all(isinstance(words, list) and words and all(map(_is_word, words)) for words in classes):
        raise ValueError(f"class-name file `{path}` should hold {form}, no name empty, and the numbers from 0 on.")
    return classes


def _is_word(item: Any) -> bool:
    return isinstance(item, str) and bool(item.strip())


def _in_order(content: dict[str, Any]) -> list[Any] | None:
    """The names of an object by their numbers, which are its keys or its values; None for another form."""
    if all(key.strip().isdecimal() for key in content):
        numbered = {int(key): name for key, name in content.items()}
    elif all(isinstance(value, int) and not isinstance(value, bool) for value in content.values()):
        numbered = {value: key for key, value in content.items()}
    else:
        return None
    if len(numbered) < len(content) or sorted(numbered) != list(range(len(content))):
        return None
    return [numbered[number] for number in range(len(numbered))]


def check_lines(lines: Sequence[str], path: Path, *, separator: str) -> None:
    """ValueError for lines that hold more than names; `separator` is the setting, `auto` or what the user named."""
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith(("#", "//")):
            raise ValueError(
                f"line {number} of `{path}` looks like a comment, {line.strip()!r}; every line is a class. Take it out."
            )
    cells = [cell.strip().strip('"').casefold() for cell in re.split(r"[,;|\t]", lines[0])]
    if len(lines) > 1 and set(cells) <= HEADINGS:
        raise ValueError(
            f"line 1 of `{path}` looks like the head of a table, {lines[0].strip()!r}; every line is a class. Keep the "
            "column of names alone, without its head."
        )
    for pattern, where in ((_AHEAD, "ahead of"), (_BEHIND, "behind")):
        matches = [pattern.match(line) if pattern is _AHEAD else pattern.search(line) for line in lines]
        if _are_numbered([match for match in matches if match is not None], len(lines)):
            raise ValueError(
                f"every line of `{path}` has a number {where} its name, such as {lines[0].strip()!r}; a class's number "
                "is that of its line, from 0. Take the numbers out."
            )
    if separator == "auto":
        _check_stray(lines, path)


def _are_numbered(matches: Sequence[re.Match[str]], lines: int) -> bool:
    """Whether every line has a number: parted by a sign that names seldom hold, or else counting up from 0 or 1."""
    if len(matches) < lines:
        return False
    numbers = [int(match["number"]) for match in matches]
    counting = lines > 1 and numbers in (list(range(lines)), list(range(1, lines + 1)))
    return counting or all(match["mark"] in _CLEAR for match in matches)


def _check_stray(lines: Sequence[str], path: Path) -> None:
    for number, line in enumerate(lines, start=1):
        if entity := ENTITY.search(line):
            raise ValueError(
                f"line {number} of `{path}` holds {entity[0]!r}, a sign as HTML writes it: {line.strip()!r}. Write the "
                "sign itself."
            )
        rest = line.replace("; ", "")
        mark = next((mark for mark in STRAY if mark in rest), None)
        if mark is not None:
            raise ValueError(
                f"line {number} of `{path}` holds {mark!r}: {line.strip()!r}. If synonyms stand between them, say so: "
                f"separator={mark!r} (--separator). If they are columns of a table, keep the names alone."
            )


def check_words(text: str) -> None:
    """ValueError for words in one text between which stands something else than commas."""
    mark = next((mark for mark in ("; ", *STRAY) if mark in ENTITY.sub("", text)), None)
    if mark is not None:
        raise ValueError(
            f"words should stand between commas, as in 'cat, dog'; got {text!r} with {mark.strip() or 'tabs'!r}. Put "
            "commas there; for synonyms take a class-name file or a list of lists."
        )

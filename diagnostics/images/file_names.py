"""Names of files as people and systems write them: composed or decomposed letters, slashes or backslashes."""

from __future__ import annotations

import unicodedata


def spellings(name: str) -> tuple[str, ...]:
    """The name as it is, and where they differ with composed letters (NFC) and with decomposed ones (NFD).

    macOS decomposes letters with accents, others don't; a file that was copied may have either.
    """
    return tuple(dict.fromkeys([name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]))


def plain_name(name: str) -> str:
    """A name to compare by: composed letters, slashes between folders, without `./` ahead."""
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name

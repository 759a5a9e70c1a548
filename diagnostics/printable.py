"""Names of files as text that can be written anywhere."""

from __future__ import annotations

import re


def printable(name: str) -> str:
    """A name whose bytes are no UTF-8 with those bytes as %FF: `bad\\xff.png` -> "bad%FF.png"; any other as it is."""
    return re.sub("[\ud800-\udfff]", lambda match: f"%{ord(match[0]) & 0xFF:02X}", name)

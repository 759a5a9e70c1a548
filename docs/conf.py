"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import Any

project = "attention-outliers"
author = "attention-outliers maintainers"
copyright = f"2026, {author}"
version = release = version_of("attention-outliers")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
templates_path = ["_templates"]
exclude_patterns = ["_templates"]

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

autosummary_generate = True
autodoc_member_order = "bysource"
# A method that says nothing of its own is told once, where its interface is.
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "attention-outliers"
html_show_sphinx = False

CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"([\\*|_])")


def as_plain_text(_app: Any, _what: str, _name: str, _part: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks; here they become reStructuredText that says the same.

    What stands farther in than the text before it is shown as it is, line by line.
    """
    text: list[str] = []
    verbatim = False
    for line in lines:
        farther = line.startswith(" ")
        if farther and not verbatim:
            text += ["", "::", ""]
        if verbatim and line and not farther:
            text.append("")
        verbatim = farther or (verbatim and not line)
        if verbatim:
            text.append(f"   {line}" if line else "")
        else:
            pieces = CODE.split(line)
            text.append("".join(f"`{one}`" if at % 2 else MARKUP.sub(r"\\\1", one) for at, one in enumerate(pieces)))
    lines[:] = [*text, ""]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_plain_text)

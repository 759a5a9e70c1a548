"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from gallery import write_page  # noqa: E402
from reference_pages import write_reference  # noqa: E402

project = "attention-outliers"
author = "attention-outliers maintainers"
copyright = f"2026, {author}"
version = release = version_of("attention-outliers")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# What the gallery's page includes is no page by itself.
exclude_patterns = ["_build", "generated/gallery"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "dollarmath"]

autodoc_member_order = "bysource"
# A method that says nothing of its own is told once, where its interface is.
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
# Fields of named tuples are known by a bare type name, which two modules may have.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "attention-outliers"
html_show_sphinx = False

CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"([\\*|_])")


def as_plain_text(_app: Any, what: str, _name: str, _part: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks; here they become reStructuredText that says the same.

    What stands farther in than the text before it is shown as it is, line by line; so is an example of a module, from
    its first import on.
    """
    text: list[str] = []
    verbatim = example = False
    for line in lines:
        example = example or (what == "module" and line.startswith("import "))
        farther = example or line.startswith(" ")
        if farther and not verbatim:
            text += ["", "::", ""]
        if verbatim and line and not farther:
            text.append("")
        verbatim = farther or (verbatim and not line)
        if verbatim:
            text.append(f"   {line}" if line else "")
        else:
            pieces = CODE.split(line)
            text.append("".join(_code(one) if at % 2 else MARKUP.sub(r"\\\1", one) for at, one in enumerate(pieces)))
    lines[:] = [*text, ""]


def _code(quoted: str) -> str:
    """Code in backticks as a literal, which may not begin or end with a blank."""
    inner = quoted[1:-1]
    return f"``{inner.strip()}``" if inner.strip() else ""


def generate(_app: Any) -> None:
    """Writes the pages that are made from the code: the reference, and the gallery with what is drawn of it."""
    write_reference(HERE / "generated" / "reference")
    write_page(HERE / "generated" / "gallery")


def setup(app: Any) -> None:
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", as_plain_text)

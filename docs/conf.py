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
from method_pages import write_methods  # noqa: E402
from reference_pages import write_reference  # noqa: E402

project = "attention-outliers"
author = "attention-outliers maintainers"
copyright = f"2026, {author}"
version = release = version_of("attention-outliers")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source"]
# What a page includes is not a page by itself.
exclude_patterns = ["_build", "generated/gallery", "generated/methods/table.md"]

myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "dollarmath"]

autodoc_member_order = "bysource"
# A method without a docstring of its own is documented once, where its interface is.
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


SECTION = re.compile(r"-{4,}")


def as_plain_text(_app: Any, what: str, _name: str, _part: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks; here they become reStructuredText that says the same.

    Text that is indented is shown as it is, line by line; so is an example of a module, from its first import on. From
    the first section on (Parameters, Returns …) the layout is NumPy's, which napoleon reads.
    """
    start = next((at - 1 for at, line in enumerate(lines) if at and SECTION.fullmatch(line)), len(lines))
    lines[:] = [*_prose(lines[:start], what), "", *map(_in_section, lines[start:]), ""]


def _prose(lines: list[str], what: str) -> list[str]:
    """The text before any section."""
    text: list[str] = []
    verbatim = example = False
    for line in lines:
        example = example or (what == "module" and line.startswith("import "))
        indented = example or line.startswith(" ")
        if indented and not verbatim:
            text += ["", "::", ""]
        if verbatim and line and not indented:
            text.append("")
        verbatim = indented or (verbatim and not line)
        if verbatim:
            text.append(f"   {line}" if line else "")
        else:
            text.append(_marked(line))
    return text


def _in_section(line: str) -> str:
    """A line of a section: examples and heads of entries stay, explanations are marked up."""
    example = line.lstrip().startswith((">>>", "..."))
    return _marked(line) if line.startswith("    ") and not example else _literals(line)


def _marked(line: str) -> str:
    """Code in backticks as literals, and nothing else as markup."""
    pieces = CODE.split(line)
    return "".join(_code(piece) if at % 2 else MARKUP.sub(r"\\\1", piece) for at, piece in enumerate(pieces))


def _literals(line: str) -> str:
    """Code in backticks as literals in a line that is otherwise left alone."""
    if line.startswith((">>>", "...")):
        return line
    return "".join(_code(piece) if at % 2 else piece for at, piece in enumerate(CODE.split(line)))


def _code(quoted: str) -> str:
    """Code in backticks as a literal, which may not begin or end with a blank."""
    inner = quoted[1:-1]
    return f"``{inner.strip()}``" if inner.strip() else ""


def generate(_app: Any) -> None:
    """Writes the pages that are made from the code: reference, methods, and the gallery with what is drawn of it."""
    write_reference(HERE / "generated" / "reference")
    write_methods(HERE / "generated" / "methods")
    write_page(HERE / "generated" / "gallery")


def setup(app: Any) -> None:
    app.connect("builder-inited", generate)
    app.connect("autodoc-process-docstring", as_plain_text, priority=400)  # before napoleon, which has 500

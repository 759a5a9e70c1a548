"""The table of methods, and a page for each that has none of its own: from what the method itself declares.

conf.py calls it. A method with a field `page` has a page written by hand, `docs/methods/PAGE.md`; the page of any other
is made of its summary, paper, settings and departures, and of the docstring of its module.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segment.method import Method, Paper

WRITTEN = Path(__file__).resolve().parent / "methods"
# The pages that come first: what they have in common, and the methods in the order of the registry.
FIRST = ("last-block",)


def write_methods(folder: Path) -> dict[str, Path]:
    """Writes the table and the pages that are made, and takes out pages of methods that are gone.

    Returns the page of each method of the project, by its name.
    """
    from segment.methods import METHODS

    folder.mkdir(parents=True, exist_ok=True)
    methods = {name: METHODS[name] for name in METHODS.listed}
    pages = {name: page_path(name, method, folder) for name, method in methods.items()}
    texts = {pages[name]: page_of(name, method) for name, method in methods.items() if not method.page}
    texts[folder / "table.md"] = table_of(methods, pages, folder)
    for old in set(folder.glob("*.md")) - set(texts):
        old.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx reads changed pages only
            path.write_text(text, encoding="utf-8")
    return pages


def page_path(name: str, method: Method, folder: Path) -> Path:
    """Where the method's page is: among those written by hand, or in the folder of those that are made.

    ValueError for a page that the method names and nobody has written.
    """
    if not method.page:
        return folder / f"{name}.md"
    path = WRITTEN / f"{method.page}.md"
    if not path.is_file():
        raise ValueError(
            f"method `{name}` has page={method.page!r}, but there is no {path}. Write it, or leave `page` out: "
            "then one is made."
        )
    return path


def page_of(name: str, method: Method) -> str:
    """A page in Markdown of what the method declares."""
    module = sys.modules.get(_module_of(name))
    _, _, more = (inspect.getdoc(module) or "").partition("\n")
    parts = [
        f"# {method.paper.title}: `{name}`",
        f"{_source(method.paper)}.",
        f"{method.summary[:1].upper()}{method.summary[1:]}.",
        more.strip(),
        "## Settings",
        f"Any of these after the method's name: `{name}:setting=value`.",
        "\n".join(["| setting | default |", "| --- | --- |", *_settings(method)]),
    ]
    if method.departures:
        parts += ["## Where it leaves the paper or the release", "\n".join(f"- {line}" for line in method.departures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_of(methods: dict[str, Method], pages: dict[str, Path], folder: Path) -> str:
    """A row for each method, and the pages as a table of contents; links lead on from docs/methods/index.md."""
    links = {name: f"{path.stem}.md" if path.parent == WRITTEN else _made(path, folder) for name, path in pages.items()}
    rows = [
        f"| [`{name}`]({links[name]}) | {_cell(method.summary)} | {_cell(method.paper.venue)} |"
        for name, method in methods.items()
    ]
    contents = dict.fromkeys([*FIRST, *(link.removesuffix(".md") for link in links.values())])
    toctree = ["```{toctree}", ":maxdepth: 1", ":hidden:", "", *contents, "```"]
    return "\n".join(["| method | what it does | from |", "| --- | --- | --- |", *rows, "", *toctree]) + "\n"


def _made(path: Path, folder: Path) -> str:
    return f"../generated/{folder.name}/{path.name}"


def _module_of(name: str) -> str:
    """The module in which the registry has a method; "" for a value that was put there."""
    from segment.methods import METHODS

    return str(getattr(METHODS.listed.get(name), "target", "")).partition(":")[0]


def _source(paper: Paper) -> str:
    """Title, venue, number and release in one line."""
    arxiv = f", arXiv:{paper.arxiv}" if paper.arxiv else ""
    return f"«{paper.title}», {paper.venue}{arxiv}" + (f". Release: {paper.code}" if paper.code else "")


def _settings(method: Method) -> list[str]:
    """A row for each setting, with its default as a spec has it."""
    texts = {
        key: str(value).lower() if value is None or isinstance(value, bool) else str(value)
        for key, value in method.settings().items()
    }
    return [f"| `{key}` | `{_cell(text)}` |" for key, text in texts.items()]


def _cell(text: str) -> str:
    return text.replace("|", r"\|")

"""What README, documents and notebooks show needs one import of ours: `import attention_outliers as ao`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import attention_outliers as ao

ROOT = Path(__file__).resolve().parents[1]
OURS = {"attention_outliers", "diagnostics", "figures", "segment"}
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"generated", "_build"} & set(path.parts)),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def deep_imports(source: str) -> list[str]:
    """Imports of our packages other than `import attention_outliers as ao`."""
    imports = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OURS:
            imports.append(ast.unparse(node))
        elif isinstance(node, ast.Import):
            imports += [
                f"import {alias.name}"
                for alias in node.names
                if alias.name.partition(".")[0] in OURS and (alias.name, alias.asname) != ("attention_outliers", "ao")
            ]
    return imports


def public_names(source: str) -> set[str]:
    """Names that the source takes from `ao`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ao"
    }


def code_of(path: Path) -> Iterator[str]:
    """The Python of a page or a notebook, block by block; magics of notebooks are left out."""
    if path.suffix == ".ipynb":
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield re.sub(r"(?m)^%.*$", "", cell.source)
    else:
        yield from re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_imports_nothing_of_ours_but_the_public_face(path):
    for source in code_of(path):
        assert deep_imports(source) == []
        assert public_names(source) <= set(ao.__all__)


def test_text_names_no_deeper_module_as_what_to_call():
    """`diagnostics.probe(…)` in the text of a page would not work with the import that pages show."""
    call = re.compile(r"`(?:diagnostics|figures|segment)(?:\.\w+)+\(")
    for path in PAGES:
        assert call.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_the_reader_of_imports_sees_every_form():
    assert deep_imports("import attention_outliers as ao\nimport numpy") == []
    assert deep_imports("import attention_outliers") == ["import attention_outliers"]
    assert deep_imports("import diagnostics, torch") == ["import diagnostics"]
    assert deep_imports("from segment.x import y") == ["from segment.x import y"]
    assert deep_imports("def f():\n    from figures import z") == ["from figures import z"]
    assert public_names("ao.probe(ao.Shapes().names, x.view)") == {"probe", "Shapes"}

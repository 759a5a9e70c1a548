"""The arrows between the packages: segment -> diagnostics <- figures; commands use all; nothing points back."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attention_outliers as ao

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "diagnostics": {"diagnostics"},
    "figures": {"figures", "diagnostics"},
    "segment": {"segment", "diagnostics"},
    "attention_outliers": {"attention_outliers", "segment", "figures", "diagnostics"},
}


def imported_packages(source: str) -> set[str]:
    packages = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            packages.add(node.module.split(".")[0])
    return packages


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_along_the_arrows(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        ours = imported_packages(file.read_text(encoding="utf-8")) & ALLOWED.keys()
        assert ours <= ALLOWED[package], f"{file.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def test_the_reader_of_imports_sees_both_forms():
    assert imported_packages("import figures.style\nfrom segment.x import y") == {"figures", "segment"}


def test_relative_imports_are_not_used_so_that_the_arrows_can_be_read():
    for package in ALLOWED:
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level], file


def test_importing_diagnostics_loads_neither_a_model_zoo_nor_a_plotting_library():
    code = (
        "import sys, diagnostics\n"
        "heavy = {'open_clip', 'timm', 'matplotlib', 'seaborn', 'typer'} & set(sys.modules)\n"
        "print(sorted(heavy))\n"
        "sys.exit(len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_names_of_the_type_checker_are_those_of_the_program():
    """mypy reads the imports below TYPE_CHECKING; the program takes the table."""
    tree = ast.parse((ROOT / "attention_outliers" / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    imported = {
        (alias.asname or alias.name): (node.module, alias.name)
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == ao._HOMES

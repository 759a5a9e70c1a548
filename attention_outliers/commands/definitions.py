"""What lists show of a part's definition beyond its one line, read from its source file: no torch is imported."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diagnostics.registry import BrokenPart


@cache
def _definitions(module: str) -> dict[str, ast.AST]:
    """Classes and functions at the top of a module's file, by name."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):  # a package that is not there, named by somebody's entry point
        return {}
    if spec is None or not spec.origin:
        return {}
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def _definition(registry: Any, name: str) -> ast.AST | None:
    """The definition of a listed part, if it is written at the place that the registry names."""
    entry = {**registry.outside, **registry.listed}.get(name)
    module, _, defined = str(getattr(entry, "target", "")).partition(":")
    return _definitions(module).get(defined) if module else None


def variables_of(measures: Any, name: str) -> dict[str, str]:
    """The variables that a measure can yield, with their units: first and third argument of `Variable(…)` in its
    class; a unit that is not written there is empty, and so is all of a part that can't be loaded."""
    node = _definition(measures, name)
    if node is None:
        try:
            return {variable.name: variable.units for variable in measures.build(name).variables}
        except BrokenPart:
            return {}
    variables: dict[str, str] = {}
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Variable":
            first, _, third, *_ = [*map(_constant, call.args), "", "", ""]
            if first:
                variables[first] = third
    return variables


def _constant(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def takes_root(datasets: Any, name: str) -> bool:
    """Whether a data set lies on disk: its function has a parameter `root`."""
    node = _definition(datasets, name)
    if isinstance(node, ast.FunctionDef):
        return "root" in [argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]]
    if node is not None:  # a class without a root is drawn
        return any(isinstance(part, ast.arg) and part.arg == "root" for part in ast.walk(node))
    from segment.datasets import needs_root

    return needs_root(name)

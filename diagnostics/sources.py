"""What a part's source file says about it, read without importing it: a list of names must not wait for torch."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from inspect import cleandoc
from pathlib import Path
from typing import Any

# How many imports and base classes are followed from file to file.
STEPS = 12


class NotInSource(LookupError):
    """The source file is missing, or the name is not written in it in a form that can be read."""


@dataclass(frozen=True)
class _Import:
    """A name that a file takes from another one; `name` is empty for the module itself."""

    module: str
    name: str


def facts_of(target: str) -> dict[str, Any]:
    """The constants of what `module:name` stands for, and its docstring's first line as `doc`.

    Of a class: its class attributes, those of its bases included. Of a value such as `METHOD = Method(summary="…")`:
    the keyword arguments; a keyword that is itself such a value is a dictionary. `module:TABLE[key]` is an entry of a
    dictionary that is written out. What is no constant is left out. NotInSource where there is nothing to read.
    """
    module, _, name = target.partition(":")
    name, _, key = name.removesuffix("]").partition("[")
    module, node = _resolved(module, name.split(".")[0])
    for inner in name.split(".")[1:]:
        module, node = _member(module, node, inner)
    if key:
        module, node = _entry(module, node, key)
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return _facts_of_definition(module, node, STEPS)
    value = _value(module, node, STEPS)
    return value if isinstance(value, dict) else {}


def keys_of(target: str) -> tuple[str, ...]:
    """The keys of a dictionary that stands written out in a source file: `module:TABLE` -> its texts, in order."""
    module, _, name = target.partition(":")
    module, node = _resolved(module, name)
    if not isinstance(node, ast.Dict):
        raise NotInSource(f"`{name}` of {module} should be a dictionary that is written out.")
    keys = [_value(module, key, STEPS) for key in node.keys if key is not None]
    return tuple(key for key in keys if isinstance(key, str))


def entries_of(target: str) -> tuple[ast.expr, ...]:
    """What stands in a tuple or list that a source file writes out, unread: `module:NAMES`."""
    module, _, name = target.partition(":")
    _, node = _resolved(module, name)
    if not isinstance(node, (ast.Tuple, ast.List)):
        raise NotInSource(f"`{name}` of {module} should be a tuple that is written out.")
    return tuple(node.elts)


def source_file(module: str) -> Path:
    """Where a module's source lies; neither it nor a package around it is imported."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded:
        return Path(loaded)
    top, *rest = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module put into sys.modules by hand has no spec
        spec = None
    path = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            break
        path = f"{path}.{part}"
        spec = PathFinder.find_spec(path, list(spec.submodule_search_locations))
    if spec is None or spec.origin is None or path != module or not spec.origin.endswith(".py"):
        raise NotInSource(f"there is no source file of module `{module}`")
    return Path(spec.origin)


@cache
def _names(module: str) -> dict[str, ast.AST | _Import]:
    """The names that a module's file defines at its top level, with what stands there."""
    path = source_file(module)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise NotInSource(f"`{path}` can't be read: {error}") from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: dict[str, ast.AST | _Import] = {}
    for node in _statements(tree.body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names[node.name] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.target.id] = node.value
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= _imports(node, package)
    return names


def _imports(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, _Import]:
    if isinstance(node, ast.Import):
        return {alias.asname: _Import(alias.name, "") for alias in node.names if alias.asname}
    base = package.rsplit(".", node.level - 1)[0] if node.level else ""
    source = ".".join(piece for piece in (base, node.module or "") if piece)
    return {alias.asname or alias.name: _Import(source, alias.name) for alias in node.names}


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements at the top level, those within `if` and `try` included."""
    statements: list[ast.stmt] = []
    for node in body:
        statements.append(node)
        for field in ("body", "orelse", "finalbody") if isinstance(node, (ast.If, ast.Try)) else ():
            statements += _statements(getattr(node, field, []))
    return statements


def _resolved(module: str, name: str, steps: int = STEPS) -> tuple[str, ast.AST]:
    """Where a name is defined, after all imports, and what stands there."""
    node = _names(module).get(name)
    if isinstance(node, _Import):
        if not steps:
            raise NotInSource(f"`{name}` of {module} is imported over too many files")
        if node.name:
            try:
                return _resolved(node.module, node.name, steps - 1)
            except NotInSource:
                source_file(f"{node.module}.{node.name}")  # a module of that package
        raise NotInSource(f"`{name}` of {module} is a module")
    if node is None:
        raise NotInSource(f"`{source_file(module)}` defines no `{name}`")
    return module, node


def _member(module: str, node: ast.AST, name: str) -> tuple[str, ast.AST]:
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef)) and inner.name == name:
                return module, inner
    raise NotInSource(f"`{name}` is not written in {module}")


def _entry(module: str, node: ast.AST, key: str) -> tuple[str, ast.AST]:
    if isinstance(node, ast.Dict):
        for name, value in zip(node.keys, node.values, strict=True):
            if name is not None and _value(module, name, STEPS) == key:
                return module, value
    raise NotInSource(f"there is no entry `{key}` written in {module}")


def _facts_of_definition(module: str, node: ast.ClassDef | ast.FunctionDef, steps: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for base in reversed(node.bases if isinstance(node, ast.ClassDef) else ()):
        if isinstance(base, ast.Name) and steps:
            try:
                place, definition = _resolved(module, base.id)
            except NotInSource:
                continue
            if isinstance(definition, ast.ClassDef):
                facts |= _facts_of_definition(place, definition, steps - 1)
    for inner in node.body if isinstance(node, ast.ClassDef) else ():
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(inner, ast.Assign):
            pairs = [(target, inner.value) for target in inner.targets]
        elif isinstance(inner, ast.AnnAssign):
            pairs = [(inner.target, inner.value)]
        for place_of, value in pairs:
            if isinstance(place_of, ast.Name) and value is not None:
                facts[place_of.id] = _value(module, value, steps)
    if doc := ast.get_docstring(node):
        facts["doc"] = first_line(doc)
    return {name: value for name, value in facts.items() if value is not _UNREADABLE}


_UNREADABLE = object()


def _value(module: str, node: ast.AST, steps: int) -> Any:
    """The value of an expression of constants; a call with keywords becomes their dictionary."""
    for kind, read in _READERS.items():
        if isinstance(node, kind):
            return read(module, node, steps)
    return _UNREADABLE


def _name(module: str, node: ast.Name, steps: int) -> Any:
    if not steps:
        return _UNREADABLE
    try:
        place, definition = _resolved(module, node.id)
    except NotInSource:
        return _UNREADABLE
    return _value(place, definition, steps - 1)


def _negative(module: str, node: ast.UnaryOp, steps: int) -> Any:
    number = _value(module, node.operand, steps) if isinstance(node.op, ast.USub) else _UNREADABLE
    return -number if isinstance(number, (int, float)) else _UNREADABLE


def _sequence(module: str, node: ast.Tuple | ast.List, steps: int) -> Any:
    values = [_value(module, item, steps) for item in node.elts]
    return _UNREADABLE if any(value is _UNREADABLE for value in values) else tuple(values)


def _sum(module: str, node: ast.BinOp, steps: int) -> Any:
    left, right = (_value(module, side, steps) for side in (node.left, node.right))
    texts = isinstance(node.op, ast.Add) and isinstance(left, str) and isinstance(right, str)
    return left + right if texts else _UNREADABLE


def _formatted(module: str, node: ast.JoinedStr, steps: int) -> Any:
    parts = [piece.value if isinstance(piece, ast.FormattedValue) else piece for piece in node.values]
    pieces = [_value(module, part, steps) for part in parts]
    return "".join(pieces) if all(isinstance(piece, str) for piece in pieces) else _UNREADABLE


def _keywords(module: str, node: ast.Call, steps: int) -> Any:
    values = {word.arg: _value(module, word.value, steps) for word in node.keywords if word.arg}
    return {name: value for name, value in values.items() if value is not _UNREADABLE} if values else _UNREADABLE


_READERS: dict[Any, Callable[[str, Any, int], Any]] = {
    ast.Constant: lambda module, node, steps: node.value,
    ast.Name: _name,
    ast.UnaryOp: _negative,
    (ast.Tuple, ast.List): _sequence,
    ast.BinOp: _sum,
    ast.JoinedStr: _formatted,
    ast.Call: _keywords,
}


def first_line(doc: str | None) -> str:
    """The first line of a docstring."""
    return cleandoc(doc or "").partition("\n")[0]

"""The pages of the reference: the public names, and a page for each package with all that its modules hold."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

PACKAGES = ("diagnostics", "figures", "segment")
# The public names, with the functions that are defined beside them.
PUBLIC, BESIDE = "attention_outliers", "attention_outliers.api"


def write_reference(folder: Path) -> list[Path]:
    """Writes a page for each package into the folder, and takes out pages of packages that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / f"{name}.rst": page_of(name) for root in PACKAGES for name in packages_below(root)}
    pages[folder / f"{PUBLIC}.rst"] = public_page()
    for old in set(folder.glob("*.rst")) - set(pages):
        old.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # Sphinx reads changed pages only
            path.write_text(text, encoding="utf-8")
    return list(pages)


def packages_below(root: str) -> list[str]:
    """The package itself and all packages below it, by their dotted names."""
    package = importlib.import_module(root)
    below = [entry.name for entry in pkgutil.walk_packages(package.__path__, f"{root}.") if entry.ispkg]
    return [root, *sorted(below)]


def page_of(name: str) -> str:
    """The page of one package: its docstring, its public names, and its modules one by one."""
    package = importlib.import_module(name)
    modules = [entry.name for entry in pkgutil.iter_modules(package.__path__, f"{name}.") if not entry.ispkg]
    parts = [_headed(name, "="), _automodule(name)]
    if name in PACKAGES:
        parts += [".. rubric:: From the package itself", *_public_names(package)]
    for module in modules:
        parts += [_headed(module, "-"), _automodule(module)]
    return "\n\n".join(parts) + "\n"


def public_page() -> str:
    """The page of the public names: a line for each, and those functions whole that are defined beside them."""
    parts = [_headed(PUBLIC, "="), f".. automodule:: {PUBLIC}", ".. rubric:: Public names"]
    parts += [*_public_names(importlib.import_module(PUBLIC)), _headed(BESIDE, "-"), _automodule(BESIDE)]
    return "\n\n".join(parts) + "\n"


def _headed(name: str, line: str) -> str:
    return f"``{name}``\n{line * (len(name) + 4)}"


def _automodule(name: str) -> str:
    # What a module imports is documented where it is defined.
    return f".. automodule:: {name}\n   :members:\n   :ignore-module-all:"


def _public_names(package: ModuleType) -> list[str]:
    """A line for each public name of a package, with a link to where it is defined."""
    lines = []
    for name in sorted(package.__all__, key=str.lower):
        value = getattr(package, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            about = inspect.getdoc(value) or ""
            link = f":py:obj:`{name} <{value.__module__}.{value.__qualname__}>`"
            lines.append(f"- {link}: {_plain(about.partition(chr(10))[0])}")
        else:
            kind = getattr(value, "kind", None)
            lines.append(f"- ``{name}``" + (f": each {kind} by name." if kind else ""))
    return ["\n".join(lines)]


def _plain(text: str) -> str:
    """A line of a docstring as reStructuredText: backticks hold code, and nothing else is markup."""
    pieces = text.split("`")
    return "".join(f"``{piece}``" if at % 2 else piece.replace("*", r"\*") for at, piece in enumerate(pieces) if piece)

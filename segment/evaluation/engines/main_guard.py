"""A script that starts worker processes from its top level, where each of them would run it anew."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

# What a worker ends with that ran the script anew and came to the same call; no signal and no usual status is 73.
RAN_THE_SCRIPT = 73


def without_guard(place: str) -> ValueError:
    """The error of a call at `place`, such as `line 3 of run.py`, that has no guard."""
    return ValueError(
        f"{place} starts worker processes, and each of them imports that script and would start it anew. Put the call "
        'below `if __name__ == "__main__":`, or work in this process: engine=Local(workers=1).'
    )


def check_main_guard() -> None:
    """Refuses a call from the top level of the main script, outside `if __name__ == "__main__":`.

    In a worker that is importing the script, the process ends, and the first one says why.
    """
    if is_importing_the_script():
        _end_quietly()
    line = unguarded_line()
    if line:
        raise without_guard(f"line {line} of `{Path(str(_main_file())).name}`")


def is_importing_the_script() -> bool:
    """Whether this is a process of multiprocessing that has not come to its work yet."""
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _end_quietly() -> NoReturn:
    os._exit(RAN_THE_SCRIPT)


def unguarded_line() -> int:
    """The line of the main script's top level that this call comes from, if nothing guards it; else 0.

    0 also where that can't be known: a guard of another form, a main program without a file.
    """
    frame, file = _top_level(), _main_file()
    if frame is None or file is None:
        return 0
    try:
        statements = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return 0
    before = [statement for statement in statements if statement.lineno <= frame.f_lineno]
    # Anything that asks for `__name__` up to here may be a guard.
    if any(isinstance(node, ast.Name) and node.id == "__name__" for each in before for node in _tests(each)):
        return 0
    return frame.f_lineno


def _tests(statement: ast.stmt) -> list[ast.AST]:
    """What a statement of the top level asks: all of it, but not what stands inside functions and classes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    return list(ast.walk(statement))


def _main_file() -> str | None:
    """The file that processes import as their main program; None where they import none."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and (spec.name == "__main__" or spec.name.endswith(".__main__")):
        return None  # a package run by -m
    return getattr(main, "__file__", None)


def _top_level() -> FrameType | None:
    """The frame of the main script's top level, if this call comes from there."""
    frame: FrameType | None = sys._getframe()
    main = vars(sys.modules["__main__"])
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None

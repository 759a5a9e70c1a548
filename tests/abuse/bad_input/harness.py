"""Runs the command line or the API on bad input, each case in a forked process with a time limit.

A case has one right outcome: it works and a check of its result holds, or it is refused with exit code 1 and one line
that names what is wrong. Anything else is a fault: a traceback, a hang, a crash, silence (accepted, or refused without
the name) or a wrong result.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120  # a case takes one or two on a quiet machine
MEMORY = 12 * 2**30  # of address space: what reads without end is stopped before the machine is

Call = Callable[[], Any]


@dataclass(frozen=True)
class Result:
    """What a case left behind."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def errors(self) -> list[str]:
        """The lines that report an error."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@dataclass(frozen=True)
class Case:
    """Bad input and its right outcome.

    `prepare` runs in the case's folder and returns the arguments of the command line, or a function of the API.
    `refused` holds what the error line should name; empty where the case should work, and then `check` looks at the
    result. `usage`: the command line's own parser refuses it, with exit code 2.
    """

    name: str
    prepare: Callable[[], Sequence[str] | Call]
    refused: tuple[str, ...] = ()
    check: Callable[[Result], None] | None = None
    usage: bool = False

    def __post_init__(self) -> None:
        if bool(self.refused) == (self.check is not None):
            raise ValueError(f"case `{self.name}` should either be refused or have a check")


def refused(name: str, prepare: Callable[[], Sequence[str] | Call], *names: str, usage: bool = False) -> Case:
    """A case that should be refused with a line that holds `names`."""
    return Case(name, prepare, refused=names, usage=usage)


def works(name: str, prepare: Callable[[], Sequence[str] | Call], check: Callable[[Result], None]) -> Case:
    """A case that should work, with a check of its result."""
    return Case(name, prepare, check=check)


def arguments(text: str, *more: str) -> Callable[[], list[str]]:
    """A case that needs no preparation: the words of a command."""
    return lambda: [*text.split(), *more]


def fork(action: Callable[[], int], folder: Path, seconds: float = SECONDS) -> Result | None:
    """Runs `action` in a forked process, in `folder`; None where it does not end in time.

    The exit code of a process that a signal ended is negative.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _child(action, folder, out, err)
    code = _wait(process, seconds)
    if code is None:
        return None
    texts = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
    return Result(code, *texts, folder)


def _child(action: Callable[[], int], folder: Path, out: Path, err: Path) -> None:
    code = 99
    try:
        os.setsid()
        for path, number in ((out, 1), (err, 2)):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        os.chdir(folder)
        code = action()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(process: int, seconds: float) -> int | None:
    """The exit code; None after `seconds`, and the process is ended."""
    end = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.1, pause * 1.2)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def command(arguments: Sequence[str]) -> int:
    """The exit code of the command line, run in this process; tracebacks leave as they would."""
    from attention_outliers.commands.main import main

    sys.argv = ["outliers", *arguments]
    try:
        main()
    except SystemExit as end:
        return 0 if end.code is None else int(end.code)
    return 0


def call(function: Call) -> int:
    """1 for an error that a function documents, as the command line would end; others leave as tracebacks."""
    try:
        function()
    except (ValueError, OSError, TypeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def fault_of(case: Case, folder: Path, seconds: float = SECONDS) -> str:
    """What is wrong with the outcome of a case: its kind and a line about it; empty where it is right."""

    def action() -> int:
        prepared = case.prepare()
        return call(prepared) if callable(prepared) else command(prepared)

    result = fork(action, folder, seconds)
    if result is None:
        return f"hang: not done after {seconds:.0f} s"
    last = (result.err.strip().splitlines() or [""])[-1][:300]
    if "Traceback (most recent call last)" in result.err:
        return f"traceback: {last}"
    if result.code < 0:
        return f"crash: signal {-result.code}"
    if case.refused:
        return _check_refused(case, result, last)
    if result.code != 0:
        return f"wrong: exit code {result.code} where it should work: {last}"
    assert case.check is not None
    try:
        case.check(result)
    except AssertionError as error:
        return f"wrong: {error or 'the check of the result fails'}"
    return ""


def _check_refused(case: Case, result: Result, last: str) -> str:
    if result.code == 0:
        return f"silent: accepted, where an error should name {', '.join(case.refused)}"
    if case.usage:
        text, code = " ".join(result.err.replace("│", " ").split()), 2
    else:
        text, code = " ".join(result.errors), 1
        if len(result.errors) != 1 or not last.startswith("error:"):
            return f"silent: {len(result.errors)} error lines, the last line is: {last}"
    if result.code != code:
        return f"wrong: exit code {result.code}, not {code}: {last}"
    missing = [name for name in case.refused if name not in text]
    return f"silent: the error does not name {', '.join(missing)}: {last}" if missing else ""


def unique(cases: Iterable[Case]) -> list[Case]:
    """The cases; ValueError where two have one name."""
    listed = list(cases)
    names = [case.name for case in listed]
    if len(set(names)) < len(names):
        raise ValueError(f"two cases are called {next(name for name in names if names.count(name) > 1)}")
    return listed

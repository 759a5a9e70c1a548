"""Puts known faults into a copy of the tree, one at a time, and runs the tests that must catch them.

`make mutants` runs all of `faults.toml` and exits with 1 if any fault lives. By hand: `python tests/mutants/run.py
--room figures`, `--only NAME`, `--list`. The working tree itself is never changed.

The libraries are imported once, in this process, and each run is a fork of it that imports the project from its copy.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).resolve().with_name("faults.toml")
# What a copy can do without.
LEFT_OUT = (".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", "results", "_build", "shared")
# Seconds for the tests of one fault, which take a few; and for those of all faults, which take a minute or two.
TIME_LIMIT, CHECK_LIMIT = 240.0, 1200.0
# pytest's exit status when tests ran and some failed. Others mean that the tests could not run.
PASSED, FAILED = 0, 1


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault: `old`, which stands once in `file`, becomes `new`; one of `tests` (pytest's node ids) must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def room(self) -> str:
        """The folder of the file below the root; for a file right in a package, the file: `diagnostics/taps`."""
        path = Path(self.file)
        if len(path.parts) < 2:
            return self.file
        return path.with_suffix("").as_posix() if len(path.parts) == 2 else path.parent.as_posix()

    def not_applicable(self, root: Path) -> str:
        """Why the fault can't be put in, or nothing."""
        path = root / self.file
        count = path.read_text(encoding="utf-8").count(self.old) if path.is_file() else -1
        if count == 1:
            return ""
        return f"there is no {self.file}" if count < 0 else f"`old` stands {count} times in {self.file}, not once"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of pytest in one copy, with a fault or, as a check of the tests, without."""

    tests: tuple[str, ...]
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: pytest's exit status, or a negative number if it ended otherwise, and what it printed."""

    run: Run
    status: int
    output: str
    seconds: float

    @property
    def failed_tests(self) -> list[str]:
        return re.findall(r"^(?:FAILED|ERROR) (\S+)", self.output, re.MULTILINE)


def read_faults(path: Path) -> tuple[list[Fault], list[str]]:
    """The faults of a file, and the libraries to import before them."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    faults = [Fault(**entry | {"tests": tuple(entry["tests"])}) for entry in content["fault"]]
    return faults, content.get("libraries", [])


def chosen_faults(faults: Sequence[Fault], names: Sequence[str], rooms: Sequence[str]) -> list[Fault]:
    """Those of the names and rooms; all without any. ValueError for a name that is none."""
    unknown = set(names) - {fault.name for fault in faults}
    if unknown:
        raise ValueError(f"there is no fault `{min(unknown)}`; --list shows the names.")
    return [
        fault
        for fault in faults
        if (not names or fault.name in names) and (not rooms or any(fault.room.startswith(room) for room in rooms))
    ]


def copy_tree(root: Path, to: Path) -> None:
    """A copy of the tree with its modules compiled; times are kept, so that only a changed file is compiled again."""
    shutil.copytree(root, to, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    compileall.compile_dir(to, quiet=2, rx=re.compile(r"/(tests|docs)/"))


class Changed:
    """A context in which a file of the copy has the fault; afterwards text and times are as before."""

    def __init__(self, tree: Path, fault: Fault | None) -> None:
        self.path = None if fault is None else tree / fault.file
        self.fault = fault

    def put(self) -> None:
        if self.path is not None and self.fault is not None:
            self.content, self.times = self.path.read_text(encoding="utf-8"), self.path.stat()
            self.path.write_text(self.content.replace(self.fault.old, self.fault.new), encoding="utf-8")
            # A compiled module counts as current while size and second are the same: the time has to differ, too.
            os.utime(self.path, (self.times.st_atime, self.times.st_mtime + 10))

    def restore(self) -> None:
        if self.path is not None:
            self.path.write_text(self.content, encoding="utf-8")
            os.utime(self.path, ns=(self.times.st_atime_ns, self.times.st_mtime_ns))


def in_child(tree: Path, log: Path, run: Run) -> None:
    """Runs pytest in this process, which is a fork: never returns."""
    status = -1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "agg"}
        import pytest

        options = ["-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp", f"{log}.tmp"]
        options += ["-x"] if run.fault else []
        status = int(pytest.main([*options, *run.tests]))
        sys.stdout.flush()
    finally:
        os._exit(status if status >= 0 else 99)


def wait_for(process: int, limit: float) -> int:
    """The exit status of a child, or what `signal` ended it, negative; after `limit` seconds it is ended."""
    until = time.monotonic() + limit
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return -int(signal.SIGALRM)
        time.sleep(0.05)


def run_one(run: Run, tree: Path) -> Outcome:
    """A run in a fork of this process."""
    began = time.monotonic()
    changed = Changed(tree, run.fault)
    log = tree.with_suffix(".log")
    changed.put()
    try:
        process = os.fork()
        if process == 0:
            in_child(tree, log, run)
        status = wait_for(process, TIME_LIMIT if run.fault else CHECK_LIMIT)
    finally:
        changed.restore()
    output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    shutil.rmtree(f"{log}.tmp", ignore_errors=True)
    return Outcome(run=run, status=status, output=output, seconds=time.monotonic() - began)


def judged(outcome: Outcome) -> tuple[str, bool]:
    """A line about a run, and whether it is as it should be."""
    fault, status = outcome.run.fault, outcome.status
    if fault is None:
        good = status == PASSED
        line = "" if good else f"FAILS ANYWAY  {', '.join(outcome.failed_tests) or f'exit status {status}'}"
    elif status == PASSED:
        good, line = False, f"LIVED   {fault.name}  ({fault.file})"
    elif status == FAILED:
        good, line = True, f"killed  {fault.name}  {outcome.seconds:.0f} s  {', '.join(outcome.failed_tests)}"
    else:
        good, line = False, f"NO TEST RAN (exit status {status})  {fault.name}"
    if not good and not (fault is not None and status == PASSED):
        line += "\n" + "\n".join(outcome.output.splitlines()[-15:])
    return line, good


def run_all(faults: Sequence[Fault], root: Path, *, say: Callable[[str], None] = print) -> bool:
    """Runs the tests without and with each fault; True if all tests pass and all faults are killed."""
    good = True
    for fault in faults:
        if reason := fault.not_applicable(root):
            say(f"NOT APPLICABLE  {fault.name}: {reason}")
            good = False
    applicable = [fault for fault in faults if not fault.not_applicable(root)]
    killed, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder).resolve() / "tree"
        copy_tree(root, tree)
        # First without any fault: tests that fail anyway catch nothing.
        check = Run(tests=tuple(sorted({test for fault in applicable for test in fault.tests})))
        runs = [check, *(Run(tests=fault.tests, fault=fault) for fault in applicable)] if applicable else []
        for run in runs:
            line, fine = judged(run_one(run, tree))
            good &= fine
            killed += fine and run.fault is not None
            if line:
                say(line)
    say(f"{killed} of {len(faults)} faults killed in {time.monotonic() - began:.0f} s")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this fault; may be repeated")
    parser.add_argument("--room", action="append", default=[], help="faults of this room, such as diagnostics/measures")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--faults", type=Path, default=FAULTS, help="the list of faults")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree that the list is about")
    asked = parser.parse_args()
    faults, libraries = read_faults(asked.faults)
    try:
        faults = chosen_faults(faults, asked.only, asked.room)
    except ValueError as error:
        parser.error(str(error))
    if asked.list:
        for fault in faults:
            print(f"{fault.room:32} {fault.name}")
        return 0
    # Only what is no part of the project: that comes from the copy, in each fork anew.
    for library in libraries:
        importlib.import_module(library)
    return 0 if run_all(faults, asked.root.resolve(), say=lambda line: print(line, flush=True)) else 1


if __name__ == "__main__":
    sys.exit(main())

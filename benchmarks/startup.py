"""`python -m benchmarks.startup`: what a command costs before it does anything, beside `import numpy`.

Each line is a process of its own. Times are user processor time, the least of several rounds, since whatever else the
machine does only adds to it; memory is the process's peak.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

NUMPY = "import numpy"
OUTLIERS = "import sys; from attention_outliers.commands.main import main; sys.argv = ['outliers', {}]; main()"
# What is measured: name -> code, and how many times `import numpy` it may take (None: no line is drawn).
STARTS: dict[str, tuple[str, float | None]] = {
    NUMPY: (NUMPY, None),
    "import attention_outliers": ("import attention_outliers", 4.0),
    "outliers --help": (OUTLIERS.format("'--help'"), 4.0),
    "outliers evaluate --help": (OUTLIERS.format("'evaluate', '--help'"), 6.0),
    "outliers list detectors": (OUTLIERS.format("'list', 'detectors'"), 6.0),
    "outliers list": (OUTLIERS.format("'list'"), None),
    "outliers figure list": (OUTLIERS.format("'figure', 'list'"), None),
    "import torch": ("import torch", None),
}


class Start(NamedTuple):
    """User processor time in seconds, and peak memory in MB."""

    seconds: float
    megabytes: float


# A child's peak begins at its parent's size, so a small process starts it: (seconds, kilobytes) on its last line.
LAUNCH = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime, usage.ru_maxrss)
"""


def started(code: str) -> Start:
    """One process that runs the code, with its output thrown away."""
    done = subprocess.run([sys.executable, "-S", "-c", LAUNCH, code], capture_output=True, text=True, check=True)
    status, seconds, peak = map(float, done.stdout.split())
    if status:
        raise ValueError(f"`{code}` ended with code {status:.0f}; run it by hand to see why.")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return Start(seconds, peak * unit / 2**20)


def startup(rounds: int = 5) -> dict[str, Start]:
    """Each line of STARTS with the least time and memory of all rounds."""
    starts: dict[str, Start] = {}
    for _ in range(rounds):
        for name, (code, _) in STARTS.items():
            start, before = started(code), starts.get(name)
            starts[name] = start if before is None else Start(*map(min, zip(start, before, strict=True)))
    return starts


def tell_startup(console: Console, rounds: int) -> None:
    """The table of `startup`."""
    starts = startup(rounds)
    table = Table(title="start-up: user processor time and peak memory, one process each")
    for head in ("what", f"x {NUMPY}", "at most", "seconds", "MB"):
        table.add_column(head, justify="left" if head == "what" else "right")
    for name, start in starts.items():
        limit = STARTS[name][1]
        ratio = start.seconds / starts[NUMPY].seconds
        table.add_row(name, f"{ratio:.2f}", f"{limit or ''}", f"{start.seconds:.3f}", f"{start.megabytes:.0f}")
    console.print(table)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    tell_startup(Console(), parser.parse_args().rounds)


if __name__ == "__main__":
    main()

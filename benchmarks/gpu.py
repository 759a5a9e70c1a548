"""`python -m benchmarks.gpu`, `make gpu`: whether a GPU gives the CPU's numbers, and what looking inside costs there.

Parity of families of models, measures, detectors and methods in fp32 and bf16; batches that are halved when memory runs
out; several workers on one GPU; times as ratios to the stock forward. Ten minutes at most: what does not get its turn
is named. The table goes into docs/gpu.md. Without a GPU it says so and changes nothing.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import gpu_parts
from benchmarks.gpu_parts import Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
PARTS: dict[str, Callable[[str], Iterator[Row]]] = {
    "families": gpu_parts.families,
    "measures": gpu_parts.measures,
    "detectors": gpu_parts.detectors,
    "methods": gpu_parts.methods,
    "memory": gpu_parts.memory,
    "workers": gpu_parts.workers,
    "times": gpu_parts.times,
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows, and the machine that they are of."""

    rows: list[Row]
    machine: str

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.failed]


def no_device(device: str) -> str:
    """Why the checks can't run on a device; empty where they can."""
    if device == "cpu":
        return ""
    if torch.device(device).type != "cuda":
        return f"`{device}` is no CUDA device; measures need double precision, which others lack"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (torch.device(device).index or 0) >= count:
        return f"torch sees {count} CUDA devices here, and `{device}` is none of them"
    return ""


def run(device: str, *, parts: Sequence[str], seconds: float, clock: Callable[[], float] = time.monotonic) -> Report:
    """The parts one after another until the time is over; an error is a row like others."""
    end = clock() + seconds
    rows: list[Row] = []
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # else convolutions of fp32 have the mantissa of fp16
    try:
        for name in parts:
            rows += _rows(name, device, end, clock)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    return Report(rows=rows, machine=_machine(device))


def _rows(name: str, device: str, end: float, clock: Callable[[], float]) -> Iterator[Row]:
    making = PARTS[name](device)
    while True:
        if clock() > end:
            yield Row(name, "what is left", note="not run: the time was over")
            return
        try:
            row = next(making, None)
        except Exception as error:  # a kernel that is missing, a driver, a full memory: each is a result
            yield Row(
                name, "all", failed=True, note=f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            )
            return
        if row is None:
            return
        yield row


def _machine(device: str) -> str:
    place = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine()
    return (
        f"{place}, torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, Python {platform.python_version()}"
    )


def as_markdown(report: Report) -> str:
    """The table of a page: a row for each check, failures first in a sentence."""
    count = len(report.failed)
    lines = [
        f"Measured on {report.machine}. {count} of {len(report.rows)} checks failed.",
        "",
        "| part | what | fp32 | bf16 | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in report.rows:
        note = ("**failed** " if row.failed else "") + row.note.replace("|", "/")
        lines.append(f"| {row.part} | {row.what} | {row.fp32} | {row.bf16} | {note.strip()} |")
    return "\n".join(lines)


def write_page(report: Report, page: Path) -> None:
    """Puts the table between the page's two marks. Raises ValueError where they are missing."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"`{page}` should hold `{BEGIN}` and `{END}` once each, between which the table goes.")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{as_markdown(report)}\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a check failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="cuda:0", help="cuda:N; `cpu` compares the CPU with itself, a trial of this"
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts alone")
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop")
    parser.add_argument("--page", type=Path, help="where the table goes; by default docs/gpu.md, on a GPU")
    options = parser.parse_args(arguments)
    console = Console()
    reason = no_device(options.device)
    if reason:
        console.print(f"skipped: {reason}.")
        return 0
    report = run(options.device, parts=options.only or list(PARTS), seconds=60 * options.minutes)
    table = Table(title=report.machine)
    for name in ("part", "what", "fp32", "bf16", "note"):
        table.add_column(name)
    for row in report.rows:
        table.add_row(row.part, row.what, row.fp32, row.bf16, ("FAILED " if row.failed else "") + row.note)
    console.print(table)
    page = options.page or (PAGE if options.device != "cpu" and not options.only else None)
    if page is not None:
        write_page(report, page)
        console.print(f"written to {page}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

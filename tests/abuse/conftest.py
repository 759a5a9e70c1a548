"""Makes the modules of this folder importable, and counts the outcomes of the cases."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line: how many cases, and how many faults of each kind."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    outcomes = Counter(value for report in reports for name, value in report.user_properties if name == "abuse")
    if outcomes:
        kinds = ("traceback", "hang", "crash", "silent", "wrong")
        faults = ", ".join(f"{outcomes[kind]} {kind}" for kind in kinds)
        terminalreporter.write_line(
            f"bad input: {sum(outcomes.values())} cases: {outcomes['works']} work, "
            f"{outcomes['refused']} refused; {faults}"
        )
    kills = sum(value for report in reports for name, value in report.user_properties if name == "kills")
    if kills:
        terminalreporter.write_line(f"kills: {kills}; every run resumed and compared bit for bit")


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores, runs and features that cases damage a copy of; made once, in a process of their own."""
    from bad_input.products import make

    return make(tmp_path_factory.mktemp("products"))

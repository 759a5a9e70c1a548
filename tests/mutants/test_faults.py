"""The faults of `make mutants` can be put in, and the runner tells a fault that is caught from one that lives."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FAULTS = tomllib.loads((HERE / "faults.toml").read_text(encoding="utf-8"))["fault"]
# Every folder below the root, and single modules, in which numbers or options are made.
ROOMS = [
    "diagnostics/layout", "diagnostics/taps", "diagnostics/images", "diagnostics/backbones", "diagnostics/measures",
    "diagnostics/detectors", "diagnostics/purifiers", "diagnostics/edits", "diagnostics/studies", "figures/curves",
    "figures/maps", "figures/tables", "figures/view", "segment/text", "segment/encoders", "segment/scorers",
    "segment/decoding", "segment/methods", "segment/datasets", "segment/evaluation", "segment/evaluation/metrics",
    "segment/evaluation/protocols", "attention_outliers/commands", "attention_outliers/papers",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=[fault["name"] for fault in FAULTS])
def test_a_fault_can_be_put_in_and_names_tests_that_exist(fault):
    text = (ROOT / fault["file"]).read_text(encoding="utf-8")
    assert text.count(fault["old"]) == 1, "`old` should stand once in the file: bring the fault up to date"
    changed = text.replace(fault["old"], fault["new"])
    assert changed != text
    compile(changed, fault["file"], "exec")
    assert fault["tests"]
    for test in fault["tests"]:
        file, _, name = test.partition("::")
        function = re.escape(name.partition("[")[0])
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), test


def test_every_room_has_faults_and_there_are_at_least_sixty():
    assert len(FAULTS) >= 60
    assert len({fault["name"] for fault in FAULTS}) == len(FAULTS)
    for room in ROOMS:
        assert any(fault["file"].startswith((f"{room}/", f"{room}.py")) for fault in FAULTS), room


@pytest.fixture
def small_tree(tmp_path):
    """A project of one function and one test, and faults of which one is caught, one lives and one is out of date."""
    tree = tmp_path / "project"
    tree.mkdir()
    (tree / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tree / "sums.py").write_text("def total(values):\n    return sum(values)\n")
    test = "from sums import total\n\n\ndef test_two():\n    assert total([2, 2]) == 4\n"
    (tree / "test_sums.py").write_text(test)
    changes = [("caught", "sum(values)", "max(values)"), ("alive", "sum(values)", "2 * values[0]"), ("old", "mean", "")]
    head = '[[fault]]\nfile = "sums.py"\ntests = ["test_sums.py::test_two"]\n'
    faults = [f'{head}name = "{name}"\nold = "{old}"\nnew = "{new}"\n' for name, old, new in changes]
    (tmp_path / "faults.toml").write_text("\n".join(faults))
    return tree


def ran(tree: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, HERE / "run.py", "--root", tree, "--faults", tree.parent / "faults.toml", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_a_fault_that_lives_or_cannot_be_put_in_makes_the_runner_fail(small_tree):
    before = (small_tree / "sums.py").read_text()
    status, output = ran(small_tree)
    assert status == 1
    assert re.search(r"^killed  caught .*test_sums.py::test_two$", output, re.MULTILINE)
    assert "LIVED   alive  (sums.py)" in output
    assert "NOT APPLICABLE  old: `old` stands 0 times in sums.py, not once" in output
    assert "1 of 3 faults killed" in output
    assert (small_tree / "sums.py").read_text() == before


def test_only_some_faults_are_run_and_all_are_listed(small_tree):
    status, output = ran(small_tree, "--only", "caught")
    assert status == 0
    assert "1 of 1 faults killed" in output
    assert ran(small_tree, "--list")[1].split() == ["sums.py", "caught", "sums.py", "alive", "sums.py", "old"]
    status, output = ran(small_tree, "--only", "nothing")
    assert status == 2
    assert "there is no fault `nothing`" in output


def test_tests_that_fail_anyway_catch_nothing(small_tree):
    (small_tree / "test_sums.py").write_text("def test_two():\n    assert False\n")
    status, output = ran(small_tree, "--only", "caught")
    assert status == 1
    assert "FAILS ANYWAY  test_sums.py::test_two" in output

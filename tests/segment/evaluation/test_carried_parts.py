"""Parts that were registered at run time, in worker processes and on Ray: there, or refused with the true reason."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BEGIN = """
import sys
from dataclasses import dataclass, replace
from segment.datasets import DATASETS
from segment.datasets.shapes import Shapes
from segment.encoders.last_block import LastBlock
from segment.evaluation.engines import Local, RayCluster
from segment.evaluation.evaluate import evaluate
from segment.methods import METHODS

def run(out, method, dataset, engine):
    return evaluate("tiny", method, dataset, "ours", out=f"{sys.argv[1]}/{out}", shard=1, engine=engine)

def scores(results):
    return [cell.classes for cell in results.cells]

def refused(*arguments):
    try:
        run(*arguments)
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("it ran")

if __name__ == "__main__":
"""


def outcome(tmp_path, code):
    """What a script prints that runs this code, in a process of its own."""
    script = BEGIN + "".join(f"    {line}\n" for line in code.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


REGISTER = """
import brought_parts
METHODS.register("alike", brought_parts.ALIKE)
DATASETS.register("two-scenes", brought_parts.two_scenes)
assert METHODS.describe()["alike"] == "ClearCLIP under another name"
"""


@pytest.mark.slow
def test_registered_parts_of_a_module_work_in_two_processes_as_in_one(tmp_path):
    outcome(
        tmp_path,
        f"""{REGISTER}
one = run("one", "alike", "two-scenes", Local(workers=1))
two = run("two", "alike", "two-scenes", Local(workers=2))
assert scores(one) == scores(two) == scores(run("known", "clearclip", "two-scenes", Local(workers=1)))
""",
    )


MAIN = """
@dataclass(frozen=True)
class Drawn(Shapes):
    "Scenes of the script."
@dataclass(frozen=True, kw_only=True)
class Plain(LastBlock):
    "An encoder of the script."
METHODS.register("mine", replace(METHODS["clip"], encoder=Plain(), spec=""))
DATASETS.register("drawn", Drawn)
"""


@pytest.mark.slow
def test_parts_of_a_script_are_refused_by_other_processes_with_the_reason_and_work_in_this_one(tmp_path):
    output = outcome(
        tmp_path,
        f"""{MAIN}
refused("a", "mine", "shapes:scenes=2", Local(workers=2))
refused("b", "clip", "drawn:scenes=2", Local(workers=2))
assert run("c", "mine", "drawn:scenes=2", Local(workers=1)).cells
""",
    )
    assert "method `mine` can't be used: this Method is no constant of a module" in output
    assert "a worker process can't load what this run consists of: Can't get attribute 'Drawn'" in output
    assert output.count("--workers 1, in Python engine=Local(workers=1)") == 2
    assert "memory" not in output


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")
def test_ray_takes_registered_parts_those_of_a_script_too(tmp_path):
    outcome(
        tmp_path,
        f"""{REGISTER}{MAIN}
ray = RayCluster(workers=1)
specs = "alike,mine"
assert scores(run("a", specs, "drawn:scenes=2", Local(workers=1))) == scores(run("b", specs, "drawn:scenes=2", ray))
""",
    )

"""Scripts that start workers from their top level: refused at once with the true reason, by running such scripts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from segment.evaluation.engines.main_guard import unguarded_line

IMPORTS = """
import sys
import attention_outliers as ao
from attention_outliers import evaluate, Local
def go(workers=2):
    print("begins")
    cells = evaluate("tiny:depth=2", "clip", "shapes:scenes=2,height=64,width=64", "ours", out=sys.argv[1] + "/out",
                     shard=1, engine=Local(workers=workers), progress=False).cells
    print("scored", len(cells))
"""


def outcome(tmp_path, end: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(IMPORTS + end)
    command = [sys.executable, str(script), str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_a_script_without_a_guard_is_refused_before_a_worker_starts(tmp_path):
    done = outcome(tmp_path, "for _ in range(1):\n    if True:\n        go()")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ValueError: line 12 of `script.py` starts worker processes")
    assert 'if __name__ == "__main__":' in done.stderr
    assert "engine=Local(workers=1)" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "memory" not in done.stderr
    assert done.stdout.count("begins") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("call()", 1),
        ("def main():\n    call()\n\nmain()", 4),
        ("with context():\n    call()", 2),
        ("class A:\n    name = __name__\ncall()", 3),
        ("call()\nif __name__ == '__main__':\n    pass", 1),
        ("if __name__ == '__main__':\n    call()", 0),
        ("__name__ == '__main__' and call()", 0),
        ("if __name__ != '__main__':\n    raise SystemExit\ncall()", 0),
        ("def main():\n    call()\nif '__main__' == __name__:\n    main()", 0),
    ],
)
def test_the_line_of_a_script_that_nothing_guards(script, line, tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(script)
    lines = []
    main = ModuleType("__main__")
    main.__file__ = str(tmp_path / "script.py")
    vars(main).update(call=lambda: lines.append(unguarded_line()), context=nullcontext)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(script, main.__file__, "exec"), vars(main))
    assert lines == [line]


def test_a_package_that_is_run_and_a_session_without_a_file_need_no_guard(monkeypatch):
    main = ModuleType("__main__")
    vars(main).update(call=unguarded_line)
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec("line = call()", vars(main))
    assert main.line == 0
    main.__file__ = __file__
    main.__spec__ = ModuleSpec("package.__main__", None)
    exec("line = call()", vars(main))
    assert main.line == 0


@pytest.mark.slow
def test_where_the_script_can_not_be_judged_its_first_worker_says_why(tmp_path):
    done = outcome(tmp_path, "name = __name__\ngo()")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ValueError: this script starts worker processes")
    assert done.stderr.count("Traceback") == 1
    assert "memory" not in done.stderr
    assert done.stdout.count("scored") == 0


@pytest.mark.slow
def test_a_guarded_script_works_and_one_worker_needs_no_guard(tmp_path):
    done = outcome(tmp_path, 'if __name__ == "__main__":\n    go()')
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "scored 1"
    # All shards are there by now: no worker starts, and nothing has to be guarded.
    done = outcome(tmp_path, "go()")
    assert (done.returncode, done.stderr) == (0, "")
    done = outcome(tmp_path / "..", "go(workers=1)")
    assert done.returncode == 0, done.stderr

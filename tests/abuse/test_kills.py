"""Runs that are killed at random moments, resumed, and compared bit for bit with a run that nobody stopped."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input.harness import command
from bad_input.products import ENCODE, EVALUATE, PLACE, PROBE, SEGMENT

KILLS = int(os.environ.get("KILLS", "20"))
# Command, inputs, results, and parts of the results that hold times.
RUNS = {
    "probe": (PROBE, "photos", "run.zarr"),
    "evaluate": (EVALUATE, "data", "run"),
    "segment": (SEGMENT, "photos", "labels"),
    "encode": (ENCODE, "photos", "features.safetensors"),
}


def start(arguments: list[str], folder: Path) -> int:
    """The command in a process group of its own; the number of the process."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            os.setsid()
            quiet = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.chdir(folder)
            code = command(arguments)
        finally:
            os._exit(code)
    return process


def finish(process: int, seconds: float) -> int:
    """The exit code; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    pytest.fail(f"the run is not done after {seconds} s")


def killed(arguments: list[str], folder: Path, moment: float) -> bool:
    """Whether the run was still going at `moment`, in seconds; then it is killed."""
    process = start(arguments, folder)
    time.sleep(moment)
    done, _ = os.waitpid(process, os.WNOHANG)
    if done:
        return False
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def ended(name: str, folder: Path) -> bool:
    """Whether a run is at its end and can't be run again: `encode` does not replace a finished file."""
    return name == "encode" and (folder / RUNS[name][2]).exists()


def content_of(path: Path) -> dict[str, str]:
    """File -> hash of its content, without the times that cells and shards hold."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path.parent)): _content(file) for file in files if file.name != "cells.parquet"}


def _content(file: Path) -> str:
    content = file.read_bytes()
    if file.parent.name == "cells":
        cell = json.loads(content)
        cell.pop("seconds")
        content = json.dumps(cell, sort_keys=True).encode()
    elif file.parent.name == "shards":
        from segment.evaluation.shards import decode_shard

        shard = decode_shard(content)
        tallies = {
            method: [
                tally.matrix.tolist(),
                tally.boundary.tolist(),
                [[part.tolist() for part in image] for image in tally.images],
            ]
            for method, tally in shard.tallies.items()
        }
        content = json.dumps([shard.shard, shard.names, shard.broken, shard.skipped, shard.exported, tallies]).encode()
    return hashlib.sha256(content).hexdigest()


def kill_and_compare(name: str, folder: Path, kills: int, notes: Callable[[str, object], None]) -> None:
    arguments, inputs, results = RUNS[name]
    whole = Path(os.environ[PLACE])
    expected = content_of(whole / results)
    rng = random.Random(name)
    folder.mkdir()
    shutil.copytree(whole / inputs, folder / inputs)
    begin = time.monotonic()
    assert finish(start(list(arguments), folder), 300) == 0, (folder / "log").read_text()
    length = time.monotonic() - begin
    assert content_of(folder / results) == expected, "two unbroken runs differ"
    landed = attempts = 0
    while landed < kills:
        for path in folder.iterdir():
            if path.name not in (inputs, "log"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        # One to three kills of one run, before it is left to end.
        for _ in range(rng.randint(1, 3)):
            if not ended(name, folder):
                landed += killed(list(arguments), folder, rng.uniform(0.05, 1.0) * length)
        attempts += 1
        assert attempts < 10 * kills, "the kills come too late"
        if not ended(name, folder):
            assert finish(start(list(arguments), folder), 300) == 0, (folder / "log").read_text()[-2000:]
        files = content_of(folder / results)
        differ = sorted(file for file in {*expected, *files} if expected.get(file) != files.get(file))
        assert not differ, f"after {landed} kills: {', '.join(differ[:5])}"
        left = sorted(path.name for path in folder.iterdir() if path.name not in (inputs, results, "log"))
        assert not left, f"files that stay behind: {', '.join(left)}"
    notes("kills", landed)


@pytest.mark.abuse
@pytest.mark.parametrize("name", RUNS)
def test_killed_runs_end_as_unbroken_ones(name, products, tmp_path, record_property):
    kill_and_compare(name, tmp_path / "run", KILLS, record_property)


def test_one_kill_of_a_run(products, tmp_path, record_property):
    kill_and_compare("segment", tmp_path / "run", 1, record_property)

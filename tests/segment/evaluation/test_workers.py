"""Workers: other processes, killed ones, a real cluster; always the same counts."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest

from segment.evaluation.engines import Local, ShardFailed
from segment.evaluation.engines.local import device_of
from segment.evaluation.evaluate import evaluate
from segment.methods import METHODS


@pytest.fixture
def expected(faulty, run, counts):
    """What one worker in this process finds."""
    run(faulty(), out="expected", engine=Local(workers=1))
    return counts("expected")


@pytest.mark.slow
def test_workers_in_processes_find_the_same_also_when_one_dies(faulty, run, counts, expected, tmp_path):
    dataset = faulty(folder=str(tmp_path), deadly=5)
    run(dataset, engine=Local(workers=2))
    assert (tmp_path / "death-0").exists()
    assert counts() == expected


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_named_and_the_others_are_kept(faulty, run, counts, tmp_path):
    with pytest.raises(ShardFailed, match=r"shard 1 \(images 2 to 3, from `scene-2` on\) failed 3 times"):
        run(faulty(scenes=4, folder=str(tmp_path), deadly=3, deaths=9), engine=Local(workers=2))
    assert list(counts()) == ["000000.npz"]


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_with_the_same_counts(run, counts, tmp_path):
    dataset = "shapes:scenes=24,height=64,width=80"
    run(dataset, out="expected", engine=Local(workers=1))
    chance = random.Random(os.getpid())
    command = [
        sys.executable,
        "-m",
        "attention_outliers",
        "evaluate",
        "--dataset",
        dataset,
        "--method",
        "clip,clearclip",
    ]
    command += ["--backbone", "tiny", "--shard", "2", "--workers", "1", "--out", str(tmp_path / "out")]
    shards = tmp_path / "out" / "shards"
    finished = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and len(list(shards.glob("0*.npz"))) <= finished:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        finished = len(list(shards.glob("0*.npz")))
    assert finished >= 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 images" in done.stdout
    assert "%|" not in done.stderr  # no progress bar where nobody looks
    assert counts() == counts("expected")


@pytest.mark.slow
def test_every_method_finds_the_same_by_one_worker_and_by_two_of_which_one_dies(faulty, counts, tmp_path):
    # A method with a second backbone takes the first one for it, so that nothing is fetched.
    second = {name for name, method in METHODS.items() if "vfm" in method.settings()}
    specs = [f"{name}:vfm=self" if name in second else name for name in METHODS]
    fast = {"size": "short:112", "windows": "whole"}
    settings = {"methods": specs, "shard": 1, "boundary": False, "settings": fast}
    expected = evaluate("pocket", dataset=faulty(scenes=2), out=tmp_path / "one", engine=Local(workers=1), **settings)
    dying = faulty(scenes=2, folder=str(tmp_path), deadly=1)
    result = evaluate("pocket", dataset=dying, out=tmp_path / "two", engine=Local(workers=2), **settings)
    assert (tmp_path / "death-0").exists()
    assert counts("two") == counts("one")
    assert [cell.method for cell in result.cells] == specs
    assert [cell.classes for cell in result.cells] == [cell.classes for cell in expected.cells]


@pytest.mark.slow
def test_on_a_terminal_a_line_tells_speed_time_left_and_mean_iou(tmp_path):
    command = [
        sys.executable,
        "-m",
        "attention_outliers",
        "evaluate",
        "--dataset",
        "shapes:scenes=6,height=48,width=64",
    ]
    command += ["--method", "clip", "--backbone", "tiny", "--workers", "1", "--shard", "1", "--out", str(tmp_path)]
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))  # one of no width shows no line
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    assert re.search(
        r"evaluate shapes: 100%.* 6/6 \[\d\d:\d\d<\d\d:\d\d, .*image.*, mIoU clip \d+\.\d\d\]", shown.decode()
    )


@pytest.mark.slow
def test_a_ray_cluster_finds_the_same_also_when_a_worker_dies(faulty, run, counts, expected, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed: there is no ray")
    from ray.cluster_utils import Cluster

    from segment.evaluation.engines.ray import RayCluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        dataset = faulty(folder=str(tmp_path), deadly=5, parent=os.getpid())
        run(dataset, engine=RayCluster(address=cluster.address))
    finally:
        cluster.shutdown()
    assert (tmp_path / "death-0").exists()
    assert counts() == expected


def test_workers_share_out_the_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of("auto", worker) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cuda:1", 0) == "cuda:1"
    assert Local().count("auto", 10) == 2
    assert Local(workers=4).count("auto", 3) == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_of("auto", 1) == "cpu"
    assert Local().count("cpu", 1) == 1


def test_less_than_one_worker_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Local(workers=0)


class _SlowRay:
    """Stands for Ray on a machine so busy that it starts within its time only at the last try, if at all."""

    def __init__(self, failures, error):
        self.failures, self.error, self.calls = failures, error, []

    def init(self, **options):
        assert options["address"] == "local"
        self.calls.append(options["num_cpus"])
        if self.calls.count(2) <= self.failures:
            raise self.error

    def shutdown(self):
        self.calls.append("shutdown")


def test_ray_is_started_again_where_a_busy_machine_did_not_manage_it_in_time():
    from segment.evaluation.engines.ray import RayCluster

    late = Exception("The current node timed out during startup.")
    ray = _SlowRay(2, late)
    RayCluster(workers=2)._start(ray, {"num_cpus": 2})
    assert ray.calls == [2, "shutdown", 2, "shutdown", 2]
    with pytest.raises(ValueError, match=r"did not start within 30 s, 3 times.*--workers"):
        RayCluster(workers=2)._start(_SlowRay(3, late), {"num_cpus": 2})
    other = _SlowRay(1, ConnectionError("no cluster at HOST:6379"))
    with pytest.raises(ConnectionError, match="no cluster"):
        RayCluster(workers=2)._start(other, {"num_cpus": 2})
    assert other.calls == [2]

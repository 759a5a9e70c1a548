"""Workers: other processes, killed ones, a real cluster; always the same counts."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from segment.engines import Local, ShardFailed
from segment.engines.local import device_of


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
    with pytest.raises(ShardFailed, match=r"shard 1 \(pictures 2 to 3, from `scene-2` on\) failed 3 times"):
        run(faulty(scenes=4, folder=str(tmp_path), deadly=3, deaths=9), engine=Local(workers=2))
    assert list(counts()) == ["000000.npz"]


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_with_the_same_counts(run, counts, tmp_path):
    dataset = "shapes:scenes=24,height=64,width=80"
    run(dataset, out="expected", engine=Local(workers=1))
    chance = random.Random(os.getpid())
    command = [sys.executable, "-m", "commands", "evaluate", "--dataset", dataset, "--method", "clip,clearclip"]
    command += ["--backbone", "tiny", "--shard", "2", "--workers", "1", "--out", str(tmp_path / "out")]
    shards = tmp_path / "out" / "shards"
    seen = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while process.poll() is None and len(list(shards.glob("0*.npz"))) <= seen:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.3)
            process.send_signal(signal.SIGKILL)
        seen = len(list(shards.glob("0*.npz")))
    assert seen >= 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 pictures" in done.stdout
    assert "%|" not in done.stderr  # no progress bar where nobody looks
    assert counts() == counts("expected")


@pytest.mark.slow
def test_a_ray_cluster_finds_the_same_also_when_a_worker_dies(faulty, run, counts, expected, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed: there is no ray")
    from ray.cluster_utils import Cluster

    from segment.engines.ray import RayCluster

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

"""A small run that all tests of evaluations are held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segment.evaluation.evaluate import evaluate
from segment.evaluation.shards import decode_shard
from segment.evaluation.storage import storage_at

METHODS = "clip,clearclip"


@pytest.fixture
def faulty(monkeypatch):
    """The class of faulty data sets, importable in other processes too."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    from faulty_shapes import FaultyShapes

    return FaultyShapes


@pytest.fixture
def run(tmp_path):
    """Runs `tiny` on a data set with small shards; keywords as evaluate's."""

    def go(dataset, out="out", methods=METHODS, **settings):
        return evaluate("tiny", methods, dataset, "ours", out=_place(tmp_path, out), shard=2, **settings)

    return go


def _place(folder: Path, out: str) -> str:
    return out if "://" in out else str(folder / out)


@pytest.fixture
def counts(tmp_path):
    """All that the shards of a run hold, but for times: {shard: content}."""

    def read(out="out"):
        storage = storage_at(_place(tmp_path, out))
        content = {}
        for name in storage.list("shards"):
            shard = decode_shard(storage.read(f"shards/{name}"))
            tallies = {
                method: (
                    tally.matrix.tolist(),
                    tally.boundary.tolist(),
                    [[np.asarray(part).tolist() for part in image] for image in tally.images],
                )
                for method, tally in shard.tallies.items()
            }
            content[name] = (shard.run, shard.names, shard.broken, tallies)
        return content

    return read

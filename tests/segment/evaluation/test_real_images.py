"""An evaluation on real images with a real model's own classifier for words; runs where both are at hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.evaluation.results import ResultCell

# What a classifier of ImageNet has for all that is no object: places, and parts of houses and rooms.
BACKGROUND = {
    "background": ["cliff", "valley", "lakeside", "seashore", "alp", "stone wall", "picket fence", "bookcase"]
}


@pytest.mark.slow
def test_a_real_model_segments_voc_through_its_classifier_and_workers_agree(shared, counts, tmp_path):
    model = f"timm:vit_tiny_patch16_224@{shared / 'data' / 'vit_tiny_patch16_224.safetensors'}"

    def run(out: str, engine: Local) -> list[ResultCell]:
        return evaluate(
            model, "clip,clearclip,sfp", "voc21", root=shared / "data" / "voc2012_subset", limit=4, shard=1,
            rows=BACKGROUND, settings={"words": "names"}, out=tmp_path / out, engine=engine, device="cpu",
        ).cells  # fmt: skip

    alone = run("one", Local(workers=1))
    two = run("two", Local(workers=2))
    assert counts("two") == counts("one")
    assert len(counts("one")) == 4
    for cell, other in zip(alone, two, strict=True):
        assert replace(cell, seconds=0) == replace(other, seconds=0)
        assert cell.images == {"scored": 4, "broken": 0, "skipped": 0, "asked": 4, "has": 150}
        assert cell.miou is not None
        assert 0 < cell.miou < 1

"""An evaluation of a model that only this process has."""

import open_clip
import pytest

from diagnostics.backbones import load_backbone
from diagnostics.backbones.tiny import randomize
from segment.evaluation.engines.local import Local
from segment.evaluation.evaluate import evaluate

CLIP = {
    "embed_dim": 40,
    "vision_cfg": {"layers": 2, "width": 48, "head_width": 24, "patch_size": 16, "image_size": 64},
    "text_cfg": {"layers": 1, "width": 8, "heads": 2},
}


def test_an_evaluation_of_a_model_in_memory_stays_in_this_process(tmp_path):
    model = open_clip.CLIP(**CLIP)
    randomize(model, seed=4)
    backbone = load_backbone(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    options = {"shard": 1, "progress": False, "boundary": False}
    with pytest.raises(ValueError, match="model in memory, which other processes can't load"):
        evaluate(backbone, "clip", "shapes:scenes=2", out=tmp_path / "two", engine=Local(workers=2), **options)
    result = evaluate(backbone, "clip", "shapes:scenes=2", out=tmp_path / "here", **options)
    assert result.cells[0].images["scored"] == 2

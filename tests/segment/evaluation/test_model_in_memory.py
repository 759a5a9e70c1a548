"""An evaluation of a model that only this process has."""

from dataclasses import replace

import open_clip
import pytest

from diagnostics.backbones import load_backbone
from diagnostics.backbones.tiny import randomize
from segment.evaluation.engines.local import Local
from segment.evaluation.evaluate import _fingerprint_of, _kept_words, evaluate
from segment.evaluation.job import packed
from segment.evaluation.storage import storage_at

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


def test_a_bias_of_the_sigmoid_loss_stays_with_the_words_of_a_run(tmp_path):
    model = open_clip.CLIP(**CLIP, init_logit_bias=-7.0)
    backbone = load_backbone(model, mean=(0.5,) * 3, std=(0.5,) * 3)
    evaluate(backbone, "clip", "shapes:scenes=1", out=tmp_path, progress=False, boundary=False)
    storage = storage_at(tmp_path)
    kept = _kept_words(storage, None)
    assert kept.logit_bias == -7
    assert packed(kept)["logit_bias"] == -7
    assert _fingerprint_of(kept) != _fingerprint_of(replace(kept, logit_bias=None))

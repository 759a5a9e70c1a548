"""Scores: mIoU by hand, captions among different ones, and nothing for a model that knows nothing."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import jaccard_score

from diagnostics.backbones.pocket.architecture import build_model, pocket_backbone
from segment.datasets.shapes import NAMES, Shapes, close_up
from training import scores
from training.scores import class_rows, mean_iou, mean_ious, retrieval, words_of, zero_shot


@pytest.fixture(scope="module")
def untrained():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pocket_backbone(build_model())


def test_mean_iou_is_that_of_scikit_learn_and_leaves_out_classes_that_are_nowhere():
    generator = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(0, 4, (2, 300), generator=generator)
    counts = torch.bincount(truth * 5 + predicted, minlength=25).view(5, 5)
    assert mean_iou(counts) == pytest.approx(jaccard_score(truth, predicted, average="macro"))


def test_a_model_that_knows_nothing_is_at_chance(untrained):
    assert retrieval(untrained, scenes=40) < 0.15
    assert zero_shot(untrained, images=64) < 0.35
    assert mean_ious(untrained, scenes=4, methods=["clip"])["clip"] < 0.2


def test_rows_of_the_classes_are_unit_vectors(untrained):
    rows = class_rows(untrained)
    assert rows.shape == (16, 128)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(16))


def test_a_model_that_knows_every_answer_gets_all(untrained, monkeypatch):
    """Class tokens are replaced by the features of the right words."""
    words = {Shapes().scene(n).image.tobytes(): words_of(Shapes().scene(n)) for n in range(30)}
    names = {close_up(n).image.tobytes(): f"a picture of a {NAMES[int(close_up(n).labels[0, 0])]}" for n in range(20)}

    def answers(backbone, images):
        texts = [(words | names)[image.tobytes()] for image in images]
        return torch.nn.functional.normalize(backbone.encode_text(texts), dim=-1)

    monkeypatch.setattr(scores, "class_tokens", answers)
    assert retrieval(untrained, scenes=30) == 1.0
    monkeypatch.setattr(scores, "PROMPTS", ("a picture of a {}",))
    assert zero_shot(untrained, images=20) == 1.0

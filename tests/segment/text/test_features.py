"""Words as unit vectors: normalize, mean, normalize; what the cache keeps; and classifiers without a text tower."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones import load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from segment.segmenter import Segmenter
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary

TWO = ("a photo of a {}.", "{}")


class Counting:
    """A text tower that remembers what it was asked, and fails from the text `fails` on."""

    def __init__(self, tower, fails: str = "") -> None:
        self.tower, self.fails, self.texts = tower, fails, []

    def __call__(self, texts, device):
        if self.fails and self.fails in texts:
            raise KeyboardInterrupt
        self.texts += texts
        return self.tower(texts, device)

    def __getattr__(self, name):
        return getattr(self.tower, name)


@pytest.fixture
def tower(tiny, monkeypatch) -> Counting:
    counting = Counting(tiny.text)
    monkeypatch.setattr(tiny, "text", counting)
    return counting


def test_a_query_is_the_normalized_mean_of_its_normalized_sentences(tiny):
    text = text_features(tiny, [["cat", "kitten"], ["dog"]], TWO, cache=None)
    for row, word in enumerate(("cat", "kitten", "dog")):
        sentences = [tiny.encode_text([template.format(word)])[0] for template in TWO]
        mean = sum(sentence / sentence.norm() for sentence in sentences) / 2
        assert torch.allclose(text.features[row], mean / mean.norm(), atol=1e-6)
    assert text.owners.tolist() == [0, 0, 1]
    assert text.owners.dtype == torch.int64
    assert (text.names, text.background) == (("cat", "dog"), None)


def test_any_source_of_a_vocabulary_will_do(tiny):
    vocabulary = Vocabulary.parse("cat, dog").with_background("sky")
    text = text_features(tiny, vocabulary, "plain", cache=None)
    assert (text.names, text.background) == (("background", "cat", "dog"), 0)
    listed = text_features(tiny, ["sky", "cat", "dog"], "plain", cache=None)
    assert torch.equal(text.features, listed.features)


def test_the_trained_logit_scale_comes_along(tiny):
    scale = text_features(tiny, "cat", "plain", cache=None).logit_scale
    assert scale == pytest.approx(tiny.model.logit_scale.exp().item())
    assert scale != 100


def test_a_second_start_encodes_nothing(tiny, tower, tmp_path):
    first = text_features(tiny, "cat, dog", TWO, cache=tmp_path)
    assert len(tower.texts) == 4
    second = text_features(tiny, "cat, dog", TWO, cache=tmp_path)
    assert len(tower.texts) == 4
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.features, text_features(tiny, "cat, dog", TWO, cache=None).features)


def test_a_new_word_is_encoded_alone_whatever_the_order_and_the_classes(tiny, tower, tmp_path):
    first = text_features(tiny, "cat, dog", "plain", cache=tmp_path)
    second = text_features(tiny, [["grass", "dog"], "cat"], "plain", cache=tmp_path)
    assert tower.texts == ["cat", "dog", "grass"]
    assert torch.equal(second.features[[2, 1]], first.features)


def test_other_templates_and_other_weights_are_other_words(tiny, tower, tmp_path):
    text_features(tiny, "cat", "plain", cache=tmp_path)
    text_features(tiny, "cat", "photo", cache=tmp_path)
    assert tower.texts == ["cat", "a photo of a cat."]
    other = load_backbone("tiny:seed=1")
    other.spec = tiny.spec
    text = text_features(other, "cat", "plain", cache=tmp_path)
    assert torch.equal(text.features, text_features(other, "cat", "plain", cache=None).features)
    assert not torch.allclose(text.features, text_features(tiny, "cat", "plain", cache=tmp_path).features, atol=1e-2)


def test_bf16_words_are_kept_apart_and_given_in_fp32(tiny, tmp_path):
    text_features(tiny, "cat", "plain", cache=tmp_path)
    text = text_features(load_backbone("tiny", precision="bf16"), "cat", "plain", cache=tmp_path)
    assert text.features.dtype == torch.float32
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_the_cache_is_where_the_variable_says(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTLIERS_CACHE", str(tmp_path / "own"))
    text_features(tiny, "cat", "plain")
    assert len(list((tmp_path / "own").rglob("*.safetensors"))) == 1


def test_a_run_that_is_broken_off_goes_on_where_it_was(tiny, tower, tmp_path):
    words = [f"thing {number}" for number in range(300)]
    tower.fails = "thing 290"
    with pytest.raises(KeyboardInterrupt):
        text_features(tiny, words, "plain", cache=tmp_path)
    assert len(tower.texts) == 256
    tower.fails = ""
    text = text_features(tiny, words, "plain", cache=tmp_path)
    assert tower.texts == words
    assert text.features.shape == (300, 40)


def test_a_full_disk_costs_no_words(tiny, tmp_path, monkeypatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match="No space left"):
        text = text_features(tiny, "cat, dog", "plain", cache=tmp_path)
    assert torch.equal(text.features, text_features(tiny, "cat, dog", "plain", cache=None).features)


def test_rows_are_refused_where_there_is_a_text_tower(tiny):
    with pytest.raises(ValueError, match="has a text tower"):
        text_features(tiny, "cat", cache=None, rows={"cat": [0]})


def test_a_classifier_speaks_through_the_means_of_its_rows(tmp_path):
    backbone = load_backbone("tiny:class_token=false")
    text = text_features(backbone, "dog, cat", cache=tmp_path, rows={"cat": [3], "dog": [8, 1]})
    head = backbone.class_head()
    mean = head[8] / head[8].norm() + head[1] / head[1].norm()
    assert torch.allclose(text.features, torch.stack([mean / mean.norm(), head[3] / head[3].norm()]), atol=1e-6)
    assert text.owners.tolist() == [0, 1]
    assert (text.names, text.logit_scale) == (("dog", "cat"), 100)
    assert list(tmp_path.iterdir()) == []


def test_each_row_of_a_classifier_may_be_a_query():
    backbone = load_backbone("tiny:registers=4")
    text = text_features(backbone, "cat, dog", rows={"cat": [3], "dog": [8, 1]}, combine="each")
    assert torch.allclose(text.features, F.normalize(backbone.class_head()[[3, 1, 8]], dim=-1), atol=1e-6)
    assert text.owners.tolist() == [0, 1, 1]


def test_weights_that_are_left_out_do_not_change_the_fingerprint(tiny):
    whole, words = fingerprint(tiny.model), fingerprint(tiny.model, leave_out=("visual.",))
    assert whole != words
    other = load_backbone("tiny")
    other.model.visual.proj.data += 1
    assert fingerprint(other.model) != whole
    assert fingerprint(other.model, leave_out=("visual.",)) == words


def test_definitions_are_blended_in_without_length_one_and_the_background_stays():
    backbone = load_backbone("pocket")
    words = Vocabulary((("sky",), ("zebra", "tiger"), ("grass",)), background=0)
    plain = text_features(backbone, words, "plain", cache=None, progress=False)
    texts = ["stripes and waves", "a meadow"]
    described = text_features(backbone, texts, "plain", cache=None, progress=False).features
    text = text_features(backbone, words, "plain", cache=None, progress=False, definitions=texts, blend=0.2)
    expected = [plain.features[0]]
    expected += [0.8 * plain.features[query] + 0.2 * described[0] for query in (1, 2)]
    expected += [0.8 * plain.features[3] + 0.2 * described[1]]
    assert torch.allclose(text.features, torch.stack(expected), atol=1e-6)
    assert text.blended == 0.2
    assert text.features[1].norm() < 0.999
    # A segmenter takes them, though they are shorter than 1.
    Segmenter(backbone, "clearclip", text).scores(np.zeros((40, 50, 3), np.uint8))


def test_definitions_come_from_a_file_with_a_line_a_class(tmp_path):
    backbone = load_backbone("pocket")
    path = tmp_path / "texts.txt"
    path.write_text("stripes\na meadow\n")
    options = {"templates": "plain", "cache": None, "progress": False}
    read = text_features(backbone, "zebra, grass", definitions=path, **options)
    listed = text_features(backbone, "zebra, grass", definitions=["stripes", "a meadow"], **options)
    assert torch.equal(read.features, listed.features)
    with pytest.raises(ValueError, match="one text for each of 3 classes"):
        text_features(backbone, "zebra, grass, sky", definitions=path, **options)
    with pytest.raises(ValueError, match="`blend` should be"):
        text_features(backbone, "zebra, grass", definitions=path, blend=1.5, **options)
    with pytest.raises(ValueError, match="can't be read"):
        text_features(backbone, "zebra, grass", definitions=tmp_path / "none.txt", **options)

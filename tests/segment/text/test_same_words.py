"""Words that a text tower can't tell apart are refused like equal ones; texts that it cuts are named."""

from __future__ import annotations

import open_clip
import pytest

import diagnostics
from segment.datasets.shapes import Shapes
from segment.evaluation.protocols.words import vocabulary_for
from segment.text.features import text_features
from segment.text.vocabulary import Vocabulary

ALIKE = {
    "case": ["zebra", "Zebra"],
    "a blank behind": ["zebra", "zebra "],
    "blanks inside": ["traffic light", "traffic  light"],
    "width": ["zebra", "\uff5a\uff45\uff42\uff52\uff41"],
    "HTML": ["cat & dog", "cat &amp; dog"],
    "synonyms": [["horse", "zebra"], ["tiger", "ZEBRA"]],
    "what lies behind the context": ["so " * 90 + "red", "so " * 90 + "blue"],
}


@pytest.fixture(scope="module")
def pocket():
    return diagnostics.load_backbone("pocket")


def features(backbone, words, templates="{}", **options):
    return text_features(backbone, words, [templates] if "{}" in templates else templates, cache=None, progress=False)


@pytest.mark.filterwarnings("ignore:.*are cut")
@pytest.mark.parametrize("kind", ALIKE)
def test_words_of_one_vector_are_refused_by_name(pocket, kind):
    words = ALIKE[kind]
    with pytest.raises(ValueError, match=r"\(class 0\) and .*\(class 1\) are one text to the text tower of `pocket`"):
        features(pocket, words)
    # Where they are allowed, they have one vector indeed.
    both = features(pocket, Vocabulary.parse(words, repeats=True)).features[[-1, 0 if len(words[0]) > 2 else 1]]
    assert float(both[0] @ both[1]) == pytest.approx(1, abs=1e-6)


def test_words_that_differ_are_taken_and_so_are_spellings_within_a_class(pocket):
    assert len(features(pocket, ["zebra", "zebras", ["TV", "tv"]]).owners) == 4


def test_the_background_may_share_words_with_a_class(pocket):
    vocabulary = Vocabulary.parse(["zebra", ["sky", "Zebra"]], background=1)
    assert len(features(pocket, vocabulary).owners) == 3


def test_words_that_only_some_sentences_cut_are_two(pocket):
    room = pocket.text.tokenizer.context_length - 5
    words = ["zebra " * room + "sky", "zebra " * room + "tiger"]
    sentences = ["{}", "zebra " * 9 + "{}"]
    with pytest.warns(UserWarning, match="2 of 2 words are longer .* and are cut"):
        two = text_features(pocket, words, sentences, cache=None, progress=False)
    assert float(two.features[0] @ two.features[1]) < 0.999999
    with pytest.raises(ValueError, match="one text"), pytest.warns(UserWarning, match="are cut"):
        text_features(pocket, words, sentences[1:], cache=None, progress=False)


def test_a_text_that_fills_the_context_is_not_cut(pocket):
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    length = pocket.text.tokenizer.context_length
    for count in range(length - 4, length + 2):
        text = " ".join(["so"] * count)
        assert pocket.cut_texts([text]) == [len(tokenizer.encode(text)) + 2 > length]


def test_names_of_a_users_own_set_are_checked_and_released_lists_are_not():
    data = Shapes()
    assert vocabulary_for("ours", "folder", data).distinct
    assert vocabulary_for("names", "folder", data).distinct
    assert not vocabulary_for("ours", "ade150", data).distinct


@pytest.mark.filterwarnings("ignore:.*does not know every word")
def test_words_that_pocket_does_not_know_are_named_by_a_warning_and_not_refused(pocket):
    with pytest.warns(UserWarning, match="does not know every word"):
        assert len(features(pocket, ["giraffe", "elephant"]).owners) == 2
    with pytest.raises(ValueError, match="one text"):
        features(pocket, ["giraffe", "GIRAFFE"])

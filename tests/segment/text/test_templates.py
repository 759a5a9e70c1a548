"""Sets of sentences by name, by file and by hand."""

from __future__ import annotations

import json

import open_clip
import pytest

from segment.text.templates import TEMPLATES, fill_templates, load_templates


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("openai-80", open_clip.OPENAI_IMAGENET_TEMPLATES),
        ("openai-7", open_clip.SIMPLE_IMAGENET_TEMPLATES),
    ],
)
def test_openais_sentences_are_those_of_open_clip(name, functions):
    assert fill_templates(load_templates(name), "cat") == [function("cat") for function in functions]


def test_the_sets_have_as_many_sentences_as_their_names_say():
    assert {name: len(load_templates(name)) for name in TEMPLATES} == {
        "openai-80": 80,
        "openai-7": 7,
        "photo": 1,
        "photo-of": 1,
        "plain": 1,
    }
    assert fill_templates(load_templates("photo"), "cat") == ["a photo of a cat."]
    assert fill_templates(load_templates("photo-of"), "cat") == ["a photo of cat"]
    assert fill_templates(load_templates("plain"), "cat") == ["cat"]


def test_every_set_has_a_line_about_it():
    assert all(TEMPLATES.describe().values())


def test_sentences_come_from_files_lists_and_a_sentence_alone(tmp_path):
    expected = ("art of a {}.", "the {}, up close")
    (tmp_path / "own.txt").write_text("art of a {}.\n\nthe {}, up close\n", encoding="utf-8")
    (tmp_path / "own.json").write_text(json.dumps(expected), encoding="utf-8")
    assert load_templates(tmp_path / "own.txt") == load_templates(str(tmp_path / "own.json")) == expected
    assert load_templates(list(expected)) == expected
    assert load_templates("art of a {}.") == ("art of a {}.",)


def test_braces_in_a_word_mean_nothing():
    assert fill_templates(["a {} here"], "{0} {x} {}") == ["a {0} {x} {} here"]


def test_an_unknown_name_is_answered_with_the_near_one():
    with pytest.raises(ValueError, match="openai-80"):
        load_templates("openai80")


@pytest.mark.parametrize("source", [[], ["a photo"], ["{}", 7]])
def test_sentences_without_a_gap_are_refused(source):
    with pytest.raises(ValueError, match=r"\{\}"):
        load_templates(source)


@pytest.mark.parametrize(("name", "content"), [("a.json", "{}"), ("a.json", "[1"), ("a.txt", "\n"), ("a.txt", "cat")])
def test_files_that_hold_no_sentences_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"template.*{name}"):
        load_templates(tmp_path / name)
    with pytest.raises(ValueError, match=r"none\.txt"):
        load_templates(tmp_path / "none.txt")

"""Class-name files of other shapes are read rightly or refused; none of them passes for words."""

from __future__ import annotations

import json

import pytest

from segment.text.vocabulary import Vocabulary

OTHER_SHAPES = {
    "numbers and colons": ("0: zebra\n1: tiger\n", "has a number ahead of"),
    "numbers and tabs": ("0\tzebra\n1\ttiger\n", "has a number ahead of"),
    "numbers and dots": ("1. zebra\n2. tiger\n3. cat", "has a number ahead of"),
    "numbers in brackets": ("[0] zebra\n[1] tiger", "as JSON"),
    "numbers and a bracket": ("(1) zebra\n2) tiger", "has a number ahead of"),
    "numbers and blanks": ("0 zebra\n1 tiger", "has a number ahead of"),
    "numbers and commas": ("0,zebra\n1,tiger", "has a number ahead of"),
    "numbers that jump": ("7: zebra\n3: tiger", "has a number ahead of"),
    "one numbered line": ("0: zebra", "has a number ahead of"),
    "numbers behind": ("zebra,0\ntiger,1", "has a number behind"),
    "numbers behind blanks": ("zebra 0\ntiger 1", "has a number behind"),
    "the head of a table": ("id,name\n0,zebra\n1,tiger\n", "head of a table"),
    "the head of one column": ("class\nzebra\ntiger", "head of a table"),
    "a head in quotes": ('"name"\t"id"\nzebra\t0', "head of a table"),
    "semicolons": ("zebra;horse\ntiger;cat\n", "separator=';'"),
    "bars": ("zebra|horse\ntiger", r"separator='\|'"),
    "tabs": ("zebra\thorse\ntiger", r"separator='\\t'"),
    "a semicolon among others": ("zebra; horse\ntiger;cat", "line 2 .*separator=';'"),
    "a comment": ("# my classes\nzebra\ntiger\n", "line 1 .* comment"),
    "a comment further on": ("zebra\n// cats\ntiger\n", "line 2 .* comment"),
    "HTML": ("cat &amp; dog\ntiger", "'&amp;', a sign as HTML"),
    "JSON that is cut": ('["zebra", "tiger"', "as JSON"),
    "JSON of numbers": ("[1, 2]", "should hold a list"),
    "JSON with a gap": ('{"0": "zebra", "2": "tiger"}', "should hold a list"),
    "JSON with a name twice": ('{"zebra": 0, "tiger": 0}', "should hold a list"),
    "JSON with an empty name": ('["zebra", " "]', "should hold a list"),
    "an empty list": ("[]", "should hold a list"),
}


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_a_file_of_another_shape_is_refused_with_what_it_holds(tmp_path, shape):
    text, message = OTHER_SHAPES[shape]
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        Vocabulary.read(tmp_path / "c.txt")


@pytest.mark.parametrize(
    "content",
    [
        ["zebra", ["tiger", "big cat"]],
        {"0": "zebra", "1": ["tiger", "big cat"]},
        {"1": ["tiger", "big cat"], "0": ["zebra"]},
    ],
)
@pytest.mark.parametrize("name", ["c.json", "c.txt"])
def test_json_is_read(tmp_path, content, name):
    (tmp_path / name).write_text("\ufeff" + json.dumps(content))
    expected = (("zebra",), ("tiger", "big cat"))
    assert Vocabulary.read(tmp_path / name).classes == Vocabulary.parse(str(tmp_path / name)).classes == expected


def test_an_object_of_names_and_numbers_is_read_in_their_order(tmp_path):
    (tmp_path / "c.json").write_text('{"zebra": 1, "tiger": 0}')
    assert Vocabulary.read(tmp_path / "c.json").names == ("tiger", "zebra")
    (tmp_path / "c.json").write_text('["zebra", "zebra"]')
    with pytest.raises(ValueError, match="two classes"):
        Vocabulary.read(tmp_path / "c.json")


@pytest.mark.parametrize(
    "text",
    [
        "2-door car\n4-door car",
        "7 up\ncola",
        "boeing 737\nsaab 340",
        "1. FC\nzebra",
        "no. 1\nno. 5",
        "name tag\nlabel",
    ],
)
def test_names_that_hold_numbers_or_words_of_tables_stay_names(tmp_path, text):
    (tmp_path / "c.txt").write_text(text)
    assert Vocabulary.read(tmp_path / "c.txt").names == tuple(text.split("\n"))


def test_a_separator_that_is_named_takes_the_other_signs_as_they_are(tmp_path):
    (tmp_path / "c.txt").write_text("zebra;horse\ntiger;cat")
    assert Vocabulary.read(tmp_path / "c.txt", separator=";").classes == (("zebra", "horse"), ("tiger", "cat"))


@pytest.mark.parametrize(
    "text", ["zebra; tiger; grass", "zebra;tiger", "zebra|tiger", "zebra\ttiger", "zebra; horse, cat"]
)
def test_words_with_something_else_between_than_commas_are_refused(text):
    with pytest.raises(ValueError, match="between commas"):
        Vocabulary.parse(text)


@pytest.mark.parametrize("name", ["classes.csv", "classes.json", "CLASSES.TXT", "classes.yaml"])
def test_a_text_that_ends_like_a_file_is_no_word(name):
    with pytest.raises(ValueError, match="can't be read"):
        Vocabulary.parse(name)


def test_a_file_in_a_folder_is_read_whatever_its_suffix(tmp_path):
    (tmp_path / "classes").write_text("cat\ndog")
    assert Vocabulary.parse(str(tmp_path / "classes")).names == ("cat", "dog")

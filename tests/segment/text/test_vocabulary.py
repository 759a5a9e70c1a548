"""Vocabularies from texts, lists and class-name files in every layout that the released code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from segment.text.vocabulary import Vocabulary


def written(folder: Path, text: str) -> Path:
    path = folder / "classes.txt"
    path.write_bytes(text.encode())
    return path


def test_a_text_names_one_class_between_two_commas():
    vocabulary = Vocabulary.parse("cat, dog,  grass ")
    assert vocabulary.classes == (("cat",), ("dog",), ("grass",))
    assert vocabulary.names == vocabulary.queries == ("cat", "dog", "grass")
    assert vocabulary.owners == (0, 1, 2)
    assert vocabulary.background is None


def test_a_list_may_hold_words_and_lists_of_synonyms():
    vocabulary = Vocabulary.parse(["cat", ["person", "man"], ("tv", "monitor", "screen")])
    assert vocabulary.queries == ("cat", "person", "man", "tv", "monitor", "screen")
    assert vocabulary.owners == (0, 1, 1, 2, 2, 2)
    assert vocabulary.names == ("cat", "person", "tv")
    assert len(vocabulary) == 3


def test_a_vocabulary_passes_through_parse_as_it_is():
    vocabulary = Vocabulary.parse("cat, dog")
    assert Vocabulary.parse(vocabulary) is vocabulary


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("ship\nperson, person in shirt\ntable", (("ship",), ("person", "person in shirt"), ("table",))),
        ("ship\nperson,man\ntable", (("ship",), ("person", "man"), ("table",))),
        # With "; " somewhere in the file, commas are parts of names, in all of its lines.
        ("door, double door\ntv; screen, flat", (("door, double door",), ("tv", "screen, flat"))),
        ("chestofdrawers\npooltable", (("chestofdrawers",), ("pooltable",))),
    ],
    ids=["SCLIP", "ClearCLIP", "ProxyCLIP", "no synonyms"],
)
def test_a_file_tells_by_itself_what_stands_between_synonyms(tmp_path, text, classes):
    assert Vocabulary.read(written(tmp_path, text)).classes == classes


def test_a_separator_that_is_given_is_the_only_one(tmp_path):
    path = written(tmp_path, "door, double door\ntv, screen")
    assert Vocabulary.read(path, separator="; ").classes == (("door, double door",), ("tv, screen",))
    assert Vocabulary.read(path, separator=",").classes == (("door", " double door"), ("tv", " screen"))


def test_a_file_keeps_blanks_and_case_and_may_end_in_a_newline(tmp_path):
    expected = (("Sky",), ("wood ",))
    assert Vocabulary.read(written(tmp_path, "Sky\nwood ")).classes == expected
    assert Vocabulary.read(written(tmp_path, "Sky\nwood \n")).classes == expected
    assert Vocabulary.read(written(tmp_path, "\ufeffSky\r\nwood \r\n")).classes == expected
    assert Vocabulary.read(written(tmp_path, "Sky\nwood ")).names == ("Sky", "wood")


def test_the_released_background_line_makes_46_queries_of_21_classes(tmp_path):
    """ProxyCLIP's VOC21: 26 background words and 20 classes of one word."""
    lines = ["; ".join(f"rest {k}" for k in range(26)), *(f"class {k}" for k in range(20))]
    vocabulary = Vocabulary.parse(written(tmp_path, "\n".join(lines)), background=0)
    assert (len(vocabulary), len(vocabulary.queries)) == (21, 46)
    assert vocabulary.names[0] == "background"
    assert vocabulary.owners == (0,) * 26 + tuple(range(1, 21))


def test_a_text_that_ends_in_txt_is_a_file(tmp_path):
    path = written(tmp_path, "cat\ndog")
    assert Vocabulary.parse(str(path)) == Vocabulary.parse(path) == Vocabulary.parse("cat, dog")
    with pytest.raises(ValueError, match=r"nowhere\.txt"):
        Vocabulary.parse("nowhere.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("cat\n\ndog", "line 2 .* is blank"),
        ("cat\ndog\n\n", "line 3 .* is blank"),
        ("cat, , kitten\ndog", "line 1 .* empty synonym"),
        ("cat, kitten,tom\ndog", "line 1 .*holds a comma without a blank"),
        ("cat\ndog\ncat", "`cat` stands in two classes .*, 0 and 2"),
        ("cat, kitten, cat", "`cat` stands 2 times in class 0"),
        ("cat\0\ndog", "classes.txt` holds zero bytes"),
    ],
)
def test_a_file_that_would_shift_or_hide_classes_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.read(written(tmp_path, text))


def test_a_file_in_another_encoding_is_refused_by_name(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"classes\.txt.*UTF-8"):
        Vocabulary.read(path)


def test_a_word_may_stand_in_the_background_and_in_a_class(tmp_path):
    """COCO-Object's file has «bed» among the background words and as a class."""
    path = written(tmp_path, "sky, bed\ncat\nbed")
    assert Vocabulary.read(path, background=0).owners == (0, 0, 1, 2)
    assert Vocabulary.read(path, repeats=True).classes[2] == ("bed",)
    with pytest.raises(ValueError, match="background=0"):
        Vocabulary.read(path)


def test_a_word_may_stand_twice_in_one_class_only_where_it_is_said(tmp_path):
    """CLIPtrase's words of VOC have «bed» twice in the background: each counts in the softmax."""
    path = written(tmp_path, "cat\nsky, bed, wall, bed")
    with pytest.raises(ValueError, match="`bed` stands 2 times in class 1"):
        Vocabulary.read(path, background=1)
    assert Vocabulary.read(path, background=1, repeats=True).owners == (0, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="`bed` stands 2 times in class 0"):
        Vocabulary.parse("cat").with_background("bed, bed")


def test_background_words_become_class_0_or_the_last_class():
    animals = Vocabulary.parse("cat, dog")
    first = animals.with_background("sky, wall")
    assert first.classes == (("sky", "wall"), ("cat",), ("dog",))
    assert (first.background, first.names, first.owners) == (0, ("background", "cat", "dog"), (0, 0, 1, 2))
    last = animals.with_background(["sky", "wall"], place="last")
    assert (last.background, last.names, last.owners) == (2, ("cat", "dog", "background"), (0, 1, 2, 2))
    assert animals.background is None


def test_a_second_background_is_refused():
    with pytest.raises(ValueError, match="has a background already"):
        Vocabulary.parse("cat").with_background("sky").with_background("wall")
    with pytest.raises(ValueError, match="middle"):
        Vocabulary.parse("cat").with_background("sky", place="middle")


@pytest.mark.parametrize("source", ["", "cat,,dog", "cat\ndog", [], [[]], ["cat", " "], ["cat", "cat"]])
def test_sources_without_clear_words_are_refused(source):
    with pytest.raises(ValueError, match=r"cat|class|words"):
        Vocabulary.parse(source)


@pytest.mark.parametrize("source", [7, [7], [["cat", 7]]])
def test_sources_of_another_type_are_refused(source):
    with pytest.raises(TypeError, match=r"7|int"):
        Vocabulary.parse(source)


def test_a_background_must_be_the_number_of_a_class():
    with pytest.raises(ValueError, match=r"0…1.*got 2"):
        Vocabulary.parse("cat, dog", background=2)

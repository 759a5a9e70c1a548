"""Released word lists: as many classes and queries as the repositories have, and words that are known."""

from __future__ import annotations

import pytest

from segment.datasets import open_dataset
from segment.datasets.names import class_names
from segment.datasets.words import WORD_LISTS, load_words, word_list_choices, word_list_data_sets
from segment.text.vocabulary import Vocabulary

# Lines -> queries of each class-name file. Source: the files at the commits that the lists name.
COUNTS = {
    ("sclip", "voc20"): (20, 30),
    ("sclip", "voc21"): (21, 56),
    ("sclip", "context59"): (59, 59),
    ("sclip", "context60"): (60, 60),
    ("sclip", "coco-object"): (81, 113),
    ("sclip", "ade150"): (150, 150),
    ("sclip", "coco-stuff"): (171, 171),
    ("sclip", "coco-stuff-10k"): (171, 171),
    ("sclip", "cityscapes"): (19, 19),
    ("sfp", "voc20"): (20, 30),
    ("sfp", "voc21"): (21, 56),
    ("sfp", "coco-object"): (81, 113),
    ("sfp", "context60"): (60, 60),
    ("clearclip", "voc20"): (20, 20),
    ("clearclip", "voc21"): (21, 21),
    ("clearclip", "coco-object"): (81, 81),
    ("proxyclip", "voc20"): (20, 20),
    ("proxyclip", "voc21"): (21, 46),
    ("proxyclip", "coco-object"): (81, 97),
    ("cliptrase", "voc20"): (20, 20),
    ("cliptrase", "voc21"): (21, 20 + 33),
    ("cliptrase", "context60"): (60, 60),
    ("cliptrase", "coco-object"): (81, 80 + 107),
}
# Lists that take the names of the data set.
FROM_NAMES = {("proxyclip", data) for data in ("context459", "ade847")}
FROM_NAMES |= {("cliptrase", data) for data in ("context59", "coco-stuff", "ade150", "context459", "ade847")}


@pytest.mark.parametrize("words, data", COUNTS)
def test_classes_and_queries_are_as_many_as_in_the_released_files(words, data):
    loaded = load_words(words, data)
    assert isinstance(loaded, Vocabulary)
    assert (len(loaded), len(loaded.queries)) == COUNTS[words, data]


@pytest.mark.parametrize("words", ["sclip", "naclip", "sc-clip"])
def test_naclip_and_sc_clip_have_the_words_of_sclip(words):
    for data in word_list_data_sets("sclip"):
        assert load_words(words, data) == load_words("sclip", data)


def test_sclip_calls_boats_ships_and_tables_tables():
    classes = dict(zip(class_names("voc"), load_words("sclip", "voc20").classes, strict=True))
    assert classes["boat"] == ("ship",)
    assert classes["diningtable"] == ("table",)
    assert classes["pottedplant"] == ("pottedplant",)
    assert classes["tvmonitor"] == ("television monitor", "tv monitor", "monitor", "television", "screen")
    assert classes["person"][::6] == ("person", "person in jacket")
    assert load_words("sclip", "voc21").classes[1:] == load_words("sclip", "voc20").classes


def test_the_background_of_voc21_has_26_words_and_is_coco_objects_too():
    voc, coco = load_words("sclip", "voc21"), load_words("sclip", "coco-object")
    assert len(voc.classes[0]) == 26
    assert voc.classes[0] == coco.classes[0]
    assert voc.names[0] == "background"
    assert coco.classes[1][-1] == "body"


def test_the_last_word_of_context_keeps_its_blank():
    assert load_words("sclip", "context60").queries[-1] == "wood "
    assert load_words("clearclip", "context59").queries[-1] == "wood "


def test_sfp_says_people_in_voc_and_cityscapes_and_person_in_coco():
    assert load_words("sfp", "voc21").classes[15][:2] == ("people", "people in shirt")
    assert "people" in load_words("sfp", "cityscapes").queries
    assert load_words("sfp", "coco-object") == load_words("sclip", "coco-object")


def test_names_of_several_words_are_written_as_one():
    ade = load_words("sclip", "ade150").queries
    assert {"chestofdrawers", "pooltable", "televisionreceiver"} <= set(ade)
    stuff = load_words("sclip", "coco-stuff").queries
    assert {"trafficlight", "building-other", "desk-stuff"} <= set(stuff)
    assert not any(" " in word for word in (*ade, *stuff))
    assert {"trafficlight", "trafficsign", "person"} <= set(load_words("sclip", "cityscapes").queries)


def test_proxyclip_has_17_words_for_the_background_of_coco():
    words = load_words("proxyclip", "coco-object").classes[0]
    assert len(words) == 17
    assert set(words) < set(load_words("sclip", "voc21").classes[0])


def test_cliptrase_has_its_background_last_with_a_missing_comma():
    voc = load_words("cliptrase", "voc21")
    assert voc.background == 20
    assert "beachhill" in voc.classes[20]
    assert voc.classes[20].count("bed") == 2
    assert voc.classes[19] == ("tv",)
    assert load_words("cliptrase", "coco-object").classes[80][16:] == class_names("coco-stuff")


def test_words_fit_the_data_set_of_their_own_convention_alone(miniature):
    root = miniature("coco-object").root
    usual, cliptrase = (open_dataset(f"coco-object:convention={name}", root) for name in ("usual", "cliptrase"))
    assert len(load_words("sclip", "coco-object", usual)) == 81
    assert load_words("cliptrase", "coco-object:convention=cliptrase", cliptrase).background == 80
    with pytest.raises(ValueError, match=r"background as class 80; the data set has .* as class 0.*convention"):
        load_words("cliptrase", "coco-object", usual)
    with pytest.raises(ValueError, match="convention"):
        load_words("clearclip", "coco-object", cliptrase)


def test_names_beside_the_data_are_one_query_a_class(miniature):
    data = open_dataset("context459", miniature("context459").root)
    assert load_words("proxyclip", "context459", data).queries == data.names
    assert load_words("names", "context459", data).queries == data.names
    with pytest.raises(ValueError, match="give the data set itself"):
        load_words("proxyclip", "context459")


@pytest.mark.parametrize("words", [name for name in WORD_LISTS if name != "names"])
def test_every_list_says_what_is_chosen_and_has_one_for_each_data_set_that_it_names(words):
    assert word_list_choices(words)
    for data in word_list_data_sets(words):
        try:
            assert len(load_words(words, data)) in (19, 20, 21, 59, 60, 81, 150, 171)
        except ValueError as error:
            assert "give the data set itself" in str(error)  # noqa: PT017
            assert (words, data) in FROM_NAMES


def test_lists_and_data_sets_that_are_not_there_are_reported():
    with pytest.raises(ValueError, match="Did you mean `sclip`"):
        load_words("slcip", "voc20")
    with pytest.raises(ValueError, match="have no list for `camvid`, only for"):
        load_words("sfp", "camvid")

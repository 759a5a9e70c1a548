"""Which rows of a classifier a word stands for."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from timm.data import ImageNetInfo

from diagnostics.backbones.timm import timm_backbone
from segment.text.class_head import head_names, rows_of
from segment.text.features import text_features

# The classes of ImageNet-1k that are dogs, domestic cats and birds, by their well-known places in its list.
DOGS = list(range(151, 269))
CATS = list(range(281, 286))
BIRDS = [*range(7, 25), *range(80, 101), *range(127, 147)]


@pytest.fixture(scope="module")
def imagenet():
    """A random ViT of width 48 with a head of 1000 rows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(
            "vit_tiny_patch16_224", embed_dim=48, depth=2, num_heads=2, num_classes=1000, img_size=64
        )
    return timm_backbone(model, "own", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_animals_of_voc_stand_for_their_rows_of_imagenet():
    rows_by_word = rows_of(["bird", "cat", "cow", "dog", "horse", "sheep"], 1000)
    info = ImageNetInfo()
    names = {word: [info.index_to_description(row) for row in rows] for word, rows in rows_by_word.items()}
    assert rows_by_word["bird"] == BIRDS
    assert rows_by_word["cat"] == CATS
    assert rows_by_word["dog"] == DOGS
    assert names["cow"] == ["ox"]
    assert names["horse"] == ["sorrel"]
    assert [name.split(",")[0] for name in names["sheep"]] == ["ram", "bighorn"]


def test_all_classes_of_voc_have_rows_of_their_own():
    things = ["aeroplane", "bicycle", "boat", "bottle", "bus", "car", "chair", "diningtable", "motorbike", "person"]
    animals = ["bird", "cat", "cow", "dog", "horse", "sheep"]
    words = [*things, *animals, "pottedplant", "sofa", "train", "tvmonitor"]
    rows = [row for of_class in rows_of(words, 1000).values() for row in of_class]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("count", [11221, 11821, 21841, 21842, 21843])
def test_a_branch_of_animals_is_the_same_branch_in_the_larger_heads(count):
    small, large = head_names(1000), head_names(count)
    for word in ("dog", "bird", "sheep"):
        branch = {large.numbers[row] for row in rows_of([word], count)[word]}
        inside = {small.numbers[row] for row in rows_of([word], 1000)[word]}
        outside = set(small.numbers) - inside
        assert inside & set(large.numbers) <= branch
        assert not branch & outside


def test_a_name_counts_before_the_ends_of_names_and_case_does_not():
    assert rows_of(["lion"], 1000)["lion"] == [291]  # not the sea lion
    assert rows_of(["Golden  Retriever"], 1000)["Golden  Retriever"] == [207]
    assert rows_of(["golden_retriever"], 1000)["golden_retriever"] == [207]
    # Nothing is called spaniel; every name that ends so is one.
    info = ImageNetInfo()
    spaniels = [info.index_to_description(row) for row in rows_of(["spaniel"], 1000)["spaniel"]]
    assert len(spaniels) == 9
    assert all("spaniel" in name for name in spaniels)


def test_an_unknown_word_is_answered_with_near_names():
    with pytest.raises(ValueError, match=r"`zerba`.*zebra.*rows="):
        rows_of(["cat", "zerba"], 1000)


def test_a_mapping_comes_first_and_may_name_rows_numbers_ranges_and_words(tmp_path):
    mapping = {"Cat": [7, "n02123045", "zebra"], "pet": ["n02123045-n02123597", "dog"]}
    rows = rows_of(["cat", "pet", "sheep"], 1000, mapping=mapping)
    assert rows == {"cat": [7, 281, 340], "pet": [*DOGS, 281, 282, 283, 284], "sheep": [348, 349]}
    (tmp_path / "rows.json").write_text(json.dumps(mapping), encoding="utf-8")
    assert rows_of(["cat", "pet", "sheep"], 1000, mapping=tmp_path / "rows.json") == rows


@pytest.mark.parametrize("entries", [[], 3, "n02123045", [1000], [-1], [True], ["n00000000"], ["no such thing"]])
def test_entries_of_a_mapping_that_lead_nowhere_are_refused(entries):
    with pytest.raises(ValueError, match="`cat`"):
        rows_of(["cat"], 1000, mapping={"cat": entries})


def test_a_head_without_known_names_needs_a_mapping():
    assert head_names(10) is None
    assert rows_of(["cat"], 10, mapping={"cat": [9]}) == {"cat": [9]}
    with pytest.raises(ValueError, match=r"10 rows.*rows=\{'dog'"):
        rows_of(["cat", "dog"], 10, mapping={"cat": [9]})


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 50_000, None])
def test_a_mapping_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.json"):
        rows_of(["cat"], 1000, mapping=path)


def test_a_row_belongs_to_the_class_that_names_the_fewest(imagenet):
    text = text_features(imagenet, "bird, flamingo, cat", combine="each")
    head = torch.nn.functional.normalize(imagenet.class_head(), dim=-1)
    assert text.owners.tolist() == [0] * (len(BIRDS) - 1) + [1] + [2] * len(CATS)
    assert torch.allclose(text.features[len(BIRDS) - 1], head[130], atol=1e-6)


def test_synonyms_share_rows_but_classes_do_not(imagenet):
    text = text_features(imagenet, [["boat", "ship"], "cat"], combine="each")
    assert text.owners.tolist().count(0) == len(rows_of(["boat"], 1000)["boat"])
    with pytest.raises(ValueError, match=r"`boat`.*`ship`.*same rows"):
        text_features(imagenet, "boat, ship")
    with pytest.raises(ValueError, match=r"`one`.*no row"):
        text_features(imagenet, "one, two, three", rows={"one": [1, 2, 3], "two": [1], "three": [2, 3]})


def test_an_unknown_way_to_combine_rows_is_refused(imagenet):
    with pytest.raises(ValueError, match="mean or each"):
        text_features(imagenet, "cat", combine="sum")


def test_a_word_that_names_several_class_embeddings_says_which():
    with pytest.warns(
        UserWarning, match=r"`crane` is the name of 2 .*134 \(n02012849: crane\), 517 \(n03126707: crane\)"
    ):
        assert rows_of(["crane"], 1000) == {"crane": [134, 517]}


@pytest.mark.filterwarnings("error")
def test_a_word_is_not_ambiguous_where_its_embeddings_are_chosen_or_it_names_a_branch():
    assert rows_of(["crane"], 1000, mapping={"crane": [134]}) == {"crane": [134]}
    assert len(rows_of(["dog", "bottle"], 1000)["dog"]) > 1

"""Each data set, from a miniature of it on disk: its counts, ids, labels in their order, and what is not scored."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment.datasets import DATASETS, OnDisk, needs_root, open_dataset
from segment.datasets.arrangement import DatasetError
from segment.datasets.coco_layout import UNUSED
from segment.datasets.context_layout import FREQUENT
from segment.datasets.facts import DatasetFacts

VOID, WIDE_VOID = 255, 65535
# name -> classes, images of the whole data set, what is not scored, background: what others say of the data sets that
# are published. Sources: the papers' data sections, mmsegmentation's data sets.
PUBLISHED = {
    "voc20": (20, 1449, VOID, None),
    "voc21": (21, 1449, VOID, 0),
    "context59": (59, 5104, VOID, None),
    "context60": (60, 5104, None, 0),
    "context459": (459, 5104, WIDE_VOID, None),
    "coco-object": (81, 5000, None, 0),
    "coco-stuff": (171, 5000, VOID, None),
    "coco-stuff-10k": (171, 1000, VOID, None),
    "coco-stuff-27": (27, 2175, VOID, None),
    "ade150": (150, 2000, VOID, None),
    "ade847": (847, 2000, WIDE_VOID, None),
    "cityscapes": (19, 500, VOID, None),
    "cityscapes-27": (27, 500, VOID, None),
    "camvid": (11, 233, VOID, None),
}
OURS = list(DATASETS.listed)
ON_DISK = [name for name in OURS if needs_root(name)]
DRAWN = [name for name in OURS if not needs_root(name)]


def reduced(raw: int) -> int:
    """mmsegmentation's reduce_zero_label, as its three steps: 0 -> 255, minus 1, 254 -> 255."""
    raw = (255 if raw == 0 else raw) - 1
    return 255 if raw == 254 else raw


def of_sixty(raw: int) -> int:
    return FREQUENT.index(raw) + 1 if raw in FREQUENT else 0


def stuff(raw: int) -> int:
    """One less for every unused value below."""
    return VOID if raw == VOID else raw - sum(unused < raw for unused in UNUSED)


def thing(raw: int) -> int:
    return stuff(raw) + 1 if raw <= 89 else 0


CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
# One pixel at a time, from the description of each data set.
SLOWLY = {
    "voc20": reduced,
    "voc21": lambda raw: raw,
    "context59": reduced,
    "context60": lambda raw: raw,
    "context459": lambda raw: raw - 1 if raw else WIDE_VOID,
    "coco-object": thing,
    "coco-stuff": stuff,
    "coco-stuff-10k": reduced,
    "ade150": reduced,
    "ade847": lambda raw: raw,
    "cityscapes": lambda raw: CITYSCAPES_IDS.index(raw) if raw in CITYSCAPES_IDS else VOID,
    "cityscapes-27": lambda raw: raw - 7 if raw >= 7 else VOID,
    "camvid": lambda raw: VOID if raw == 11 else raw,
    "folder": lambda raw: raw,
}


@pytest.mark.parametrize("name", OURS)
def test_every_data_set_declares_its_counts_and_its_miniature(name):
    declared = getattr(DATASETS[name], "declared", None)
    assert isinstance(declared, DatasetFacts), f"put @DatasetFacts(classes=…, images=…) before the data set `{name}`"
    assert (declared.miniature is not None) == needs_root(name), "one that is read from disk needs a miniature"


@pytest.mark.parametrize("name", ON_DISK)
def test_a_data_set_is_read_back_from_its_miniature_with_the_declared_counts(name, miniature):
    mini, declared = miniature(name), DATASETS[name].declared
    data = open_dataset(name, mini.root)
    assert isinstance(data, OnDisk)
    assert declared.classes in (None, len(data.names))
    assert declared.images == data.expected
    assert len(set(data.names)) == len(data.names)
    assert len(data) == len(mini.raw) >= 2
    assert [data.sample_name(number) for number in range(len(data))] == sorted(mini.raw)
    for sample, wanted in zip(data, sorted(mini.raw), strict=True):
        assert sample.name == wanted
        assert sample.image.shape == (*mini.size, 3)
        assert sample.image.dtype == np.uint8
        scored = sample.labels[sample.labels != data.ignore]
        assert scored.max(initial=0) < len(data.names)
    if data.background is not None:
        assert data.names[data.background] == "background"


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_data_set_has_the_declared_counts_and_labels_of_its_classes(name):
    data, declared = open_dataset(name), DATASETS[name].declared
    assert (len(data.names), len(data)) == (declared.classes, declared.images)
    assert len(set(data.names)) == len(data.names)
    for number in {0, len(data) - 1}:
        sample = data[number]
        assert sample.name == data.sample_name(number)
        assert (sample.image.shape, sample.image.dtype) == ((*sample.labels.shape, 3), np.uint8)
        assert sample.labels[sample.labels != data.ignore].max(initial=0) < len(data.names)
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy[0].image, data[0].image)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_and_what_is_not_scored_are_as_published(name, miniature):
    data = open_dataset(name, miniature(name).root)
    assert (len(data.names), data.expected, data.ignore, data.background) == PUBLISHED[name]
    declared = DATASETS[name].declared
    assert (declared.classes, declared.images) == PUBLISHED[name][:2]
    assert declared.usual is not None
    assert declared.usual[0] > declared.usual[1], "width and height of most images, which are wider than high"


@pytest.mark.parametrize("name", SLOWLY)
def test_labels_are_those_of_a_plain_loop(name, miniature):
    mini = miniature(name)
    for sample in open_dataset(name, mini.root):
        raw = mini.raw[sample.name]
        wanted = [[SLOWLY[name](int(raw[y, x])) for x in range(raw.shape[1])] for y in range(raw.shape[0])]
        assert sample.labels.tolist() == wanted


@pytest.mark.parametrize("name", OURS)
def test_the_first_line_of_each_builder_tells_its_counts(name, miniature):
    declared = DATASETS[name].declared
    line = (DATASETS[name].__doc__ or "").partition("\n")[0]
    assert line.endswith((".", ":"))
    if declared.classes is not None and needs_root(name):
        background = open_dataset(name, miniature(name).root).background
        numbers = {int(number) for number in re.findall(r"\b\d+\b", line)}
        assert {declared.classes - (background is not None), declared.images} - {None} <= numbers


@pytest.mark.parametrize("name", ON_DISK)
def test_a_data_set_goes_to_another_process_and_reads_the_same(name, miniature):
    data = open_dataset(name, miniature(name).root)
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy[1].labels, data[1].labels)
    assert copy.names == data.names


@pytest.mark.parametrize("name", ON_DISK)
def test_a_wrong_root_is_reported_with_what_was_expected(name, miniature, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: is not a directory\. Give"):
        open_dataset(name, tmp_path / "nowhere")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach").mkdir()
    with pytest.raises(ValueError, match=r"holds beach.*(Give|It should hold)"):
        open_dataset(name, tmp_path / "holiday")


@pytest.mark.parametrize("name", ON_DISK)
def test_a_missing_label_map_is_reported_when_its_image_is_read(name, miniature):
    mini = miniature(name)
    data = open_dataset(name, mini.root)
    pair = data.listing.pairs[1]
    (mini.root / pair.mask).unlink()
    data = open_dataset(name, mini.root)
    assert len(data) == len(mini.raw)
    with pytest.raises(ValueError, match=f"{re.escape(pair.mask)}: is missing: the image .* has no label map"):
        data[1]


@pytest.mark.parametrize("name", ["voc20", "voc21", "context59", "context60", "context459", "coco-stuff-27"])
@pytest.mark.parametrize("led", ["../../mine/victim", "/mine/victim", "a/../../victim"])
def test_an_id_in_a_list_that_leads_out_of_the_data_set_is_refused_by_name(name, led, miniature):
    mini = miniature(name)
    arrangement, base = open_dataset(name, mini.root).listing.arrangement, open_dataset(name, mini.root).listing.base
    listed = next(base / place for place in arrangement.lists if (base / place).is_file())
    listed.write_text(f"{listed.read_text()}{led}\n")
    with pytest.raises(
        DatasetError, match=rf"{re.escape(str(listed))}: names `{re.escape(led)}`, which (has|is an abs)"
    ):
        open_dataset(name, mini.root)


def test_folders_that_are_links_out_of_the_root_are_read(miniature, tmp_path):
    mini = miniature("voc21")
    data = open_dataset("voc21", mini.root)
    expected = [data[number] for number in range(len(data))]
    base, arrangement = data.listing.base, data.listing.arrangement
    for folder in (arrangement.images, arrangement.masks):
        elsewhere = tmp_path / "elsewhere" / folder
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        (base / folder).rename(elsewhere)
        (base / folder).symlink_to(elsewhere)
    data = open_dataset("voc21", mini.root)
    assert len(data) == len(expected)
    for sample, before in zip((data[number] for number in range(len(data))), expected, strict=True):
        assert np.array_equal(sample.image, before.image)
        assert np.array_equal(sample.labels, before.labels)


@pytest.mark.parametrize("name", ON_DISK)
def test_images_without_any_annotation_are_reported(name, miniature):
    mini = miniature(name)
    for pair in open_dataset(name, mini.root).listing.pairs:
        (mini.root / pair.mask).unlink()
    with pytest.raises(ValueError, match=f"has no label map for any of the {len(mini.raw)} images"):
        open_dataset(name, mini.root)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_label_map_with_unknown_values_is_reported_with_them(name, miniature):
    mini = miniature(name)
    data = open_dataset(name, mini.root)
    mask, variable = data.listing.pairs[-1].mask, data.listing.variable
    unknown = next((value for value in range(200, 2**16) if value not in data.listing.codes.labels), None)
    assert unknown is not None, "a data set whose label maps may hold any value can't see a wrong one"
    raw = mini.raw[data.sample_name(len(data) - 1)].copy()
    raw[0, :2] = unknown
    mini.write_mask(mask, raw, variable=variable)
    with pytest.raises(ValueError, match=rf"{re.escape(mask)}: holds the values {unknown}, but should hold .*0…"):
        data[-1]


@pytest.mark.parametrize("name", ON_DISK)
def test_a_damaged_image_and_a_damaged_label_map_are_named(name, miniature):
    data = open_dataset(name, miniature(name).root)
    for number, path in ((0, data.listing.pairs[0].image), (1, data.listing.pairs[1].mask)):
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 3])
        with pytest.raises(ValueError, match=re.escape(path)):
            data[number]


def test_a_label_map_of_another_size_is_reported(miniature):
    data = open_dataset("camvid", miniature("camvid").root)
    mask = data.listing.pairs[0].mask
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"it is 9x6 but its image .* is 8x6"):
        data[0]


def test_a_image_that_exif_turns_is_taken_as_its_label_map_has_it(miniature):
    data = open_dataset("ade150", miniature("ade150").root)
    image, mask = data.listing.pairs[0].image, data.listing.pairs[0].mask
    stored = Image.open(image).copy()
    exif = Image.Exif()
    exif[274] = 6
    stored.save(image, exif=exif, quality=100)
    assert data[0].image.shape == (6, 8, 3)
    upright = np.asarray(Image.open(mask)).T
    Image.fromarray(np.ascontiguousarray(upright)).save(mask)
    assert data[0].image.shape == (8, 6, 3)


def test_drawn_data_sets_take_no_root_and_those_on_disk_need_one(tmp_path):
    assert len(open_dataset("shapes:scenes=4")) == 4
    with pytest.raises(ValueError, match="is drawn"):
        open_dataset("shapes", tmp_path)
    with pytest.raises(ValueError, match="say where, with --root"):
        open_dataset("voc20")
    with pytest.raises(ValueError, match="Did you mean `voc21`"):
        open_dataset("voc212", tmp_path)
    with pytest.raises(ValueError, match="by itself"):
        open_dataset("voc21:root=somewhere", tmp_path)


def test_what_others_publish_is_compared_for_every_data_set_that_has_it():
    assert set(PUBLISHED) | {"folder"} == set(SLOWLY) | {"coco-stuff-27"}
    assert set(PUBLISHED) <= set(ON_DISK)

"""Label order, merges, and the other forms and conventions in which the same data set comes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from segment.datasets import open_dataset
from segment.datasets.coco_layout import RAW, UNUSED
from segment.datasets.codes import Codes, ranges
from segment.datasets.context_layout import FREQUENT
from segment.datasets.names import class_names, coco_supercategories


def names_of_values(data, mini) -> dict[int, str]:
    """Raw value -> the name of the class that it became, over a miniature; scored pixels only."""
    names = {}
    for sample in data:
        for raw, label in zip(mini.raw[sample.name].flat, sample.labels.flat, strict=True):
            if label != data.ignore:
                names[int(raw)] = data.names[label]
    return names


def test_voc_values_get_the_names_of_its_alphabet(miniature):
    mini = miniature("voc20")
    names = names_of_values(open_dataset("voc20", mini.root), mini)
    assert names == {1: "aeroplane", 20: "tvmonitor", 7: "car", 15: "person"}
    names = names_of_values(open_dataset("voc21", mini.root), mini)
    assert names == {0: "background", 1: "aeroplane", 20: "tvmonitor", 7: "car", 15: "person"}


def test_coco_has_things_before_stuff_and_leaves_out_eleven_ids(miniature):
    mini = miniature("coco-stuff")
    names = names_of_values(open_dataset("coco-stuff", mini.root), mini)
    # Source: category ids of COCO and COCO-Stuff, minus one: 13 stop sign, 90 toothbrush, 92 banner, 93 blanket, …
    assert names == {
        0: "person",
        10: "fire hydrant",
        12: "stop sign",
        79: "toaster",
        89: "toothbrush",
        91: "banner",
        92: "blanket",
        181: "wood",
    }
    assert len(UNUSED) == 11
    assert len(RAW.labels) == 171 + 1


def test_coco_object_has_only_things_and_scores_the_unlabeled_as_background(miniature):
    mini = miniature("coco-object")
    names = names_of_values(open_dataset("coco-object", mini.root), mini)
    assert {raw for raw, name in names.items() if name == "background"} == {91, 92, 181, 255}
    assert (names[0], names[12], names[89]) == ("person", "stop sign", "toothbrush")


def test_cliptrase_counts_only_void_and_banner_as_background_of_coco(miniature):
    mini = miniature("coco-object")
    data = open_dataset("coco-object:convention=cliptrase", mini.root)
    assert (data.background, data.names[80], data.ignore) == (80, "background", 255)
    names = names_of_values(data, mini)
    assert {raw for raw, name in names.items() if name == "background"} == {91, 255}
    assert (names[0], names[89]) == ("person", "toothbrush")
    assert not {92, 181} & names.keys()  # stuff from «blanket» on is dropped


def test_cliptrase_has_the_background_of_voc_last_and_void_in_it(miniature):
    mini = miniature("voc21")
    data = open_dataset("voc21:convention=cliptrase", mini.root)
    assert (len(data.names), data.background, data.ignore) == (21, 20, None)
    names = names_of_values(data, mini)
    assert (names[0], names[255], names[1], names[20]) == ("background", "background", "aeroplane", "tvmonitor")


def test_cliptrase_has_the_background_of_context_last(miniature):
    mini = miniature("context60")
    data = open_dataset("context60:convention=cliptrase", mini.root)
    assert (len(data.names), data.background, data.ignore) == (60, 59, None)
    names = names_of_values(data, mini)
    assert (names[0], names[1], names[59]) == ("background", "aeroplane", "wood")


def test_context59_leaves_the_background_out_and_begins_with_the_first_class(miniature):
    mini = miniature("context59")
    data = open_dataset("context59", mini.root)
    assert (len(data.names), data.background) == (59, None)
    named = names_of_values(data, mini)
    assert named.keys() == {1, 59, 3, 17, 40}, "0 is not scored"
    assert (named[1], named[59]) == ("aeroplane", "wood")
    for sample in data:
        raw = mini.raw[sample.name]
        assert np.array_equal(sample.labels[raw > 0], raw[raw > 0] - 1)
        assert (sample.labels[raw == 0] == data.ignore).all()


def test_copies_moved_down_by_one_give_the_same_voc20(empty):
    empty.image("images_detectron2/val/a.jpg")
    empty.mask("annotations_detectron2/val/a.png", "a", {0, 19, 255})
    names = names_of_values(open_dataset("voc20", empty.root), empty)
    assert names == {0: "aeroplane", 19: "tvmonitor"}
    names = names_of_values(open_dataset("voc21:convention=cliptrase", empty.root), empty)
    assert names == {0: "aeroplane", 19: "tvmonitor", 255: "background"}
    with pytest.raises(ValueError, match="does not hold PASCAL VOC 2012"):
        open_dataset("voc21", empty.root)  # these copies don't tell void from background


def test_copies_of_ade_moved_down_by_one_give_the_same_labels(empty):
    empty.image("images/validation/a.jpg")
    empty.mask("annotations_detectron2/validation/a.png", "a", {0, 149, 255})
    assert names_of_values(open_dataset("ade150", empty.root), empty) == {0: "wall", 149: "flag"}


def test_context60_is_made_from_the_459_labels_where_only_those_are_there(miniature):
    mini = miniature("context459")
    names = names_of_values(open_dataset("context60", mini.root), mini)
    assert {raw for raw, name in names.items() if name == "background"} == {0, 1, 459, 300}
    named = {raw: name for raw, name in names.items() if name != "background"}
    assert named == {2: "aeroplane", 9: "bag", 23: "bicycle", 31: "boat", 458: "wood"}
    assert len(FREQUENT) == 59


def test_16_bit_tifs_give_the_same_459_classes_as_the_mat_files(miniature):
    mini = miniature("context459")
    from_mat = [sample.labels for sample in open_dataset("context459", mini.root)]
    sixty = [sample.labels for sample in open_dataset("context60", mini.root)]
    for name, raw in mini.raw.items():
        (mini.root / "trainval" / f"{name}.mat").unlink()
        place = mini.root / "annotations_detectron2" / "pc459_val" / f"{name}.tif"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((raw.astype(np.int64) - 1).astype(np.uint16)).save(place)
    mini.image("JPEGImages/of_the_training_part.jpg")
    data = open_dataset("context459", mini.root)
    assert [sample.labels.tolist() for sample in data] == [labels.tolist() for labels in from_mat]
    assert data[0].labels.dtype == np.uint16
    assert [sample.labels.tolist() for sample in open_dataset("context60", mini.root)] == [
        label_map.tolist() for label_map in sixty
    ]


def test_train_ids_give_the_same_labels_as_the_raw_maps(miniature):
    mini = miniature("coco-stuff")
    specs = ("coco-stuff", "coco-object", "coco-object:convention=cliptrase")
    before = {spec: [sample.labels.tolist() for sample in open_dataset(spec, mini.root)] for spec in specs}
    for sample in open_dataset("coco-stuff", mini.root):
        folder = mini.root / "annotations" / "val2017"
        Image.fromarray(sample.labels).save(folder / f"{sample.name}_labelTrainIds.png")
        (folder / f"{sample.name}.png").unlink()
    after = {spec: [sample.labels.tolist() for sample in open_dataset(spec, mini.root)] for spec in specs}
    assert after == before


def test_coco_is_found_as_its_archives_unpack(empty):
    empty.image("val2017/000000000139.jpg")
    empty.mask("stuffthingmaps/val2017/000000000139.png", "000000000139", {0, 181})
    assert names_of_values(open_dataset("coco-stuff", empty.root), empty) == {0: "person", 181: "wood"}


def test_mat_files_of_the_10k_release_hold_category_ids(empty):
    empty.image("images/COCO_train2014_000000000077.jpg")
    empty.mask(
        "annotations/COCO_train2014_000000000077.mat", "COCO_train2014_000000000077", {0, 1, 13, 182}, variable="S"
    )
    empty.lines("imageLists/test.txt", ["COCO_train2014_000000000077"])
    names = names_of_values(open_dataset("coco-stuff-10k", empty.root), empty)
    assert names == {1: "person", 13: "stop sign", 182: "wood"}


def test_27_supercategories_take_in_every_class_of_coco_once(miniature):
    groups = coco_supercategories()
    assert len(groups) == 27
    members = [name for names in groups.values() for name in names]
    assert sorted(members) == sorted(class_names("coco-things") + class_names("coco-stuff"))
    mini = miniature("coco-stuff-27")
    data = open_dataset("coco-stuff-27", mini.root)
    names_by_value = names_of_values(data, mini)
    # 12 supercategories of things, then 15 of stuff; the numbers of PiCIE's table.
    assert [data.names.index(names_by_value[raw]) for raw in (0, 10, 12, 89, 91, 92, 181)] == [9, 8, 8, 4, 17, 17, 24]
    assert (names_by_value[0], names_by_value[89], names_by_value[181]) == ("person", "indoor", "solid")


def test_the_curated_list_chooses_the_images_and_all_takes_every_one(miniature):
    mini = miniature("coco-stuff-27")
    curated = mini.root / "curated" / "val2017" / "Coco164kFull_Stuff_Coarse_7.txt"
    curated.write_text("000000000285\n")
    assert len(open_dataset("coco-stuff-27", mini.root)) == 1
    whole = open_dataset("coco-stuff-27:images=all", mini.root)
    assert (len(whole), whole.expected) == (3, 5000)
    curated.unlink()
    with pytest.raises(ValueError, match=r"Coco164kFull_Stuff_Coarse_7.txt: is missing"):
        open_dataset("coco-stuff-27", mini.root)


def test_cityscapes_classes_are_those_of_torchvision(miniature):
    from torchvision.datasets import Cityscapes

    mini = miniature("cityscapes")
    nineteen = {entry.id: entry.name for entry in Cityscapes.classes if entry.train_id not in (-1, 255)}
    ordered = [
        entry.name for entry in sorted(Cityscapes.classes, key=lambda entry: entry.train_id) if entry.id in nineteen
    ]
    data = open_dataset("cityscapes", mini.root)
    assert list(data.names) == ordered
    every = {raw for values in mini.raw.values() for raw in np.unique(values)}
    assert names_of_values(data, mini) == {raw: name for raw, name in nineteen.items() if raw in every}
    finer = open_dataset("cityscapes-27", mini.root)
    assert list(finer.names) == [entry.name for entry in Cityscapes.classes if 7 <= entry.id <= 33]


def test_cityscapes_train_ids_are_read_and_refused_for_27_classes(miniature):
    mini = miniature("cityscapes")
    before = [sample.labels.tolist() for sample in open_dataset("cityscapes", mini.root)]
    for number, pair in enumerate(open_dataset("cityscapes", mini.root).listing.pairs):
        ids = mini.root / pair.mask
        Image.fromarray(np.array(before[number], dtype=np.uint8)).save(
            ids.with_name(ids.name.replace("labelIds", "labelTrainIds"))
        )
        ids.unlink()
    assert [sample.labels.tolist() for sample in open_dataset("cityscapes", mini.root)] == before
    with pytest.raises(ValueError, match="no label map for any of the 3 images"):
        open_dataset("cityscapes-27", mini.root)


def test_half_converted_label_maps_are_left_for_the_whole_raw_ones(miniature):
    mini = miniature("coco-object")
    wanted = [sample.labels.tolist() for sample in open_dataset("coco-object", mini.root)]
    half = mini.root / "annotations" / "val2017" / "000000000139_instanceTrainIds.png"
    Image.fromarray(np.array(wanted[0], dtype=np.uint8)).save(half)
    data = open_dataset("coco-object", mini.root)
    assert [sample.labels.tolist() for sample in data] == wanted
    assert {pair.mask.endswith("_instanceTrainIds.png") for pair in data.listing.pairs} == {False}


def test_a_root_may_be_given_at_any_of_its_depths(miniature):
    root = miniature("voc21").root
    for depth in ("", "VOCdevkit", "VOCdevkit/VOC2012"):
        assert len(open_dataset("voc21", root / depth)) == 3


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"2007_000033\n2007_000042\n2007_000033\n", "names `2007_000033` twice"),
        ("2007_000033\n".encode("utf-16"), "is no text in UTF-8"),
        (None, "is missing"),
    ],
)
def test_a_list_of_ids_that_can_not_be_used_is_named(miniature, content, message):
    root = miniature("voc20").root
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"val\.txt: {message}"):
        open_dataset("voc20", root)


def test_only_half_of_a_data_set_is_reported(empty):
    empty.image("images/validation/a.jpg")
    with pytest.raises(ValueError, match=r"the images are there, but .*annotations/validation is not"):
        open_dataset("ade150", empty.root)


@pytest.mark.parametrize("name, place", [("context459", "labels.txt"), ("ade847", "ADE20K_2021_17_01/classes.txt")])
def test_names_beside_the_data_are_read_and_their_lack_is_reported(miniature, name, place):
    root = miniature(name).root
    names = open_dataset(name, root).names
    assert names[1] == ("thing 2" if name == "context459" else "thing 1")
    (root / place).write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=rf"has 2 class names, not {len(names)}\. Put"):
        open_dataset(name, root)
    (root / place).unlink()
    with pytest.raises(ValueError, match=rf"no file of the {len(names)} class names \(looked for .*\)\. Put"):
        open_dataset(name, root)


def test_names_come_from_a_json_list_as_well(miniature):
    import json

    root = miniature("ade847").root
    (root / "ADE20K_2021_17_01" / "classes.txt").unlink()
    (root / "ADE20K_2021_17_01" / "ade847.json").write_text(json.dumps([f"kind {number}" for number in range(847)]))
    assert open_dataset("ade847", root).names[846] == "kind 846"


def test_a_folder_counts_from_one_and_has_a_background_if_asked(miniature):
    mini = miniature("folder")
    data = open_dataset("folder:background=2", mini.root)
    assert (data.names, data.background, data[1].name) == (("cat", "dog", "grass"), 2, "b/c")
    (mini.root / "classes.txt").write_text("dog\ngrass\n")
    data = open_dataset("folder:first=1", mini.root)
    assert names_of_values(data, mini) == {1: "dog", 2: "grass"}


def test_a_folder_without_a_class_file_or_with_settings_that_do_not_fit_is_reported(miniature):
    root = miniature("folder").root
    for spec, message in (
        ("folder:background=3", "`background` a label below 3"),
        ("folder:ignore=2", "`ignore` should be 3…65535"),
        ("folder:images=photos", r"photos: is not a directory; .* holds classes.txt, images, masks.*images=NAME"),
        ("folder:classes=names.txt", r"class-name file `.*names.txt` can't be read"),
        ("folder:color=red", "no setting of data set `folder` `color`"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset(spec, root)


def test_images_of_a_folder_that_differ_in_their_suffix_keep_it(empty):
    for place in ("images/a.jpg", "images/a.png", "images/b.jpg"):
        empty.image(place)
    empty.mask("masks/a.png", "a", {0})
    empty.mask("masks/a.jpg.png", "a.jpg", {1})
    empty.mask("masks/b.png", "b", {1})
    empty.lines("classes.txt", ["cat", "dog"])
    data = open_dataset("folder", empty.root)
    assert [data.sample_name(number) for number in range(3)] == ["a.jpg", "a.png", "b"]
    assert [np.unique(data.labels(number)).tolist() for number in range(3)] == [[1], [0], [1]]


def test_codes_name_every_value_they_do_not_know():
    codes = Codes("two labels", {0: 0, 7: 1})
    assert codes.decode(np.array([[0, 7]]), "a.png").tolist() == [[0, 1]]
    with pytest.raises(ValueError, match=re.escape("a.png: holds the values 3, 8, 70000, but should hold two labels")):
        codes.decode(np.array([[0, 3, 8, 70000]]), "a.png")


def test_ranges_are_written_short():
    assert ranges([0, 1, 2, 5, 255]) == "0…2, 5, 255"


def test_a_mat_file_without_labels_is_named(miniature):
    import scipy.io

    data = open_dataset("context459", miniature("context459").root)
    scipy.io.savemat(data.listing.pairs[0].mask, {"Other": np.zeros((6, 8))})
    with pytest.raises(ValueError, match=r"2008_000002\.mat: has no label array `LabelMap`"):
        data[0]

"""A table of what images show is read and matched by name, and what does not fit is reported."""

from __future__ import annotations

import pytest

from diagnostics.images.image_classes import classes_of, labels_by_image, read_classes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "a.jpg,cat\nval/b.jpg, dog\n\n"),
        ("t.csv", "\ufeffimage,class\r\na.jpg,cat\r\nval/b.jpg,dog\r\n"),
        ("t.json", '{"a.jpg": "cat", "val/b.jpg": "dog"}'),
    ],
)
def test_tables_of_both_kinds_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == {"a.jpg": "cat", "val/b.jpg": "dog"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a.jpg,cat,1\n", "row 1 of .* should have two columns"),
        ("t.csv", "a.jpg\n", "row 1"),
        ("t.csv", "", "names no image"),
        ("t.csv", "image,class\n", "names no image"),
        ("t.csv", "a.jpg,cat\na.jpg,dog\n", "gives `a.jpg` two classes, `cat` and `dog`"),
        ("t.json", "{", "is no JSON"),
        ("t.json", '{"a":' * 50_000, "is no JSON"),
        ("t.json", '{"a.jpg": 3}', "a text for each image"),
        ("t.json", "[]", "a text for each image"),
    ],
)
def test_tables_that_cannot_be_understood_are_refused_with_the_form(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path / name)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv` can't be read"):
        read_classes(tmp_path / "none.csv")


def test_images_are_found_by_path_then_file_then_stem():
    truth = {"val/a.jpg": "cat", "a.jpg": "dog", "b": "DOG", "c.png": "cat"}
    assert classes_of(["val/a.jpg", "test/a.jpg", "x/b.png", "c.png"], truth, ["Cat", "dog"]) == [0, 1, 1, 0]


def test_missing_images_and_unknown_classes_are_reported():
    with pytest.raises(ValueError, match=r"1 of 2 have none, the first `b\.jpg`"):
        classes_of(["a.jpg", "b.jpg"], {"a.jpg": "cat"}, ["cat"])
    with pytest.raises(ValueError, match=r"no class for the image `a\.jpg` `caat`\. Did you mean `cat`"):
        classes_of(["a.jpg"], {"a.jpg": "caat"}, ["cat", "dog"])


@pytest.mark.parametrize(
    ("images", "row"),
    [
        (["x/a.png", "y/a.png", "b.png"], "a.png"),
        (["x/a.png", "y/a.png"], "a"),
        (["a.png", "a.jpg"], "a"),
        (["1/x/a.png", "2/x/a.png"], "x\\a.png"),
        (["a.png", "x/a.png"], "photos/x/a.png"),
    ],
)
def test_a_row_that_fits_several_images_is_refused(images, row):
    with pytest.raises(ValueError, match="fits 2 images"):
        labels_by_image(images, {row: "cat"})


@pytest.mark.parametrize(
    "row", [r"C:\photos\x\é.png", r"x\é.png", "./x/é.png", "x/é", "é.png", "x/e\u0301.png", "/data/x/e\u0301.png"]
)
def test_a_row_may_be_written_as_other_systems_write_it(row):
    images = ["x/e\u0301.png", "y/f.png"]
    assert labels_by_image(images, {row: "cat"}) == {"x/e\u0301.png": "cat"}
    assert labels_by_image(["x/é.png", "y/f.png"], {row: "cat"}) == {"x/é.png": "cat"}


def test_rows_that_fit_no_image_are_named():
    with pytest.warns(UserWarning, match=r"2 of the 3 rows of `truth` fit no image: `c\.png`, `y/a\.png`"):
        assert labels_by_image(["x/a.png"], {"c.png": "cat", "x/a.png": "dog", "y/a.png": "cat"}) == {"x/a.png": "dog"}


def test_rows_that_disagree_about_an_image_are_refused():
    with pytest.raises(ValueError, match=r"several classes: `cat` as `a\.png\.tif`, `dog` as"):
        labels_by_image(["x/a.png.tif"], {"a.png.tif": "cat", "x/a.png": "dog"})
    with pytest.raises(ValueError, match="one image two classes"):
        labels_by_image(["x/a.png"], {"x/a.png": "cat", "x\\a.png": "dog"})

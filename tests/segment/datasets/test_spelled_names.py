"""Lists of ids and files whose names have letters composed on one side and decomposed on the other."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from segment.datasets import open_dataset
from segment.datasets.arrangement import DatasetError

COMPOSED = "\u00e9t\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def voc(root, ids, image, mask):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(root / f"JPEGImages/{image}.jpg")
    Image.fromarray(np.full((48, 64), 3, np.uint8)).save(root / f"SegmentationClass/{mask}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("\ufeff" + "\n".join(ids), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("name", "image", "mask"),
    [(DECOMPOSED, COMPOSED, COMPOSED), (COMPOSED, DECOMPOSED, COMPOSED), (COMPOSED, COMPOSED, DECOMPOSED)],
)
def test_an_id_finds_its_files_however_its_letters_are_composed(name, image, mask, tmp_path):
    dataset = open_dataset("voc21", voc(tmp_path, [name], image, mask))
    assert dataset[0].labels.tolist() == np.full((48, 64), 3).tolist()
    assert dataset.sample_name(0) == name
    assert dataset.listing.complete == 1
    assert dataset.listing.orphans == ()


def test_one_image_in_two_spellings_is_one_image_twice(tmp_path):
    with pytest.raises(DatasetError, match="twice"):
        open_dataset("voc21", voc(tmp_path, [COMPOSED, DECOMPOSED], COMPOSED, COMPOSED))

"""Zero-shot classification of whole images: the real layouts in miniature, and shares that can be counted by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
import torchvision.datasets as datasets
from PIL import Image

from attention_outliers.papers import experiments
from attention_outliers.papers.plan import Selection
from attention_outliers.papers.reproduce import ReproduceOptions, reproduce
from attention_outliers.papers.whole_images import (
    WholeImages,
    class_token_accuracy,
    open_whole_images,
    purification_settings,
    squared,
)
from diagnostics.backbones import Backbone
from diagnostics.images import FileError, normalize
from segment.datasets.shapes import NAMES
from segment.evaluation.storage import Folder
from segment.text.features import text_features


def save(path, side=8, color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side + 4, 3), color, np.uint8)).save(path)


def test_pets_are_read_from_their_layout(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    for name in ("Abyssinian_1", "great_pyrenees_12"):
        save(base / "images" / f"{name}.jpg", color=50)
    (base / "annotations").mkdir()
    (base / "annotations" / "test.txt").write_text("Abyssinian_1 1 1 1\ngreat_pyrenees_12 2 2 1\n")
    images = open_whole_images("pets", tmp_path)
    assert (images.names, images.count) == (("abyssinian", "great pyrenees"), 2)
    image, label = images.read(1)
    assert (image.size, label) == ((12, 8), 1)


def test_flowers_are_read_from_their_layout(tmp_path, monkeypatch):
    base = tmp_path / "flowers-102"
    for number in (1, 2, 3):
        save(base / "jpg" / f"image_{number:05d}.jpg", color=number)
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.array([[77, 1, 102]])})
    ids = {"trnid": np.array([[2]]), "valid": np.array([[2]]), "tstid": np.array([[1, 3]])}
    scipy.io.savemat(base / "setid.mat", ids)
    with pytest.raises(FileError, match="flowers-102: does not hold `flowers102` whole"):
        open_whole_images("flowers102", tmp_path)  # it knows the published files by their MD5
    monkeypatch.setattr(datasets.flowers102, "check_integrity", lambda *arguments: True)
    images = open_whole_images("flowers102", tmp_path)
    assert (len(images.names), images.names[0], images.count) == (102, "pink primrose", 2)
    assert [images.read(number)[1] for number in range(2)] == [76, 101]


def test_cifar_is_read_from_its_layout(tmp_path, monkeypatch):
    base = tmp_path / "cifar-100-python"
    base.mkdir()
    pixels = np.zeros((2, 3072), np.uint8)
    pixels[1, :1024] = 200  # the red plane
    for name, content in {
        "train": {"data": pixels, "fine_labels": [0, 1]},
        "test": {"data": pixels, "fine_labels": [1, 0]},
        "meta": {"fine_label_names": ["apple", "aquarium_fish"]},
    }.items():
        (base / name).write_bytes(pickle.dumps(content))
    with pytest.raises(FileError, match="does not hold `cifar100` whole"):
        open_whole_images("cifar100", tmp_path)  # nothing but the published pickles is opened
    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda *arguments: True)
    images = open_whole_images("cifar100", tmp_path)
    assert (images.names, images.count) == (("apple", "aquarium fish"), 2)
    image, label = images.read(1)
    assert label == 0
    assert np.asarray(image)[3, 5].tolist() == [200, 0, 0]


@pytest.mark.parametrize("name", ["cifar100", "flowers102", "pets"])
def test_what_is_not_there_is_reported_with_the_next_step(tmp_path, name):
    with pytest.raises(FileError, match="download=True"):
        open_whole_images(name, tmp_path)
    with pytest.raises(ValueError, match="give the folder"):
        open_whole_images(name)
    with pytest.raises(ValueError, match="Did you mean `pets`"):
        open_whole_images("pet", tmp_path)


def test_drawn_images_show_one_class_each():
    images = open_whole_images("shapes")
    assert images.names == NAMES
    labels = {images.read(number)[1] for number in range(40)}
    assert len(labels) > 8


def test_images_are_squared_as_clip_does_it():
    image = Image.fromarray(np.tile(np.arange(120, dtype=np.uint8), (60, 1)))
    pixels = np.asarray(squared(image, (60, 60)))
    assert pixels.shape == (60, 60, 3)
    assert pixels[0, :, 0].tolist() == list(range(30, 90))  # the middle, in its own size


def test_shares_are_those_of_a_plain_loop_and_a_run_goes_on(tiny: Backbone, tmp_path):
    images = open_whole_images("shapes")
    ways = ["stock", "purify:detector=som,purifier=sfp-sum,layers=-2"]
    shares = class_token_accuracy(tiny, images, ways, Folder(tmp_path), limit=7, batch=3)
    words = text_features(tiny, list(NAMES), "photo-of").features
    right = {1: 0, 5: 0}
    for number in range(7):
        image, label = images.read(number)
        pixels = torch.from_numpy(np.asarray(squared(image, (64, 64))).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            token = tiny.pool(tiny.trunk(normalize(pixels, tiny.mean, tiny.std)))
        best = (F.normalize(token, dim=-1) @ words.mT).argsort(dim=1, descending=True)[0].tolist()
        for top in right:
            right[top] += label in best[:top]
    assert shares["stock"] == pytest.approx({f"top{top}": 100 * count / 7 for top, count in right.items()})

    def refuse(number):
        raise AssertionError("nothing should be read")

    again = WholeImages(names=images.names, count=images.count, read=refuse)
    assert class_token_accuracy(tiny, again, ways, Folder(tmp_path), limit=7) == shares


def test_a_way_is_stock_or_a_purification():
    assert purification_settings("stock", 12) == {}
    assert purification_settings("purify:detector=som,purifier=sfp-sum", 4)["layers"] == [1, 2, 3]
    assert purification_settings("purify:detector=som,purifier=mean,layers=6+-2", 12)["layers"] == [6, -2]
    for wrong in ("clip", "purify:detector=som", "purify:detector=som,purifier=mean,depth=2"):
        with pytest.raises(ValueError, match="purify:detector=SPEC"):
            purification_settings(wrong, 12)


def test_the_table_of_classification_runs_on_drawn_images(tmp_path):
    table = experiments()["sfp/classification"]
    choice = Selection(backbone="tiny", offline=True, limit=4)
    result = reproduce(table, choice, out=tmp_path, how=ReproduceOptions(device="cpu"))
    assert set(result.ours) == {(row.name, column.name) for row in table.rows for column in table.columns}
    assert all(result.ours[row.name, "Pets top-1"] <= result.ours[row.name, "Pets top-5"] for row in table.rows)
    absent = reproduce(
        table, Selection(backbone="tiny"), out=tmp_path, roots={"": tmp_path}, how=ReproduceOptions(device="cpu")
    )
    assert not absent.ours
    assert "download=True" in absent.reasons["CLIP", "Pets top-1"]

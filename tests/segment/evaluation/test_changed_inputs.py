"""A run never resumes over inputs that changed: it is refused by the name of what changed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
from PIL import Image

from diagnostics.backbones.timm import timm_backbone
from diagnostics.studies.store import OtherRun
from segment.datasets.base import Dataset, Sample
from segment.evaluation.engines.local import Local
from segment.evaluation.evaluate import evaluate

CLASSES = "zebra\ntiger\ngrass\n"


@pytest.fixture
def scored(tmp_path):
    """Writes a set of four BMPs whose label maps are all `label`, and scores it below `out`."""
    root = tmp_path / "set"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text(CLASSES)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(4)]

    def write(label, band=0):
        for number, image in enumerate(pixels):
            changed = image.copy()
            changed[20:28] += np.uint8(band)
            Image.fromarray(changed).save(root / f"images/p{number}.bmp")
            Image.fromarray(np.full((48, 64), label, np.uint8)).save(root / f"masks/p{number}.png")

    def score(out="out", **settings):
        options = {"engine": Local(workers=1), "shard": 2, "progress": False} | settings
        return evaluate("pocket", "clip", "folder", root=root, out=tmp_path / out, **options).cells[0].miou

    write(0)
    return write, score


def test_corrected_label_maps_are_another_run(scored):
    write, score = scored
    first = score()
    assert score() == first
    write(1)
    with pytest.raises(OtherRun, match=r"dataset\.contents"):
        score()
    assert score("fresh") != first
    write(0)
    assert score() == first


@pytest.mark.parametrize("lost", [False, True])
def test_images_changed_in_the_middle_are_another_run(scored, tmp_path, lost):
    write, score = scored
    score()
    if lost:
        sorted((tmp_path / "out/shards").iterdir())[0].unlink()
    write(0, band=9)
    with pytest.raises(OtherRun, match=r"dataset\.contents"):
        score()


def test_a_change_beyond_the_limit_changes_nothing(scored, tmp_path):
    _, score = scored
    first = score(limit=2)
    Image.fromarray(np.ones((48, 64), np.uint8)).save(tmp_path / "set/masks/p3.png")
    assert score(limit=2) == first


class Own(Dataset):
    names, ignore, background = ("zebra", "tiger"), None, None

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return 2

    def sample_name(self, index):
        return f"n{index}"

    def read(self, index):
        image = np.random.default_rng(index).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        return Sample(image, np.full((48, 48), self.label, np.uint8), f"n{index}")


def test_a_custom_data_set_is_known_by_its_pixels(tmp_path):
    def score(label):
        return evaluate("pocket", "clip", Own(label), out=tmp_path, engine=Local(workers=1), progress=False)

    score(0)
    score(0)
    with pytest.raises(OtherRun, match=r"dataset\.contents"):
        score(1)


def test_other_class_embeddings_in_the_same_file_are_another_run(tmp_path):
    rows = tmp_path / "rows.json"
    model = timm.create_model("vit_tiny_patch16_224", embed_dim=48, depth=2, num_heads=2, num_classes=1000, img_size=64)
    backbone = timm_backbone(model, "own", mean=(0.5,) * 3, std=(0.5,) * 3)

    def score(numbers):
        rows.write_text(json.dumps({"zebra": numbers, "tiger": [292]}))
        return evaluate(
            backbone,
            "clip",
            Own(0),
            out=tmp_path / "out",
            rows=rows,
            engine=Local(workers=1),
            progress=False,
        )

    score([340])
    score([340])
    with pytest.raises(OtherRun, match="rows"):
        score([341])

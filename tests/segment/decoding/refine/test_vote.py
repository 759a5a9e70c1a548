"""The vote inside given masks, by hand and by their sources."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics.studies.store import OtherRun
from segment.decoding.refine import REFINERS, Canvas
from segment.decoding.refine.vote import Vote, as_regions, vote
from segment.run import SegmentRun
from segment.segmenter import Segmenter

LABELS = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 2], [-1, 2, 1, 1]])


def canvas(name: str = "a", path=None, size=(4, 3)) -> Canvas:
    return Canvas(image=Image.new("RGB", size), shown_by=lambda: torch.zeros(3, 4, 4), name=name, path=path)


def test_a_region_takes_its_most_frequent_label_and_the_lowest_of_equals():
    regions = torch.tensor([[7, 7, 3, 3], [7, 7, 3, 3], [7, -1, -1, 9]])
    # Region 7 has 0 three times, region 3 has 1 and 2 twice each, region 9 has 1 alone.
    assert vote(LABELS, regions).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [-1, 2, 1, 1]]


def test_pixels_of_no_region_and_without_a_label_stay():
    assert torch.equal(vote(LABELS, torch.full_like(LABELS, -1)), LABELS)
    assert vote(torch.full_like(LABELS, -1), torch.zeros_like(LABELS)).eq(-1).all()


def test_the_labels_given_are_not_changed():
    before = LABELS.clone()
    vote(LABELS, torch.zeros_like(LABELS))
    assert torch.equal(LABELS, before)


def test_where_masks_overlap_the_smaller_wins():
    masks = torch.zeros(2, 2, 3, dtype=torch.bool)
    masks[0, :, :1] = True
    masks[1, :, :2] = True
    assert as_regions(masks).tolist() == [[0, 1, -1], [0, 1, -1]]


@pytest.mark.parametrize("as_masks", [True, False])
def test_masks_are_given_by_the_images_name(as_masks):
    regions = np.array([[0, 0, 1, 1]] * 3)
    masks = np.stack([regions == 0, regions == 1]) if as_masks else regions
    # The right half has 1 four times and 2 twice, the left half 0 three times, 1 and 2 once.
    assert Vote(masks={"a": masks}).labels(LABELS, canvas()).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [-1, 0, 1, 1]]
    with pytest.raises(ValueError, match="has none for `b`; it has a"):
        Vote(masks={"a": masks}).labels(LABELS, canvas("b"))


def test_masks_are_found_in_a_folder_and_255_is_no_region(tmp_path):
    regions = np.array([[4, 4, 255, 255]] * 3, np.uint8)
    (tmp_path / "masks").mkdir()
    Image.fromarray(regions).save(tmp_path / "masks" / "cat.png")
    part = REFINERS.build(f"vote:folder={tmp_path / 'masks'}")
    refined = part.labels(LABELS, canvas("cat.jpg", tmp_path / "cat.jpg"))
    assert refined.tolist() == [[0, 0, 1, 2], [0, 0, 1, 2], [-1, 0, 1, 1]]
    with pytest.raises(ValueError, match="is no file"):
        part.labels(LABELS, canvas())


def test_masks_of_another_size_or_kind_are_refused():
    with pytest.raises(ValueError, match="height and width"):
        Vote(masks={"a": np.zeros((4, 3), int)}).labels(LABELS, canvas())
    with pytest.raises(ValueError, match="whole numbers"):
        Vote(masks={"a": np.zeros((3, 4))}).labels(LABELS, canvas())


def test_a_vote_without_masks_is_refused():
    with pytest.raises(ValueError, match="needs masks"):
        REFINERS.build("vote")


@pytest.fixture
def masked(tmp_path):
    """Two images, and masks of one region each, in a folder of their own."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"images/{name}.png")
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def test_other_masks_are_another_run(masked, tiny):
    refine = Vote(folder=str(masked / "masks"))
    segmenter = Segmenter(tiny, "clip", "cat, dog", windows="whole", size=64, refine=refine)
    list(SegmentRun(segmenter, masked / "images", masked / "out"))
    assert SegmentRun(segmenter, masked / "images", masked / "out").waiting == []
    Image.fromarray(np.ones((48, 64), np.uint8)).save(masked / "masks/b.png")
    with pytest.raises(OtherRun, match=r"b\.json"):
        SegmentRun(segmenter, masked / "images", masked / "out")


def test_namesakes_never_share_masks(masked, tiny):
    for folder in "xy":
        (masked / "images" / folder).mkdir()
        shutil.copy(masked / "images/a.png", masked / "images" / folder / "a.png")
    segmenter = Segmenter(tiny, "clip", "cat, dog", windows="whole", size=64, refine=f"vote:folder={masked / 'masks'}")
    with pytest.raises(ValueError, match=r"x/a.png` and .* would share the masks|a.png` and .* would share the masks"):
        SegmentRun(segmenter, masked / "images", masked / "out")

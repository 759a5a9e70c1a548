"""Label maps of a folder on disk: whole, described, and on again where a run was stopped."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diagnostics.store import OtherRun
from segment.method import TextFeatures
from segment.segment_pictures import SegmentRun, file_name
from segment.segmenter import Segmenter


@pytest.fixture(scope="module")
def text(tiny):
    width = tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1]
    features = F.normalize(torch.randn(3, width, generator=torch.Generator().manual_seed(0)), dim=1)
    return TextFeatures(features=features, owners=torch.arange(3), names=("cat", "dog", "grass"))


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deep/a.png"):
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def segmenter(tiny, text):
    return Segmenter(tiny, ["clip", "clearclip:residual=true"], text, windows="whole", size=64)


def files_of(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_every_picture_and_method_has_a_label_map_and_its_description(segmenter, folder, tmp_path):
    out = tmp_path / "out"
    found = list(SegmentRun(segmenter, folder, out))
    assert [pair[0].name for pair in found] == ["a.png", "b.jpg", "deep/a.png"]
    assert set(files_of(out)) == {"settings.json"} | {
        f"{method}/{stem}.{end}"
        for method in ("clip", "clearclip-residual=true")
        for stem in ("a", "b", "deep/a")
        for end in ("json", "labels.png")
    }
    with Image.open(out / "clip" / "deep" / "a.labels.png") as picture:
        assert np.array_equal(np.asarray(picture), found[2][0].labels)
    note = json.loads((out / "clip" / "a.json").read_text())
    assert (note["height"], note["width"], note["method"]) == (70, 90, "clip")
    assert sum(entry["area"] for entry in note["classes"]) == pytest.approx(1, abs=1e-5)
    assert all(0 < entry["confidence"] <= 1 for entry in note["classes"])
    assert note["settings"]["classes"] == ["cat", "dog", "grass"]


def test_a_stopped_run_goes_on_and_ends_as_a_whole_one(segmenter, folder, tmp_path):
    list(SegmentRun(segmenter, folder, tmp_path / "whole"))
    for _ in SegmentRun(segmenter, folder, tmp_path / "cut"):
        break
    run = SegmentRun(segmenter, folder, tmp_path / "cut")
    # The picture in work when the run was stopped is done again: whoever iterates may not have written its own files.
    assert run.waiting == ["a.png", "b.jpg", "deep/a.png"]
    work = iter(run)
    next(work), next(work)
    work.close()
    run = SegmentRun(segmenter, folder, tmp_path / "cut")
    assert run.waiting == ["b.jpg", "deep/a.png"]
    assert [pair[0].name for pair in run] == ["b.jpg", "deep/a.png"]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert list(SegmentRun(segmenter, folder, tmp_path / "cut")) == []


def test_a_folder_of_other_settings_is_refused_by_name(tiny, text, segmenter, folder, tmp_path):
    list(SegmentRun(segmenter, folder, tmp_path / "out"))
    other = Segmenter(tiny, ["clip", "clearclip:residual=true"], text, windows="whole", size=32)
    with pytest.raises(OtherRun, match=r"other settings \(size\)"):
        SegmentRun(other, folder, tmp_path / "out")


def test_a_broken_picture_is_named_and_the_rest_goes_on(segmenter, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"no picture")
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert len(list(run)) == 3
    assert list(run.left_out) == ["broken.jpg"]


def test_pictures_of_one_stem_keep_their_suffix(segmenter, folder, tmp_path):
    Image.new("RGB", (64, 64)).save(folder / "a.jpg")
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert run.stems == {"a.jpg": "a.jpg", "a.png": "a.png", "b.jpg": "b", "deep/a.png": "deep/a"}


def test_specs_become_names_that_file_systems_take():
    assert file_name("sc-clip:detector=lof(neighbours=5),purifier=median") == (
        "sc-clip-detector=lof-neighbours=5-,purifier=median"
    )

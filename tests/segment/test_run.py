"""Label maps of a folder on disk: whole, described, and on again where a run was stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import segment.segmenter as module
from attention_outliers.overlays import write_overlays
from diagnostics.below import LeadsOut
from diagnostics.studies.store import OtherRun
from segment.encoders.encode_many import encode_many
from segment.method import TextFeatures
from segment.methods import METHODS
from segment.run import SegmentRun, file_name, short_stem
from segment.segmenter import Segmenter

LEARNS = "clip:detector=register-neuron(ratio=1),purifier=neighbor-mean"


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


def test_every_image_and_method_has_a_label_map_and_its_description(segmenter, folder, tmp_path):
    out = tmp_path / "out"
    answers = list(SegmentRun(segmenter, folder, out))
    assert [pair[0].name for pair in answers] == ["a.png", "b.jpg", "deep/a.png"]
    assert set(files_of(out)) == {"settings.json"} | {
        f"{method}/{stem}.{end}"
        for method in ("clip", "clearclip-residual=true")
        for stem in ("a", "b", "deep/a")
        for end in ("json", "labels.png")
    }
    with Image.open(out / "clip" / "deep" / "a.labels.png") as image:
        assert np.array_equal(np.asarray(image), answers[2][0].labels)
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
    # The image in work when the run was stopped is done again: the caller may not have written its own files.
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


def test_a_broken_image_is_named_and_the_rest_goes_on(segmenter, folder, tmp_path):
    (folder / "broken.jpg").write_bytes(b"no image")
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert len(list(run)) == 3
    assert list(run.left_out) == ["broken.jpg"]


def test_where_only_broken_images_are_left_nothing_is_wrong(segmenter, folder, tmp_path):
    list(SegmentRun(segmenter, folder, tmp_path / "out"))
    (folder / "broken.jpg").write_bytes(b"no image")
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert list(run) == []
    assert list(run.left_out) == ["broken.jpg"]
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        list(SegmentRun(segmenter, folder / "broken.jpg", tmp_path / "new"))


def test_another_image_of_the_same_name_does_not_pass_for_done(segmenter, folder, tmp_path):
    list(SegmentRun(segmenter, folder / "a.png", tmp_path / "out"))
    with pytest.raises(OtherRun, match="another image"):
        SegmentRun(segmenter, folder / "deep" / "a.png", tmp_path / "out")


def test_a_label_map_of_another_shape_is_made_again(segmenter, folder, tmp_path):
    list(SegmentRun(segmenter, folder, tmp_path / "out"))
    before = files_of(tmp_path / "out")
    Image.fromarray(np.zeros((90, 70), np.uint8)).save(tmp_path / "out/clip/deep/a.labels.png")  # turned
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert run.waiting == ["deep/a.png"]
    list(run)
    assert files_of(tmp_path / "out") == before


def test_images_of_one_shape_share_batches_whatever_stands_between(tiny, text, tmp_path, monkeypatch):
    sizes = []

    def counted(backbone, images, methods, **options):
        sizes.append(tuple(images.shape[::2]))
        return encode_many(backbone, images, methods, **options)

    monkeypatch.setattr(module, "encode_many", counted)
    for number in range(6):
        shape = (96, 64) if number % 2 else (64, 96)
        Image.new("RGB", shape).save(tmp_path / f"{number}.png")
    segmenter = Segmenter(tiny, "clip", text, windows="whole", size="native", batch=3)
    run = SegmentRun(segmenter, tmp_path, tmp_path / "out")
    assert [answer.name for (answer,) in run] == [f"{number}.png" for number in (0, 2, 4, 1, 3, 5)]
    assert sizes == [(3, 96), (3, 64)]


def test_a_detector_that_learns_sees_the_same_images_when_a_run_goes_on(tiny, text, folder, tmp_path, monkeypatch):
    segmenter = Segmenter(tiny, LEARNS, text, windows="whole", size=64)
    list(SegmentRun(segmenter, folder, tmp_path / "whole"))
    work = iter(SegmentRun(segmenter, folder, tmp_path / "cut"))
    next(work), next(work)
    work.close()
    names, fitted = [], Segmenter.fitted
    monkeypatch.setattr(Segmenter, "fitted", lambda self, images: names.append(images) or fitted(self, images))
    list(SegmentRun(segmenter, folder, tmp_path / "cut"))
    assert [[name for name, _ in images] for images in names] == [["a.png", "b.jpg", "deep/a.png"]]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_a_file_in_place_of_the_folder_is_refused(segmenter, folder):
    with pytest.raises(ValueError, match=r"a\.png` is a file; give --out the name of a folder"):
        SegmentRun(segmenter, folder, folder / "a.png")


def test_methods_that_share_a_spec_are_refused(tiny, text, folder, tmp_path):
    twice = [METHODS["clip"], replace(METHODS["clip"], positions=None)]
    with pytest.raises(ValueError, match="tell them apart; got `clip`, `clip`"):
        SegmentRun(Segmenter(tiny, twice, text), folder, tmp_path / "out")
    run = SegmentRun(Segmenter(tiny, METHODS["clip"], text), folder, tmp_path / "out")
    assert run.methods == ["clip"]


def test_words_that_shaped_a_run_are_kept_and_others_refused(segmenter, folder, tmp_path):
    run = SegmentRun(segmenter, folder, tmp_path / "out", about={"templates": "plain"})
    next(iter(run))
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["templates"] == "plain"
    with pytest.raises(OtherRun, match="templates"):
        SegmentRun(segmenter, folder, tmp_path / "out", about={"templates": "photo"})


def test_a_stem_that_is_another_images_name_keeps_its_suffix(segmenter, folder, tmp_path):
    for name in ("a.jpg", "a.jpg.png"):
        Image.new("RGB", (64, 64)).save(folder / name)
    stems = SegmentRun(segmenter, folder, tmp_path / "out").stems
    assert len(set(stems.values())) == len(stems)
    assert stems["a.jpg.png"] == "a.jpg.png"


def test_images_of_one_stem_keep_their_suffix(segmenter, folder, tmp_path):
    Image.new("RGB", (64, 64)).save(folder / "a.jpg")
    run = SegmentRun(segmenter, folder, tmp_path / "out")
    assert run.stems == {"a.jpg": "a.jpg", "a.png": "a.png", "b.jpg": "b", "deep/a.png": "deep/a"}


def test_specs_become_names_that_file_systems_take():
    assert file_name("sc-clip:detector=lof(neighbors=5),purifier=median") == (
        "sc-clip-detector=lof-neighbors=5-,purifier=median"
    )
    long, other = (file_name("sc-clip:" + "beta=0.4," * 40 + last) for last in "ab")
    assert long != other
    assert len(long) < 200


@pytest.mark.parametrize("value", [0, 255])
def test_lavg_labels_an_image_whose_patches_are_all_alike(tiny, text, tmp_path, value):
    Image.fromarray(np.full((224, 224, 3), value, np.uint8)).save(tmp_path / "plain.png")
    segmenter = Segmenter(tiny, ["lavg:vfm=tiny"], text)
    ((segmentation,),) = SegmentRun(segmenter, tmp_path / "plain.png", tmp_path / "out")
    assert (segmentation.labels >= 0).all()
    assert segmentation.labels.shape == (224, 224)


def test_nothing_is_written_through_a_link_out_of_the_folder(segmenter, folder, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / "clip").mkdir(parents=True)
    (out / "clip" / "deep").symlink_to(elsewhere)
    with pytest.raises(LeadsOut, match=r"clip/deep/a\.labels\.png` would be written to"):
        list(SegmentRun(segmenter, folder, out))
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["clip/a.labels.png", "clip/a.json", "clearclip-residual=true/deep/a.labels.png"])
@pytest.mark.parametrize("damage", ["lost", "empty", "cut", "flipped"])
def test_what_is_lost_or_damaged_is_made_again_and_nothing_else(segmenter, folder, tmp_path, name, damage):
    out = tmp_path / "out"
    list(SegmentRun(segmenter, folder, out))
    whole = files_of(out)
    content = whole[name]
    if damage == "lost":
        (out / name).unlink()
    elif name.endswith(".json"):
        (out / name).write_bytes({"empty": b"", "cut": content[:-3], "flipped": b"null"}[damage])
    else:
        place = len(content) // 2
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        (out / name).write_bytes({"empty": b"", "cut": content[:-20], "flipped": flipped}[damage])
    again = list(SegmentRun(segmenter, folder, out))
    assert [pair[0].name for pair in again] == ["deep/a.png" if "deep" in name else "a.png"]
    assert files_of(out) == whole


@pytest.mark.parametrize("content", ["{", "null", "[1]", ""])
def test_settings_of_another_form_are_reported_with_their_file(segmenter, folder, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/settings\.json` is damaged: .*Choose another --out, or delete"):
        SegmentRun(segmenter, folder, tmp_path / "out")


def test_label_maps_below_the_images_are_not_segmented_by_the_next_run(segmenter, folder):
    out = folder / "results"
    first = list(SegmentRun(segmenter, folder, out))
    before = files_of(out)
    assert len(first) == 3
    assert list(SegmentRun(segmenter, folder, out)) == []
    assert files_of(out) == before


def test_the_folder_of_the_images_itself_is_no_place_for_label_maps(segmenter, folder):
    with pytest.raises(ValueError, match=r"all 3 images lie in .* such as one inside"):
        SegmentRun(segmenter, folder, folder)


@pytest.mark.parametrize("letter", ["a", "é", "語"])
def test_a_name_as_long_as_file_systems_take_stops_nothing(tiny, text, tmp_path, letter):
    room = (255 - len(".png")) // len(letter.encode())
    names = [letter * (room - 1) + end for end in "xy" if len((letter * (room - 1) + end).encode()) <= 251]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / f"in/{name}.png")
    segmenter = Segmenter(tiny, ["clip"], text, windows="whole", size=64)
    run = SegmentRun(segmenter, tmp_path / "in", tmp_path / "out")
    for segmentations in run:
        write_overlays(run, segmentations)
    assert len(list((tmp_path / "out/clip").glob("*.labels.png"))) == 2
    again = SegmentRun(segmenter, tmp_path / "in", tmp_path / "out")
    assert again.waiting == []
    described = [json.loads(path.read_text())["image"] for path in (tmp_path / "out/clip").glob("*.json")]
    assert sorted(described) == sorted(f"{name}.png" for name in names)


def test_only_the_last_part_of_a_long_name_is_cut():
    assert short_stem("x/" + "a" * 200) == "x/" + "a" * 200
    cut = short_stem("x/" + "a" * 201)
    assert cut.startswith("x/" + "a" * 191 + "-")
    assert len(cut) == 202
    assert cut != short_stem("x/" + "a" * 202)

"""Evaluations in this process: right numbers, each image once, and what is reported when something is wrong."""

import errno
import importlib
import io
import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_confusion

from diagnostics.backbones import load_backbone
from diagnostics.studies.store import DiskFull, OtherRun
from segment.datasets.shapes import Shapes
from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.evaluation.job import is_empty, segmenter_of
from segment.evaluation.options import EvaluationOptions
from segment.evaluation.protocols import protocol_for, vocabulary_for
from segment.evaluation.results import read_cells
from segment.evaluation.shards import DamagedShard, Shard, cut, decode_shard, encode_shard, read_shard, shard_size
from segment.evaluation.storage import storage_at
from segment.text.features import text_features

HERE = Local(workers=1)


@pytest.fixture
def scored(run):
    return lambda *args, **settings: run(*args, engine=HERE, **settings)


def test_counts_are_those_of_a_plain_loop_and_scikit_learn(faulty, scored, tmp_path):
    dataset = faulty(scenes=5)
    result = scored(dataset)
    protocol = protocol_for("ours", "folder")
    tiny = load_backbone("tiny")
    text = text_features(tiny, vocabulary_for("ours", "folder", dataset), progress=False)
    total = {}
    for sample in dataset:
        for method in ("clip", "clearclip"):
            segmenter = segmenter_of(tiny, (method,), text, protocol, batch=8)
            labels = next(segmenter([(sample.name, Image.fromarray(sample.image))])).labels
            matrix = sklearn_confusion(sample.labels.ravel(), labels.ravel(), labels=range(16))
            total[method] = total.get(method, 0) + matrix
    for cell in result.cells:
        matrix = total[cell.method]
        assert [entry["true"] for entry in cell.classes] == matrix.sum(axis=1).tolist()
        assert [entry["predicted"] for entry in cell.classes] == matrix.sum(axis=0).tolist()
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
        assert cell.miou == pytest.approx((np.diag(matrix)[union > 0] / union[union > 0]).mean())
        assert cell.pacc == pytest.approx(np.diag(matrix).sum() / matrix.sum())
        assert cell.images == {"scored": 5, "broken": 0, "skipped": 0, "asked": 5, "has": 5}
    shards = [read_shard(storage_at(tmp_path / "out"), shard, result.cells[0].run) for shard in cut(5, 2)]
    for method, matrix in total.items():
        assert np.array_equal(sum(shard.tallies[method].matrix for shard in shards), matrix)


def test_a_method_that_looks_at_the_truth_gets_each_images_own(faulty, scored):
    method = "cliptrase-paper:vote=none,within=class"
    dataset = faulty(scenes=5)
    result = scored(dataset, methods=("clip", method))
    tiny = load_backbone("tiny")
    text = text_features(tiny, vocabulary_for("ours", "folder", dataset), progress=False)
    segmenter = segmenter_of(tiny, (method,), text, protocol_for("ours", "folder"), batch=1)
    total = np.zeros((16, 16), int)
    for sample in dataset:
        truth = {"": sample.labels}.__getitem__
        labels = next(segmenter([("", Image.fromarray(sample.image))], labels=truth)).labels
        total += sklearn_confusion(sample.labels.ravel(), labels.ravel(), labels=range(16))
    assert result.broken == {}
    assert [entry["predicted"] for entry in result.cells[1].classes] == total.sum(axis=0).tolist()
    assert result.cells[1].pacc == pytest.approx(np.diag(total).sum() / total.sum())


def test_shards_hold_every_image_once_whatever_their_size():
    for images in (1, 2, 31, 64, 65, 1449, 5104):
        shards = cut(images, shard_size(images))
        assert [number for shard in shards for number in range(shard.start, shard.stop)] == list(range(images))
        assert max(shard.stop - shard.start for shard in shards) <= 32


def test_the_size_of_shards_changes_no_count(faulty, tmp_path):
    cells = [
        evaluate("tiny", "clip", faulty(scenes=5), out=tmp_path / str(size), shard=size, engine=HERE).cells[0]
        for size in (1, 3, 5)
    ]
    assert cells[0].classes == cells[1].classes == cells[2].classes
    assert cells[0].low == cells[1].low == cells[2].low


def test_results_are_files_that_can_be_read_again(faulty, scored, tmp_path):
    result = scored(faulty(scenes=3))
    assert [cell.method for cell in read_cells(tmp_path)] == ["clearclip", "clip"]
    note = json.loads((tmp_path / "out" / "cells" / "clip.json").read_text())
    assert note["hash"] == result.cells[0].hash
    assert note["settings"]["protocol"]["sentences"][0].count("{}") == 1
    assert {"torch", "python"} <= note["versions"].keys()
    rows = pd.read_parquet(tmp_path / "out" / "cells.parquet")
    assert rows["miou"].tolist() == [cell.miou for cell in result.cells]


def test_a_broken_image_is_named_and_the_others_count(faulty, scored, counts):
    result = scored(faulty(scenes=5, broken=(1, 2)))
    assert result.broken.keys() == {"scene-1", "scene-2"}
    assert "is damaged" in result.broken["scene-1"]
    assert result.cells[0].images == {"scored": 3, "broken": 2, "skipped": 0, "asked": 5, "has": 5}
    assert not result.cells[0].whole
    whole = scored(faulty(scenes=5), out="whole")
    pixels = 48 * 64
    assert sum(entry["true"] for entry in result.cells[0].classes) == 3 * pixels
    assert sum(entry["true"] for entry in whole.cells[0].classes) == 5 * pixels


def test_a_run_without_any_readable_image_says_why(faulty, scored):
    with pytest.raises(ValueError, match=r"none of the 2 images can be scored.*is damaged"):
        scored(faulty(scenes=2, broken=(0, 1)))


@pytest.fixture
def with_background(faulty):
    """Scenes of which class 15 is the background; those in `only` show nothing else."""

    def make(scenes, only=(1,)):
        class WithBackground(faulty):
            def read(self, index):
                sample = super().read(index)
                return sample._replace(labels=np.full_like(sample.labels, 15)) if index in only else sample

        return WithBackground(scenes=scenes, background=15)

    return make


def test_images_of_background_alone_are_skipped_where_the_protocol_says_so(with_background, scored, counts):
    skipping = {"empty": "skipped"}
    every = scored(with_background(3), out="every").cells[0]
    result = scored(with_background(3), settings=skipping).cells[0]
    assert result.images == {"scored": 2, "broken": 0, "skipped": 1, "asked": 3, "has": 3}
    assert result.whole
    pixels = 48 * 64
    assert sum(entry["true"] for entry in every.classes) == 3 * pixels
    assert sum(entry["true"] for entry in result.classes) == 2 * pixels
    assert every.classes[15]["true"] - result.classes[15]["true"] == pixels
    before = counts()
    assert scored(with_background(3), settings=skipping).cells[0].images == result.images  # nothing to be done
    assert counts() == before


def test_a_run_of_skipped_images_alone_says_so(with_background, scored):
    with pytest.raises(ValueError, match=r"`scene-0` shows nothing but background, which empty=skipped leaves out"):
        scored(with_background(2, only=(0, 1)), settings={"empty": "skipped"})


def test_what_is_empty_depends_on_whether_there_is_a_background(faulty):
    ones, void = np.ones((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)
    mixed = np.where(np.arange(6).reshape(2, 3) < 2, ones, void)
    with_one = faulty(background=1, ignore=255)
    assert [is_empty(labels, with_one) for labels in (ones, void, mixed)] == [True, False, False]
    assert [is_empty(labels, faulty(ignore=255)) for labels in (ones, void, mixed)] == [False, True, False]
    assert not is_empty(ones, faulty())


def test_a_label_map_of_another_encoding_is_a_broken_image(faulty, scored):
    class Odd(faulty):
        def read(self, index):
            sample = super().read(index)
            return sample._replace(labels=sample.labels + (100 if index == 1 else 0))

    result = scored(Odd(scenes=3))
    assert list(result.broken) == ["scene-1"]
    assert "another encoding" in result.broken["scene-1"]


def test_a_full_disk_stops_the_run_and_loses_nothing(faulty, scored, counts, monkeypatch):
    scored(faulty(), out="whole")
    import segment.evaluation.storage as storage

    writes = iter(range(100))
    real = storage.os.fsync

    def full(number):
        if next(writes) >= 4:  # words, note and two shards fit
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(DiskFull, match="free some space"):
        scored(faulty())
    assert len(counts()) == 2
    monkeypatch.undo()
    before = counts()
    scored(faulty())
    assert counts() == {**counts("whole")}
    assert before.items() <= counts().items()


def test_a_run_goes_on_and_does_only_what_is_missing(faulty, scored, counts, tmp_path):
    whole = scored(faulty())
    kept = counts()
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    (tmp_path / "out" / "shards" / "000002.npz").unlink()
    cut_short = tmp_path / "out" / "shards" / "000004.npz"
    cut_short.write_bytes(cut_short.read_bytes()[:200])
    again = scored(faulty())
    assert counts() == kept
    assert [cell.miou for cell in again.cells] == [cell.miou for cell in whole.cells]
    new = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert {name for name in times if times[name] != new[name]} == {"000002.npz", "000004.npz"}


def test_a_folder_of_other_settings_is_refused_by_name(faulty, scored):
    scored(faulty(scenes=2))
    with pytest.raises(OtherRun, match=r"protocol.hash, protocol.scale"):
        scored(faulty(scenes=2), settings={"scale": "41"})
    with pytest.raises(OtherRun, match=r"dataset.has"):
        scored(faulty(scenes=3))
    with pytest.raises(OtherRun, match=r"other settings \(threads\)"):
        scored(faulty(scenes=2), threads=2)


def test_settings_of_a_run_that_never_got_to_a_shard_may_be_corrected(faulty, scored, monkeypatch):
    import segment.evaluation.job as module

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Worker, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        scored(faulty(scenes=2))
    monkeypatch.undo()
    result = scored(faulty(scenes=2), settings={"scale": "41"})
    assert result.cells[0].settings["protocol"]["scale"] == 41


def test_an_object_store_gives_the_same(faulty, scored, counts):
    scored(faulty(scenes=4))
    scored(faulty(scenes=4), out="memory://run/one")
    scored(faulty(scenes=4), out="memory://run/one")
    assert counts("memory://run/one") == counts()
    assert [cell.method for cell in read_cells("memory://run/one")] == ["clearclip", "clip"]


def test_a_device_out_of_memory_gets_smaller_batches_and_goes_on(faulty, scored, counts, monkeypatch):
    import segment.segmenter as module

    scored(faulty(scenes=4), out="whole")
    real, sizes = module.encode_many, []

    def small(backbone, images, *args, **settings):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(backbone, images, *args, **settings)

    monkeypatch.setattr(module, "encode_many", small)
    scored(faulty(scenes=4))
    assert max(sizes) > 2
    assert counts() == counts("whole")


def test_detectors_that_learn_see_the_runs_first_images_in_every_shard(faulty, tmp_path):
    spec = "clearclip:detector=mahalanobis"
    cells = [
        evaluate("tiny", spec, faulty(scenes=4), out=tmp_path / str(size), shard=size, engine=HERE).cells[0]
        for size in (1, 4)
    ]
    assert cells[0].classes == cells[1].classes


def test_clusters_are_given_to_classes_in_the_unsupervised_setting(faulty, scored):
    plain = scored(faulty(scenes=4), out="plain").cells[0]
    result = scored(faulty(scenes=4), settings={"matching": "hungarian"}).cells[0]
    assert plain.matching is None
    assert sorted(result.matching.values()) == sorted(faulty().names)
    assert result.pacc >= plain.pacc
    assert result.low <= result.high
    assert result.boundary_iou is None


def test_label_maps_are_exported_in_the_encoding_of_the_data_set(faulty, scored, tmp_path, tiny):
    scored(faulty(scenes=2))
    scored(faulty(scenes=2), export=tmp_path / "maps")  # a finished run writes them too
    with Image.open(tmp_path / "maps" / "clip" / "scene-1.png") as image:
        values = np.asarray(image)
    assert values.shape == (48, 64)
    shard = read_shard(storage_at(tmp_path / "out"), Shard(0, 0, 2), read_cells(tmp_path / "out")[0].run)
    assert np.unique(values).tolist() == np.unique(shard.tallies["clip"].images[1].predicted).tolist()


class Misnamed(Shapes):
    """Drawn scenes, the second of which is named as a file of somebody else."""

    def sample_name(self, index):
        return "../../mine/victim" if index == 1 else super().sample_name(index)


def test_label_maps_are_not_exported_out_of_the_folder(scored, tmp_path):
    data = Misnamed(scenes=2, height=48, width=64)
    with pytest.raises(ValueError, match=r"names an image `\.\./\.\./mine/victim`, which has `\.\.` in it"):
        scored(data, export=tmp_path / "deep" / "maps")
    assert not (tmp_path / "mine").exists()
    assert len(scored(data).cells) == 2  # without --export such names harm nobody


@pytest.mark.parametrize(
    "settings, message",
    [({"limit": 0}, "at least 1 image"), ({"threads": 0}, "`threads`"), ({"settings": {"a": "b"}}, "no setting")],
)
def test_wrong_arguments_say_what_was_expected(faulty, scored, settings, message):
    with pytest.raises(ValueError, match=message):
        scored(faulty(scenes=1), **settings)


def test_the_first_images_are_taken_up_to_the_limit(faulty, scored):
    result = scored(faulty(scenes=6), limit=3)
    assert result.cells[0].images == {"scored": 3, "broken": 0, "skipped": 0, "asked": 3, "has": 6}


def test_a_center_crop_is_cut_from_image_and_labels_alike(faulty):
    from segment.evaluation.job import prepared

    protocol = protocol_for("cliptrase", "folder", {"size": "short:96"})
    sample = faulty().read(0)
    image, labels = prepared(sample, protocol)
    assert image.size == (96, 96)
    assert labels.shape == (96, 96)
    # 48 x 64 doubled is 96 x 128; the middle leaves out 16 columns on each side.
    assert np.array_equal(labels, sample.labels.repeat(2, 0).repeat(2, 1)[:, 16:112])


def test_options_as_one_value_and_as_keywords_give_the_same(faulty, tmp_path):
    options = EvaluationOptions(limit=2, shard=1, batch=3, device="cpu", boundary=False)
    as_value = evaluate("tiny", "clip", faulty(scenes=4), out=tmp_path / "value", engine=HERE, options=options)
    as_keywords = evaluate(
        "tiny", "clip", faulty(scenes=4), out=tmp_path / "keywords", engine=HERE, limit=2, shard=1, batch=3,
        device="cpu", boundary=False,
    )  # fmt: skip
    assert as_value.cells[0].run == as_keywords.cells[0].run
    assert as_value.cells[0].images["scored"] == 2
    assert as_value.cells[0].miou == as_keywords.cells[0].miou


def test_no_flipped_bit_of_a_shard_is_read_as_other_counts(faulty, scored, tmp_path):
    scored(faulty(scenes=2))
    whole = (tmp_path / "out" / "shards" / "000000.npz").read_bytes()
    expected, draw, damaged = encode_shard(decode_shard(whole)), random.Random(0), 0
    for _ in range(400):
        bit = draw.randrange(len(whole) * 8)
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        try:
            read = decode_shard(bytes(content))
        except DamagedShard:
            damaged += 1
        else:
            assert encode_shard(read) == expected
    assert damaged > 200


def rewritten(content, **changes):
    """A shard's file with other arrays."""
    with np.load(io.BytesIO(content)) as arrays:
        read = {name: arrays[name] for name in arrays.files}
    about = json.loads(read["about"].tobytes())
    for key, value in changes.items():
        if key in read:
            read[key] = value
        else:
            about[key] = value
    read["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **read)
    return file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"shard": None},
        {"shard": {"number": 0}},
        {"names": None},
        {"names": [1, 2]},
        {"broken": []},
        {"methods": ["clip"] * 9},
        {"seconds": "long"},
        {"0/truth": np.full(3, 10**6, np.int32)},
        {"0/predicted": np.full(3, -1, np.int32)},
        {"0/matrix": np.zeros((2, 3), np.int64)},
        {"0/boundary": np.zeros(3, np.int64)},
    ],
    ids=str,
)
def test_a_shard_of_another_form_counts_as_missing(faulty, scored, tmp_path, counts, changes):
    whole = scored(faulty(scenes=2))
    kept, path = counts(), tmp_path / "out" / "shards" / "000000.npz"
    content = path.read_bytes()
    assert decode_shard(rewritten(content)).names == decode_shard(content).names
    path.write_bytes(rewritten(content, **changes))
    if changes != {"broken": []}:  # a list of no pairs is a dict of none
        with pytest.raises(DamagedShard):
            decode_shard(path.read_bytes())
    again = scored(faulty(scenes=2))
    assert counts() == kept
    assert [cell.miou for cell in again.cells] == [cell.miou for cell in whole.cells]


@pytest.mark.parametrize("content", ["{", "null", "[1]", ""])
def test_a_note_or_a_cell_of_another_form_is_reported_with_its_file(faulty, scored, tmp_path, content):
    scored(faulty(scenes=2))
    cell = tmp_path / "out" / "cells" / "clip.json"
    cell.write_text(content)
    with pytest.raises(ValueError, match=r"cells/clip\.json` is damaged: .*outliers evaluate` again"):
        read_cells(tmp_path / "out")
    scored(faulty(scenes=2))
    assert len(read_cells(tmp_path / "out")) == 2
    (tmp_path / "out" / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"out/run\.json` is damaged: .*choose another --out, or delete the folder"):
        scored(faulty(scenes=2))


@pytest.mark.parametrize(
    "change",
    [
        {"miou": 5},
        {"miou": float("nan")},
        {"low": "x"},
        {"surprise": 1},
        {"run": None},
        {"method": 7},
        {"settings": None},
        {"images": {"scored": 2, "has": 2}},
    ],
)
def test_a_cell_with_impossible_values_is_reported_with_its_file(faulty, scored, tmp_path, change):
    scored(faulty(scenes=2))
    cell = tmp_path / "out" / "cells" / "clip.json"
    content = json.loads(cell.read_text()) | change
    if change == {"run": None}:
        content.pop("run")
    cell.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"cells/clip\.json`.*outliers evaluate` again"):
        read_cells(tmp_path / "out")


@pytest.mark.parametrize("damage", ["lost", "cut", "swapped"])
def test_words_that_are_not_those_of_the_run_are_made_again(faulty, scored, tmp_path, damage):
    whole, path = scored(faulty(scenes=4)), tmp_path / "out" / "words.npz"
    content = path.read_bytes()
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-30])
    else:
        with np.load(path) as arrays:
            read = {name: arrays[name] for name in arrays.files}
        read["features"] = read["features"][::-1].copy()
        np.savez_compressed(path, **read)
    (tmp_path / "out" / "shards" / "000001.npz").unlink()
    again = scored(faulty(scenes=4))
    assert [cell.miou for cell in again.cells] == [cell.miou for cell in whole.cells]
    with np.load(path) as arrays, np.load(io.BytesIO(content)) as before:
        assert all(np.array_equal(arrays[name], before[name]) for name in before.files)


def test_other_words_than_those_of_the_run_are_refused(faulty, scored, tmp_path, monkeypatch):
    scored(faulty(scenes=2))
    (tmp_path / "out" / "words.npz").unlink()
    module = importlib.import_module("segment.evaluation.evaluate")
    make = module.text_features

    def other(*args, **settings):
        text = make(*args, **settings)
        return replace(text, features=text.features.flip(0))

    monkeypatch.setattr(module, "text_features", other)
    with pytest.raises(OtherRun, match=r"other settings \(features\)"):
        scored(faulty(scenes=2))

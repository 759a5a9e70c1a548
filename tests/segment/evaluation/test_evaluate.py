"""Evaluations in this process: right numbers, each image once, and what is told when something is wrong."""

import errno
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_confusion

from diagnostics.backbones import load_backbone
from diagnostics.studies.store import DiskFull, OtherRun
from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.evaluation.job import is_empty, segmenter_of
from segment.evaluation.options import EvaluationOptions
from segment.evaluation.protocols import protocol_for, vocabulary_for
from segment.evaluation.results import read_cells
from segment.evaluation.shards import Shard, cut, read_shard, shard_size
from segment.evaluation.storage import storage_at
from segment.text.features import text_features

HERE = Local(workers=1)


@pytest.fixture
def here(run):
    return lambda *args, **settings: run(*args, engine=HERE, **settings)


def test_counts_are_those_of_a_plain_loop_and_scikit_learn(faulty, here, tmp_path):
    dataset = faulty(scenes=5)
    found = here(dataset)
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
    for cell in found.cells:
        matrix = total[cell.method]
        assert [entry["true"] for entry in cell.classes] == matrix.sum(axis=1).tolist()
        assert [entry["predicted"] for entry in cell.classes] == matrix.sum(axis=0).tolist()
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
        assert cell.miou == pytest.approx((np.diag(matrix)[union > 0] / union[union > 0]).mean())
        assert cell.pacc == pytest.approx(np.diag(matrix).sum() / matrix.sum())
        assert cell.images == {"scored": 5, "broken": 0, "skipped": 0, "asked": 5, "has": 5}
    shards = [read_shard(storage_at(tmp_path / "out"), shard, found.cells[0].run) for shard in cut(5, 2)]
    for method, matrix in total.items():
        assert np.array_equal(sum(shard.tallies[method].matrix for shard in shards), matrix)


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


def test_results_are_files_that_can_be_read_again(faulty, here, tmp_path):
    found = here(faulty(scenes=3))
    assert [cell.method for cell in read_cells(tmp_path)] == ["clearclip", "clip"]
    note = json.loads((tmp_path / "out" / "cells" / "clip.json").read_text())
    assert note["hash"] == found.cells[0].hash
    assert note["settings"]["protocol"]["sentences"][0].count("{}") == 1
    assert {"torch", "python"} <= note["versions"].keys()
    rows = pd.read_parquet(tmp_path / "out" / "cells.parquet")
    assert rows["miou"].tolist() == [cell.miou for cell in found.cells]


def test_a_broken_image_is_named_and_the_others_count(faulty, here, counts):
    found = here(faulty(scenes=5, broken=(1, 2)))
    assert found.broken.keys() == {"scene-1", "scene-2"}
    assert "is damaged" in found.broken["scene-1"]
    assert found.cells[0].images == {"scored": 3, "broken": 2, "skipped": 0, "asked": 5, "has": 5}
    assert not found.cells[0].whole
    whole = here(faulty(scenes=5), out="whole")
    pixels = 48 * 64
    assert sum(entry["true"] for entry in found.cells[0].classes) == 3 * pixels
    assert sum(entry["true"] for entry in whole.cells[0].classes) == 5 * pixels


def test_a_run_without_any_readable_image_says_why(faulty, here):
    with pytest.raises(ValueError, match=r"none of the 2 images can be scored.*is damaged"):
        here(faulty(scenes=2, broken=(0, 1)))


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


def test_images_of_background_alone_are_skipped_where_the_protocol_says_so(with_background, here, counts):
    skipping = {"empty": "skipped"}
    every = here(with_background(3), out="every").cells[0]
    found = here(with_background(3), settings=skipping).cells[0]
    assert found.images == {"scored": 2, "broken": 0, "skipped": 1, "asked": 3, "has": 3}
    assert found.whole
    pixels = 48 * 64
    assert sum(entry["true"] for entry in every.classes) == 3 * pixels
    assert sum(entry["true"] for entry in found.classes) == 2 * pixels
    assert every.classes[15]["true"] - found.classes[15]["true"] == pixels
    before = counts()
    assert here(with_background(3), settings=skipping).cells[0].images == found.images  # nothing to be done
    assert counts() == before


def test_a_run_of_skipped_images_alone_says_so(with_background, here):
    with pytest.raises(ValueError, match=r"`scene-0` shows nothing but background, which empty=skipped leaves out"):
        here(with_background(2, only=(0, 1)), settings={"empty": "skipped"})


def test_what_is_empty_depends_on_whether_there_is_a_background(faulty):
    ones, void = np.ones((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)
    mixed = np.where(np.arange(6).reshape(2, 3) < 2, ones, void)
    with_one = faulty(background=1, ignore=255)
    assert [is_empty(labels, with_one) for labels in (ones, void, mixed)] == [True, False, False]
    assert [is_empty(labels, faulty(ignore=255)) for labels in (ones, void, mixed)] == [False, True, False]
    assert not is_empty(ones, faulty())


def test_a_label_map_of_another_encoding_is_a_broken_image(faulty, here):
    class Odd(faulty):
        def read(self, index):
            sample = super().read(index)
            return sample._replace(labels=sample.labels + (100 if index == 1 else 0))

    found = here(Odd(scenes=3))
    assert list(found.broken) == ["scene-1"]
    assert "another encoding" in found.broken["scene-1"]


def test_a_full_disk_stops_the_run_and_loses_nothing(faulty, here, counts, monkeypatch):
    here(faulty(), out="whole")
    import segment.evaluation.storage as storage

    writes = iter(range(100))
    real = storage.os.fsync

    def full(number):
        if next(writes) >= 4:  # words, note and two shards fit
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(DiskFull, match="free some space"):
        here(faulty())
    assert len(counts()) == 2
    monkeypatch.undo()
    before = counts()
    here(faulty())
    assert counts() == {**counts("whole")}
    assert before.items() <= counts().items()


def test_a_run_goes_on_and_does_only_what_is_missing(faulty, here, counts, tmp_path):
    whole = here(faulty())
    kept = counts()
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    (tmp_path / "out" / "shards" / "000002.npz").unlink()
    cut_short = tmp_path / "out" / "shards" / "000004.npz"
    cut_short.write_bytes(cut_short.read_bytes()[:200])
    again = here(faulty())
    assert counts() == kept
    assert [cell.miou for cell in again.cells] == [cell.miou for cell in whole.cells]
    new = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert {name for name in times if times[name] != new[name]} == {"000002.npz", "000004.npz"}


def test_a_folder_of_other_settings_is_refused_by_name(faulty, here):
    here(faulty(scenes=2))
    with pytest.raises(OtherRun, match=r"protocol.hash, protocol.scale"):
        here(faulty(scenes=2), settings={"scale": "41"})
    with pytest.raises(OtherRun, match=r"dataset.has"):
        here(faulty(scenes=3))
    with pytest.raises(OtherRun, match=r"other settings \(threads\)"):
        here(faulty(scenes=2), threads=2)


def test_settings_of_a_run_that_never_got_to_a_shard_may_be_corrected(faulty, here, monkeypatch):
    import segment.evaluation.job as module

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Worker, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        here(faulty(scenes=2))
    monkeypatch.undo()
    found = here(faulty(scenes=2), settings={"scale": "41"})
    assert found.cells[0].settings["protocol"]["scale"] == 41


def test_an_object_store_gives_the_same(faulty, here, counts):
    here(faulty(scenes=4))
    here(faulty(scenes=4), out="memory://run/one")
    here(faulty(scenes=4), out="memory://run/one")
    assert counts("memory://run/one") == counts()
    assert [cell.method for cell in read_cells("memory://run/one")] == ["clearclip", "clip"]


def test_a_device_out_of_memory_gets_smaller_batches_and_goes_on(faulty, here, counts, monkeypatch):
    import segment.segmenter as module

    here(faulty(scenes=4), out="whole")
    real, sizes = module.encode_many, []

    def small(backbone, images, *args, **settings):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(backbone, images, *args, **settings)

    monkeypatch.setattr(module, "encode_many", small)
    here(faulty(scenes=4))
    assert max(sizes) > 2
    assert counts() == counts("whole")


def test_detectors_that_learn_see_the_runs_first_images_in_every_shard(faulty, tmp_path):
    spec = "clearclip:detector=mahalanobis"
    cells = [
        evaluate("tiny", spec, faulty(scenes=4), out=tmp_path / str(size), shard=size, engine=HERE).cells[0]
        for size in (1, 4)
    ]
    assert cells[0].classes == cells[1].classes


def test_clusters_are_given_to_classes_in_the_unsupervised_setting(faulty, here):
    plain = here(faulty(scenes=4), out="plain").cells[0]
    found = here(faulty(scenes=4), settings={"matching": "hungarian"}).cells[0]
    assert plain.matching is None
    assert sorted(found.matching.values()) == sorted(faulty().names)
    assert found.pacc >= plain.pacc
    assert found.low <= found.high
    assert found.boundary_iou is None


def test_label_maps_are_exported_in_the_encoding_of_the_data_set(faulty, here, tmp_path, tiny):
    here(faulty(scenes=2))
    here(faulty(scenes=2), export=tmp_path / "maps")  # a finished run writes them too
    with Image.open(tmp_path / "maps" / "clip" / "scene-1.png") as image:
        values = np.asarray(image)
    assert values.shape == (48, 64)
    shard = read_shard(storage_at(tmp_path / "out"), Shard(0, 0, 2), read_cells(tmp_path / "out")[0].run)
    assert np.unique(values).tolist() == np.unique(shard.tallies["clip"].images[1].predicted).tolist()


@pytest.mark.parametrize(
    "settings, said",
    [({"limit": 0}, "at least 1 image"), ({"threads": 0}, "`threads`"), ({"settings": {"a": "b"}}, "no setting")],
)
def test_wrong_arguments_say_what_was_expected(faulty, here, settings, said):
    with pytest.raises(ValueError, match=said):
        here(faulty(scenes=1), **settings)


def test_the_first_images_are_taken_up_to_the_limit(faulty, here):
    found = here(faulty(scenes=6), limit=3)
    assert found.cells[0].images == {"scored": 3, "broken": 0, "skipped": 0, "asked": 3, "has": 6}


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

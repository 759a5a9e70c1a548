"""A run on disk that was damaged: what is lost is measured again or named, and never read as another number."""

import json
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from diagnostics.backbones import load_backbone
from diagnostics.lock import InUse, held
from diagnostics.studies.probe import probe
from diagnostics.studies.store import DamagedStore, OtherRun, RunStore, open_run

MEASURES = ["norms", "auc"]


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny:depth=2")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    random_ = np.random.default_rng(0)
    for part, depth in (("images", (3,)), ("labels", ())):
        (folder / part).mkdir()
        for number in range(4):
            values = random_.integers(0, 3 if part == "labels" else 256, (64, 64, *depth), dtype=np.uint8)
            Image.fromarray(values).save(folder / part / f"{number}.png")
    return folder


@pytest.fixture
def run(tiny, images):
    def go(out):
        return probe(
            tiny, images / "images", labels=images / "labels", measures=MEASURES, size="64", batch=2, out=out
        ).load()

    return go


@pytest.fixture(scope="module")
def finished(tiny, images, tmp_path_factory):
    """A finished store, which tests copy."""
    out = tmp_path_factory.mktemp("finished") / "run.zarr"
    probe(tiny, images / "images", labels=images / "labels", measures=MEASURES, size="64", batch=2, out=out)
    return out


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run.zarr")
    return tmp_path / "run.zarr"


def chunks(store, name):
    return sorted(path for path in (store / name / "c").rglob("*") if path.is_file())


def flipped(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["norm", "norm_outliers", "auc", "pair_histogram", "reason", "roc", "auc_pooled"])
def test_a_lost_chunk_is_named_by_a_reader_and_measured_again_by_the_next_run(store, finished, run, name):
    chunks(store, name)[0].unlink()
    with pytest.raises(DamagedStore, match=rf"run\.zarr` has lost `{name}/c/0.*same settings"):
        open_run(store)
    assert run(store).identical(open_run(finished).load())
    assert len(chunks(store, name)) == len(chunks(finished, name))
    assert open_run(store).load().identical(open_run(finished).load())


def test_only_the_block_of_a_lost_chunk_is_measured_again(store, run, tiny, monkeypatch):
    chunks(store, "norm")[-1].unlink()
    measured, trunk = [], type(tiny).trunk
    monkeypatch.setattr(
        type(tiny), "trunk", lambda self, images, **other: measured.append(len(images)) or trunk(self, images, **other)
    )
    run(store)
    assert measured == [2]


def test_no_flipped_bit_gives_other_numbers(store, finished, run):
    expected = open_run(finished).load()
    paths = chunks(store, "norm") + chunks(store, "image") + chunks(store, "roc") + chunks(store, "auc")
    draw, refused = random.Random(0), 0
    for path in paths * 4:
        whole = path.read_bytes()
        flipped(path, draw.randrange(len(whole) * 8))
        try:
            values = open_run(store).load()
        except Exception as error:
            assert "hecksum" in str(error) or isinstance(error, (RuntimeError, ValueError))  # noqa: PT017
            refused += 1
        else:
            assert values.identical(expected)
        path.write_bytes(whole)
    assert refused == 4 * len(paths)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_chunk_is_measured_again(store, finished, run, damage):
    path = chunks(store, "norm")[0]
    content = path.read_bytes()
    if damage == "flip":
        flipped(path, len(content) * 4)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert run(store).identical(open_run(finished).load())
    assert path.read_bytes() == content


def test_a_lost_variable_is_named(store, run):
    shutil.rmtree(store / "norm")
    with pytest.raises(DamagedStore, match="has lost its variable `norm`"):
        open_run(store)
    with pytest.raises(DamagedStore, match=r"has lost its variable `norm`.*Delete it and run again"):
        run(store)


@pytest.mark.parametrize("name", ["image", "layer", "rows"])
def test_lost_coordinates_are_named(store, run, name):
    chunks(store, name)[0].unlink()
    with pytest.raises(DamagedStore, match=f"has lost `{name}/c/0`"):
        open_run(store)
    with pytest.raises(DamagedStore, match=rf"has lost `{name}/c/0`\. Delete it and run again"):
        run(store)


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "place, change",
    [
        ("norm", lambda content: content.update(shape=[3, 2, 4, 4])),
        ("norm", lambda content: content.update(codecs=[{"name": "no-such-codec", "configuration": {}}])),
        ("norm", lambda content: content.clear()),
        ("image", lambda content: content.update(shape=[3])),
    ],
)
def test_tampered_metadata_are_reported_with_the_store(store, run, place, change):
    edited(store / place / "zarr.json", change)
    with pytest.raises(ValueError, match=r"run\.zarr`"):
        open_run(store).load()
    with pytest.raises(ValueError, match=r"run\.zarr`.*(Delete it and run again|choose another --out)"):
        run(store)


@pytest.mark.parametrize("settings", ["null", "[]", "3", "{", '"text"'])
def test_settings_of_another_form_are_reported_with_the_store(store, run, settings):
    edited(store / "zarr.json", lambda content: content["attributes"].update(settings=settings))
    with pytest.raises((DamagedStore, OtherRun), match=r"run\.zarr`"):
        run(store)


def test_a_finished_run_opens_in_plain_xarray_without_a_warning(finished):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(str(finished), chunks=None)
    expected = open_run(finished)
    of_the_run = {"status", "reason", "pair_histogram"}  # the last is a sum for each block
    assert set(expected.data_vars) | of_the_run == set(plain.data_vars)
    assert plain[sorted(map(str, expected.data_vars))].load().identical(expected.load())


def test_writing_the_end_of_a_run_warns_of_nothing(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tmp_path / "new.zarr")


def test_a_finished_run_is_only_read(store, run):
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    run(store)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_a_run_that_was_stopped_before_its_end_finishes_it(store, finished, run):
    edited(store / "zarr.json", lambda content: content["attributes"].pop("finished"))
    shutil.rmtree(store / "roc")
    assert run(store).identical(open_run(finished).load())
    assert json.loads((store / "zarr.json").read_text())["attributes"]["finished"] is True


def test_a_second_process_is_refused_by_name_and_the_first_is_not_disturbed(run, tmp_path, finished, monkeypatch):
    write, messages = RunStore.write, []
    code = "import sys, pathlib; from diagnostics.lock import held\nwith held(pathlib.Path(sys.argv[1])): pass"

    def meanwhile(self, *arguments):
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "run.zarr")], capture_output=True, text=True, check=False
        )
        messages.append(other.stderr)
        write(self, *arguments)

    monkeypatch.setattr(RunStore, "write", meanwhile)
    assert run(tmp_path / "run.zarr").identical(open_run(finished).load())
    assert len(messages) == 2
    assert all("run.zarr` is being written by process" in message for message in messages)
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path):
    code = (
        "import sys, os, pathlib; from diagnostics.lock import held\nwith held(pathlib.Path(sys.argv[1])): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False).returncode == 9
    assert (tmp_path / ".a.lock").exists()
    with held(tmp_path / "a"), pytest.raises(InUse, match=r"`.*a` is being written by process"), held(tmp_path / "a"):
        pass
    assert not (tmp_path / ".a.lock").exists()
    with held(tmp_path / "a"), held(tmp_path / "b"):
        pass


def test_a_folder_that_cannot_be_written_to_needs_no_lock():
    with held(Path("/proc/none/run.zarr")):
        pass


@pytest.mark.parametrize("change", ["flipped", "cut", "emptied"])
def test_a_chunk_that_is_damaged_is_named_when_it_is_read(change, tmp_path, tiny):
    images = [np.full((64, 64, 3), value, np.uint8) for value in (10, 200, 90)]
    probe(tiny, images, measures=["norms"], out=tmp_path / "run.zarr", batch=2)
    chunk = tmp_path / "run.zarr/norm/c/1/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes({"flipped": bytes(content), "cut": bytes(content[:9]), "emptied": b""}[change])
    run = open_run(tmp_path / "run.zarr")  # lazily
    assert np.isfinite(run["norm"][0].values).all()
    with pytest.raises(DamagedStore, match=r"norm/c/1/0/0/0` is damaged: its checksum") as refused:
        run["norm"].load()
    assert "--out once more: it measures it again" in str(refused.value)

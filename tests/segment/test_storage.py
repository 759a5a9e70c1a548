"""Files by name, in a folder or an object store, and nowhere else."""

import pytest

from diagnostics.below import LeadsOut
from segment.evaluation.storage import storage_at


@pytest.fixture(params=["folder", "memory"])
def storage(request, tmp_path):
    return storage_at(tmp_path / "out" if request.param == "folder" else f"memory://{tmp_path.name}/out")


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/victim", "a/.."])
def test_a_name_that_leads_out_is_neither_read_nor_written(storage, tmp_path, name):
    (tmp_path / "victim").write_bytes(b"mine")
    with pytest.raises(LeadsOut, match="lead out of"):
        storage.write(name, b"theirs")
    with pytest.raises(LeadsOut, match="lead out of"):
        storage.read(name)
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_file_comes_back_as_it_was_written(storage):
    storage.write("deep/a", b"1")
    storage.write("deep/a", b"2")
    assert storage.read("deep/a") == b"2"
    assert storage.list("deep") == ["a"]


def test_a_folder_linked_to_elsewhere_is_not_written_into(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "clip").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LeadsOut, match="a folder on the way is a link"):
        storage_at(tmp_path / "out").write("clip/a.png", b"1")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_stays(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "out" / "a").symlink_to(tmp_path / "mine")
    storage_at(tmp_path / "out").write("a", b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "out" / "a").read_bytes() == b"new"

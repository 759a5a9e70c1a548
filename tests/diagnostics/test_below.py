import pytest

from diagnostics.below import LeadsOut, below, leads_out


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "a..b", "..a/b", "a/.../b", "~/a", "C:a"])
def test_names_of_files_and_folders_stay_inside(tmp_path, name):
    assert leads_out(name) == ""
    assert below(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", ["..", "../a", "a/../b", "a/..", "/a", "/", "\\\\host\\a", "a\\..\\b", "a\0b", ""])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(LeadsOut, match="would lead out of"):
        below(tmp_path, name)


def test_a_folder_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "in").symlink_to(tmp_path / "root" / "inside")
    with pytest.raises(LeadsOut, match=r"would be written to .*elsewhere/deep`, out of"):
        below(tmp_path / "root", "out/deep/a.png")
    assert below(tmp_path / "root", "in/a.png").parent.resolve() == tmp_path / "root" / "inside"


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    assert below(tmp_path / "near", "a/b") == tmp_path / "near" / "a" / "b"


def test_a_neighbor_whose_name_starts_alike_is_outside(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root-of-others").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root-of-others")
    with pytest.raises(LeadsOut):
        below(tmp_path / "root", "link/a")

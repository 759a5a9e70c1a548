import matplotlib
import pytest
from PIL import Image

from figures import layer_curve, write


@pytest.fixture
def figure(probed):
    return layer_curve(probed["norm_ratio"], title="norms of a model")


def test_a_figure_becomes_a_png_and_a_pdf_in_a_new_folder(figure, tmp_path):
    paths = write(figure, tmp_path / "new" / "norms.v2", metadata={"spec": "tiny"})
    assert [path.name for path in paths] == ["norms.v2.png", "norms.v2.pdf"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["norms.v2.pdf", "norms.v2.png"]
    with Image.open(paths[0]) as image:
        assert image.size == tuple((figure.get_size_inches() * 200).astype(int))
        assert image.info["dpi"] == pytest.approx((200, 200), rel=1e-3)
    assert paths[1].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".PNG"])
def test_a_suffix_asks_for_one_kind_only(figure, tmp_path, suffix):
    assert write(figure, tmp_path / f"norms{suffix}") == [tmp_path / f"norms{suffix}"]
    assert [path.name for path in tmp_path.iterdir()] == [f"norms{suffix}"]


def test_files_say_what_they_show(figure, tmp_path):
    png, pdf = write(figure, tmp_path / "norms", metadata={"spec": "tiny:seed=3", "layers": 12, "note": "Straße 雀"})
    with Image.open(png) as image:
        assert image.text["Title"] == "norms of a model"
        assert image.text["spec"] == "tiny:seed=3"
        assert image.text["layers"] == "12"
        assert image.text["note"] == "Straße 雀"
        assert not any("time" in key.lower() or "date" in key.lower() for key in image.text)
    content = pdf.read_bytes()
    assert b"norms of a model" in content
    assert b"CreationDate" not in content
    (pdf,) = write(figure, tmp_path / "plain.pdf", metadata={"spec": "tiny:seed=3"})
    assert b"(spec: tiny:seed=3)" in pdf.read_bytes()


def test_a_given_title_comes_before_the_figures_own(figure, tmp_path):
    (png,) = write(figure, tmp_path / "norms.png", metadata={"title": "mine"})
    with Image.open(png) as image:
        assert image.text["Title"] == "mine"
        assert "title" not in image.text


def test_the_same_figure_gives_the_same_bytes(probed, tmp_path):
    first = write(layer_curve(probed["entropy"]), tmp_path / "first", metadata={"spec": "tiny"})
    with matplotlib.rc_context({"savefig.dpi": 30, "savefig.facecolor": "red", "pdf.fonttype": 3}):
        second = write(layer_curve(probed["entropy"]), tmp_path / "second", metadata={"spec": "tiny"})
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(figure, tmp_path, monkeypatch):
    (path,) = write(figure, tmp_path / "norms.png")
    old = path.read_bytes()

    def fail(target, **settings):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        write(figure, path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_writing_leaves_the_settings_alone(figure, tmp_path):
    before = dict(matplotlib.rcParams)
    write(figure, tmp_path / "norms.png")
    assert dict(matplotlib.rcParams) == before

import matplotlib
import matplotlib.pyplot
import pytest

from figures.look import LOOK, PALETTE, STREAM_COLORS, drawing, map_colors, stream_color, style


def test_the_style_ends_with_its_context():
    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["font.size"] == LOOK["font.size"]
    assert dict(matplotlib.rcParams) == before


def test_the_style_ends_after_an_error_too():
    before = dict(matplotlib.rcParams)
    with pytest.raises(KeyError), style():
        raise KeyError("inside")
    assert dict(matplotlib.rcParams) == before


def test_a_drawing_keeps_its_small_ticks_when_shown_later():
    with drawing(title="about $5 and $6") as figure:
        ax = figure.subplots()
        ax.plot([0, 1000], [0, 1000])
    with matplotlib.rc_context({"xtick.labelsize": 40}):
        figure.canvas.draw()
        sizes = {label.get_fontsize() for label in ax.get_xticklabels()}
    assert sizes == {LOOK["xtick.labelsize"]}
    assert figure.get_suptitle() == "about $5 and $6"
    assert matplotlib.pyplot.get_fignums() == []


def test_a_long_title_goes_on_in_another_line_inside_the_figure():
    with drawing((3.3, 2.4), title="timm:vit_tiny_patch16_224@a_file_with_a_long_name.safetensors") as figure:
        figure.subplots()
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    assert "\n" in figure.get_suptitle()
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1


def test_each_stream_has_a_color_of_its_own():
    colors = [stream_color(stream) for stream in ("block_in", "attn_out", "block_sum")]
    assert len(set(colors)) == 3
    assert stream_color("other", 0) not in STREAM_COLORS.values()
    assert stream_color("other", 1) != stream_color("other", 0)
    assert set(colors) <= set(PALETTE)
    assert [stream_color(stream) for stream in ("X_res", "X_attn", "X_sum")] == colors


def test_missing_values_have_a_gray_that_the_global_color_map_lacks():
    assert tuple(map_colors("magma").get_bad()) != tuple(matplotlib.colormaps["magma"].get_bad())

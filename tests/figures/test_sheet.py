"""The page layout: tiles stand in line where their measures say, and words have room."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import Normalize
from matplotlib.patches import Patch

from figures.sheet import Bar, Columns, Row, Tile, sheet


def tile(name, height=1.0, **more):
    return Tile(draw=lambda ax: ax.imshow(np.zeros((2, 2)), aspect="auto"), name=name, height=height, **more)


def places(figure):
    """(left, top, width, height) of the axes in inches from the top left corner, by name."""
    wide, high = figure.get_size_inches()
    boxes = {ax.get_label(): ax.get_position() for ax in figure.axes}
    return {
        name: (box.x0 * wide, (1 - box.y1) * high, box.width * wide, box.height * high) for name, box in boxes.items()
    }


def test_tiles_have_their_inches_and_stand_one_gap_apart():
    columns = Columns(count=2, tile=1.2, slot=1.2, gap=0.1, side=0.5)
    rows = [Row(tiles=[tile("a"), tile("b", 0.5)], space=0.25), Row(tiles=[None, tile("c")])]
    where = places(sheet(rows, columns))
    assert where["a"] == pytest.approx((0.58, 0.08, 1.2, 1.0))
    assert where["b"] == pytest.approx((1.88, 0.08, 1.2, 0.5))
    assert where["c"] == pytest.approx((1.88, 0.08 + 1.0 + 0.25, 1.2, 1.0))


def test_heads_of_several_lines_end_at_their_tiles_and_the_row_has_room_for_the_longest():
    columns = Columns(count=2, tile=1.0, slot=1.0)
    figure = sheet([Row(tiles=[tile("a", head="norm"), tile("b", head="the norm of a patch")])], columns)
    figure.canvas.draw()
    high = figure.bbox.height
    heads = {text.get_text(): text.get_window_extent() for text in figure.texts}
    assert set(heads) == {"norm", "the norm of a\npatch"}
    top = next(ax for ax in figure.axes).get_window_extent().y1
    for box in heads.values():
        assert top <= box.y0 < top + 0.08 * figure.dpi
        assert box.y1 <= high


def test_bars_stand_below_their_tiles_or_beside_their_row():
    bar = Bar(Normalize(0, 1), np.array([0.0, 1.0]))
    columns = Columns(count=1, tile=1.0, slot=1.0, right=0.7)
    below = places(sheet([Row(tiles=[tile("a", bar=bar)])], columns))
    assert below["color bar"][0] == pytest.approx(below["a"][0])
    assert below["a"][1] + 1.0 < below["color bar"][1] < below["a"][1] + 1.05
    beside = places(sheet([Row(tiles=[tile("a")], bar=bar)], columns))
    assert beside["color bar"][1] == pytest.approx(beside["a"][1])
    assert beside["color bar"][3] == pytest.approx(1.0)
    assert beside["color bar"][0] > beside["a"][0] + 1.0


def test_a_row_is_as_high_as_the_words_beside_it():
    columns = Columns(count=1, tile=1.0, slot=1.0, side=0.8)
    label = "a name of many words that takes more lines than the map is high"
    figure = sheet([Row(tiles=[tile("a", 0.2)], label=label), Row(tiles=[tile("b", 0.2)], label="next")], columns)
    figure.canvas.draw()
    first, second = (text.get_window_extent() for text in figure.texts)
    assert first.y0 > second.y1
    assert first.x1 < next(ax for ax in figure.axes).get_window_extent().x0


def test_title_note_and_legend_stay_on_the_page_and_apart():
    columns = Columns(count=1, tile=1.0, slot=1.0)
    title = "timm:vit_tiny_patch16_224.augreg_in21k@vit_tiny_patch16_224.augreg_in21k.safetensors and more words"
    handles = [Patch(label=f"a class with a long name {number}") for number in range(4)]
    figure = sheet([Row(tiles=[tile("a")])], columns, title=title, note="note " * 40, legend=handles)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
    boxes += [ax.get_window_extent() for ax in figure.axes]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= -0.5
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:place])
    assert figure.get_suptitle().count("\n") == 1

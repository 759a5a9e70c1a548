"""Words measured, broken and shortened: nothing is wider than its room, and no word is cut that fits."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from figures.curves.setting_curves import setting_curves
from figures.lettering import backbone_name, backbone_names, lines_within, pieces_of, shortened_to, width_of
from figures.look import drawing

LONG = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k@vit_tiny_patch16_224.safetensors"


@pytest.mark.parametrize("text", ["layer 12", "norm of the patch (model units)", LONG, "ÄÖÜ … fi"])
@pytest.mark.parametrize("size", [6.0, 7.0, 9.0])
def test_a_width_is_that_of_the_text_as_it_is_drawn(text, size):
    with drawing((8, 2)) as figure:
        drawn = figure.text(0, 0, text, fontsize=size)
    figure.canvas.draw()
    assert width_of(text, size) == pytest.approx(drawn.get_window_extent().width / figure.dpi, rel=0.06, abs=0.02)


def test_pieces_are_what_the_signs_of_a_name_join():
    assert pieces_of("timm:vit_tiny@a.bin") == ["timm:", "vit_", "tiny@", "a.", "bin"]
    assert "".join(pieces_of(LONG)) == LONG


@pytest.mark.parametrize("inches", [0.6, 1.0, 2.0, 3.3, 6.9])
@pytest.mark.parametrize(
    "text", [LONG, "a title of some words that goes on and on", "a" * 90, f"Frobenius norm\n{LONG}"]
)
def test_no_line_is_wider_than_its_room(text, inches):
    for line in lines_within(text, inches, 8.0).split("\n"):
        assert width_of(line, 8.0) <= inches


def test_lines_end_between_words_and_names_behind_a_sign_that_joins_them():
    lines = lines_within("last block of the model, " + LONG, 2.0, 8.0).split("\n")
    assert lines[0] == "last block of the model,"
    assert "".join(lines[1:]) == LONG
    assert all(line[-1] in ",:/@_.-" for line in lines[1:-1])
    assert lines_within("one two", width_of("one two", 8.0), 8.0) == "one two"
    assert lines_within("one two", width_of("one two", 8.0) - 0.01, 8.0) == "one\ntwo"


def test_a_shortened_name_keeps_whole_pieces_of_both_ends():
    short = shortened_to(LONG, 2.5, 8.0)
    before, after = short.split("…")
    assert LONG.startswith(before)
    assert LONG.endswith(after)
    assert before[-1] in ":_.@"
    assert LONG[-len(after) - 1] in ":_.@"
    assert shortened_to("short", 2.0, 8.0) == "short"
    assert shortened_to("a" * 90, 1.0, 8.0).count("…") == 1


def test_at_most_so_many_lines_are_kept_and_the_last_one_says_that_more_came():
    text = "one two three four five six seven eight nine ten"
    lines = lines_within(text, 0.9, 8.0, most=2).split("\n")
    assert len(lines) == 2
    assert text.startswith(lines[0])
    assert "…" in lines[1]
    assert lines[1].endswith("ten")


def test_a_backbone_is_named_without_its_file_unless_two_would_be_the_same():
    assert backbone_name("timm:vit@/data/a.safetensors") == "timm:vit"
    assert backbone_name("openai:/data/ViT-B-16.pt") == "openai:ViT-B-16.pt"
    assert backbone_name("open_clip:ViT-B-16/openai") == "open_clip:ViT-B-16/openai"
    assert list(backbone_names(["timm:vit@/x/a.bin", "timm:other@/x/a.bin"]).values()) == ["timm:vit", "timm:other"]
    assert list(backbone_names(["timm:vit@/x/a.bin", "timm:vit@/x/b.bin"]).values()) == ["timm:vit@a.bin",
                                                                                         "timm:vit@b.bin"]  # fmt: skip
    same = ["timm:vit@/x/a.bin", "timm:vit@/y/a.bin"]
    assert list(backbone_names(same).values()) == same


def test_a_title_stays_within_its_figure(probed):
    import pandas as pd

    table = pd.DataFrame({"a": [1.0, 2.0]}, index=[1.0, 2.0])
    figure: Figure = setting_curves(table, xlabel="x", ylabel="y", title=f"same class? {LONG} and {'z' * 80}")
    figure.canvas.draw()
    title = figure._suptitle
    assert title is not None
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1

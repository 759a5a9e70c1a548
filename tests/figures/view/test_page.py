"""The page as a text: whole, within its size, without a network, and holding what it was given."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from figures.view import PageImage, page_html
from figures.view.packing import unpack, unpack_rows
from figures.view.page import NO_LABEL, REDUCTIONS

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Reader(HTMLParser):
    """Reads a page and holds every element to be closed in order; keeps ids, references, and the data."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.tags, self.data = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute comes twice in {self.get_starttag_text()}"
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        for key in ("for", "aria-labeledby", "aria-describedby"):
            self.references += values.get(key, "").split()
        if tag not in VOID:
            self.open.append((tag, values.get("id")))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", "data"):
            self.data += data


def page(images, **options):
    return page_html(images, **({"title": "Inside tiny"} | options))


def data_of(text):
    return json.loads(Reader(text).data)


def test_elements_are_closed_ids_are_unique_and_references_lead_somewhere(images):
    text = page(images)
    read = Reader(text)
    assert text.startswith("<!DOCTYPE html>")
    assert len(set(read.ids)) == len(read.ids)
    assert set(read.references) <= set(read.ids)
    asked = set(re.findall(r'\$\("([\w-]+)"\)', text))
    assert asked
    assert asked <= set(read.ids)
    assert "{{" not in text


def test_controls_have_names(images):
    text = page(images)
    named = set(re.findall(r'<label[^>]* for="([\w-]+)"', text))
    for tag, attrs in Reader(text).tags:
        if tag in ("select", "input") and attrs.get("id", "image") != "image" and attrs.get("type") != "radio":
            assert attrs["id"] in named


def test_nothing_is_loaded_from_anywhere(images):
    text = page(images)
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<]*", text.replace(Reader(text).data, "")))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a language, not an address that is opened
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "@import", "import(", "url(", "eval("):
        assert word not in text.replace(Reader(text).data, "")
    for tag, attrs in Reader(text).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not {"src", "href", "srcset"} & set(attrs)
    policy = next(attrs["content"] for tag, attrs in Reader(text).tags if tag == "meta" and "http-equiv" in attrs)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_the_page_holds_what_it_was_given(images):
    data = data_of(page(images))["images"]
    assert [held["name"] for held in data] == ["a.jpg", "b.jpg"]
    for image, held in zip(images, data, strict=True):
        inside = image.inside
        assert held["grid"] == list(inside.layout.grid)
        assert (held["prefix"], held["class_index"]) == (inside.layout.prefix, inside.layout.class_index)
        assert np.array_equal(unpack(held["norms"]), inside.norms)
        assert np.array_equal(unpack(held["purified_norms"]), inside.purified_norms)
        for place in range(len(inside.layers)):
            for name, step in (("attention", 255), ("mean_attention", 255), ("similarity", 510)):
                values = getattr(inside, name)[place].astype(np.float32)
                assert np.abs(unpack_rows(held[name][place]) - values).max() <= np.ptp(values) / step + 1e-6
        for packed, (spec, scored) in zip(held["detectors"], inside.scored.items(), strict=True):
            assert (packed["spec"], packed["threshold"]) == (spec, scored.threshold)
            assert np.array_equal(unpack(packed["scores"]), scored.scores)
            assert np.array_equal(unpack(packed["marked"]), scored.marked)


def test_labels_are_kept_where_a_window_looked(page_image):
    data = data_of(page([page_image]))["images"][0]
    assert np.array_equal(unpack(data["labels"]["clip"]), page_image.labels["clip"])
    plain = unpack(data["labels"]["sc-clip"])
    assert (plain[:, :8] == NO_LABEL).all()
    assert (plain[:, 8:] == 1).all()
    assert data["classes"] == ["zebra", "grass", "sky"]
    assert len(data["class_colors"]) == 3


def test_large_label_maps_shrink_to_the_nearest_pixel(inside):
    labels = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 320, 0), 640, 1)  # 640 x 1280 in quarters
    data = data_of(page([PageImage(inside=inside, labels={"clip": labels}, classes=tuple("abcd"))]))["images"][0]
    small = unpack(data["labels"]["clip"])
    assert small.shape == (160, 320)
    assert np.array_equal(small, labels[::4, ::4])


def test_a_name_can_neither_end_the_data_nor_become_markup(draw):
    name = '</script><b id="evil">&\u2028'
    text = page([PageImage(inside=draw(name))], title='<i>"x"</i>')
    read = Reader(text)
    assert "evil" not in read.ids
    assert not [tag for tag, _ in read.tags if tag == "i"]
    assert json.loads(read.data)["images"][0]["name"] == name


def test_colors_of_features_have_the_scale_of_the_purified_ones(draw):
    inside = draw()
    ramp = np.linspace(0, 1, inside.layout.count, dtype=np.float32)
    purified = np.broadcast_to(ramp[None, :, None], inside.components.shape)
    shifted = replace(inside, purified_components=purified, components=purified + 10)
    packed = data_of(page([PageImage(inside=shifted)]))["images"][0]
    after = unpack(packed["purified_features"])[0, :, 0]
    assert after[0] == 0
    assert after[-1] == 255
    assert (np.diff(after.astype(int)) > 0).all()
    assert (unpack(packed["features"]) == 255).all()


def test_heads_that_were_not_asked_for_are_not_there(draw):
    data = data_of(page([PageImage(inside=draw(heads=None))]))
    assert data["images"][0]["attention"] == [None] * 4
    assert data["left_out"] == []


def test_a_smaller_limit_takes_out_more_and_says_so(draw):
    images = [
        PageImage(inside=draw(f"{number}.jpg", grid=(7, 9), depth=8, heads=6, seed=number)) for number in range(3)
    ]
    limit, seen_levels = len(page(images).encode()), set()
    while len(seen_levels) < len(REDUCTIONS):
        text = page(images, limit=limit)
        assert len(text.encode()) <= limit
        data = data_of(text)
        level = REDUCTIONS.index(data["left_out"][-1]) if data["left_out"] else 0
        assert data["left_out"][:2] == list(REDUCTIONS[1 : min(level, 2) + 1])
        assert len(data["left_out"]) == min(level, 3)
        seen_levels.add(level)
        every = {3: 2, 4: 4, 5: 8}.get(level, 1)
        kept = [place for place in range(8) if (7 - place) % every == 0]
        for image in data["images"]:
            assert [place for place, maps in enumerate(image["mean_attention"]) if maps] == kept
            assert [place for place, maps in enumerate(image["similarity"]) if maps] == kept
            assert any(image["attention"]) == (level < 1)
            assert any(image["purified_similarity"]) == (level < 2)
        limit = len(text.encode()) - 1
    assert seen_levels == set(range(len(REDUCTIONS)))
    with pytest.raises(ValueError, match="fewer"):
        page(images, limit=limit)


def test_the_order_in_which_images_come_does_not_matter_for_what_is_left_out(draw):
    small, large = PageImage(inside=draw("a")), PageImage(inside=draw("b", grid=(9, 9), heads=8))
    limit = len(page([small, large]).encode()) - 1
    for order in ([small, large], [large, small]):
        data = data_of(page(order, limit=limit))
        assert data["left_out"] == [REDUCTIONS[1]]
        assert not any(any(image["attention"]) for image in data["images"])


def test_the_same_images_give_the_same_page(images):
    assert page(images) == page(iter(images))


def test_a_page_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        page([])


@pytest.mark.parametrize("word", ["{{data}}", "{{script}}", "{{title}}", "{{none}}", r"\1 \g<0>", "</script><b>"])
def test_words_of_the_template_in_a_title_or_a_name_change_nothing(images, word):
    plain = page(images)
    text = page(images, title=word, note=word)
    assert data_of(text) == data_of(plain) | {"note": word}
    assert f"<title>{html.escape(word)}</title>" in text
    assert Reader(text).ids == Reader(plain).ids


def test_heads_rows_and_columns_are_numbered_from_0_as_in_the_data(images):
    text = page(images)
    assert "Rows, columns and heads are numbered from 0, as in the data; layers from 1." in text
    names = re.findall(r"`head \$\{(.+?)\}`", text) + re.findall(r"`row \$\{(.+?)\}, column \$\{(.+?)\}`", text)
    assert names == ["head", ("Math.floor(state.patch / shown.cols)", "state.patch % shown.cols")]

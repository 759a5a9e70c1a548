"""The page in a real browser without a window: it loads, and answers to mouse, finger and keys.

Skipped where there is no Chromium or Chrome, or no playwright to drive it; OUTLIERS_BROWSER names a browser elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from figures.view import PageImage, page_html
from figures.view.packing import pack_rows, unpack_rows

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the browser, is missing")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    asked = os.environ.get("OUTLIERS_BROWSER")
    path = asked or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser found: none of {', '.join(NAMES)} is on the PATH, and OUTLIERS_BROWSER is not set")
    with playwright.sync_playwright() as running:
        # Containers forbid the sandbox; the page is our own.
        chromium = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """The page open in the browser, with what it complained about and what it asked the network for."""

    def __init__(self, context, file):
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.ready()

    def ready(self):
        self.page.wait_for_selector("html[data-ready=true]", timeout=30_000)

    def painted(self):
        """Waits until what was asked for is drawn."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def state(self, name):
        return self.page.evaluate(f"view.state.{name}")

    def pixels(self, selector):
        self.painted()
        return self.page.eval_on_selector(selector, "canvas => canvas.toDataURL()")

    def point(self, row, col, selector="#map", rows=3, cols=4):
        box = self.page.locator(selector).bounding_box()
        self.page.mouse.move(
            box["x"] + (col + 0.5) * box["width"] / cols, box["y"] + (row + 0.5) * box["height"] / rows
        )
        self.painted()

    def slide(self, selector, value):
        self.page.locator(selector).evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            value,
        )
        self.painted()

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        self.painted()


@pytest.fixture
def open_page(browser, tmp_path):
    contexts = []

    def opened(images, viewport=DESK, **options):
        contexts.append(browser.new_context(viewport=viewport, **options))
        file = tmp_path / "page.html"
        file.write_text(page_html(images, title="Inside tiny", note="random weights"), encoding="utf-8")
        return Opened(contexts[-1], file)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def opened(open_page, images):
    return open_page(images)


ATTENTION = "figure[data-kind=attention] canvas"
DETECTOR = '[data-detector="relative-norm"]'


def test_it_opens_without_a_complaint_and_asks_for_nothing(opened):
    opened.point(1, 1)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.page.title() == "Inside tiny"
    assert opened.page.locator("#note").inner_text() == "random weights"
    assert not opened.page.locator("#trouble").is_visible()


def test_maps_have_the_values_that_were_packed(opened, inside):
    opened.point(1, 2)
    assert opened.state("patch") == 6
    place = opened.state("layer")
    token = inside.layout.prefix + 6
    for head, rows in [("mean", inside.mean_attention[place]), ("0", inside.attention[place, 0])]:
        opened.page.select_option("#head", head)
        shown = opened.page.evaluate('view.map("attention")')
        expected = unpack_rows(pack_rows(rows, "square"))
        np.testing.assert_allclose(shown, expected[token, inside.layout.prefix :], rtol=1e-5)
        shown = opened.page.evaluate('view.map("class")')
        np.testing.assert_allclose(shown, expected[0, inside.layout.prefix :], rtol=1e-5)
    similarity = unpack_rows(pack_rows(inside.similarity[place], "even"))
    np.testing.assert_allclose(opened.page.evaluate('view.map("similarity")'), similarity[6], atol=1e-6)
    norms = inside.norms[inside.layers[place], inside.layout.prefix :]
    np.testing.assert_allclose(opened.page.evaluate('view.map("norm")'), norms)
    opened.page.check("input[value=to]")
    opened.page.select_option("#head", "mean")
    received = unpack_rows(pack_rows(inside.mean_attention[place], "square"))[inside.layout.prefix :, token]
    np.testing.assert_allclose(opened.page.evaluate('view.map("attention")'), received, rtol=1e-5)


def test_pointing_at_another_patch_changes_the_maps(opened):
    opened.point(0, 0)
    before, readout = opened.pixels(ATTENTION), opened.page.locator("#readout").inner_text()
    opened.point(2, 3)
    assert opened.state("patch") == 11
    assert opened.pixels(ATTENTION) != before
    assert opened.page.locator("#readout").inner_text() != readout
    assert "row 2, column 3" in opened.page.locator("#readout").inner_text()


def test_small_maps_can_be_pointed_at_as_well(opened):
    opened.point(2, 1, ATTENTION)
    assert opened.state("patch") == 9


def test_a_click_holds_the_patch_until_the_next(opened):
    opened.point(1, 1)
    opened.page.mouse.down()
    opened.page.mouse.up()
    opened.point(2, 3)
    assert (opened.state("patch"), opened.state("held")) == (5, True)
    opened.press("Escape")
    opened.point(2, 3)
    assert opened.state("patch") == 11


def test_the_layer_slider_changes_what_is_shown(opened):
    opened.slide("#layer", 0)
    first = opened.pixels(ATTENTION)
    assert opened.page.locator("#layer-said").inner_text() == "1 of 4"
    opened.slide("#layer", 3)
    assert opened.page.locator("#layer-said").inner_text() == "4 of 4"
    assert opened.pixels(ATTENTION) != first
    assert "layer 4" in opened.page.locator("#layer-title").inner_text()


def test_every_head_and_layer_has_a_map_that_chooses_it(opened):
    heads, layers = opened.page.locator("#heads button"), opened.page.locator("#layers button")
    assert (heads.count(), layers.count()) == (3, 4)  # the mean, and two heads
    heads.nth(2).click()
    layers.nth(1).click()
    opened.painted()
    assert (opened.state("head"), opened.state("layer")) == (1, 1)
    assert heads.nth(2).get_attribute("aria-pressed") == "true"
    assert opened.page.locator("#head").input_value() == "1"


def test_a_threshold_marks_what_lies_above_it(opened, inside):
    scores = inside.scored["relative-norm"].scores
    place = opened.state("layer")
    assert opened.page.evaluate("view.marks(0)") == np.flatnonzero(scores[place] > 3).tolist() == [0]
    before = opened.pixels("#map")
    opened.slide(f"{DETECTOR} input[type=range]", 0)
    assert len(opened.page.evaluate("view.marks(0)")) == inside.layout.count
    assert opened.pixels("#map") != before
    assert "12 of 12" in opened.page.locator(f"{DETECTOR} .said").inner_text()
    opened.slide(f"{DETECTOR} input[type=range]", 1000)
    assert opened.page.evaluate("view.marks(0)") == []
    opened.slide(f"{DETECTOR} input[type=range]", 300)
    threshold = opened.page.evaluate("view.state.detectors[0].threshold")
    assert opened.page.evaluate("view.marks(0)") == np.flatnonzero(scores[place] > np.float32(threshold)).tolist()
    opened.page.locator(f"{DETECTOR} button").click()
    opened.painted()
    assert opened.page.evaluate("view.marks(0)") == [0]
    assert opened.pixels("#map") == before


def test_a_rule_without_a_threshold_holds_until_the_slider_is_moved(opened):
    row = '[data-detector="norm-topk:count=2"]'
    assert opened.page.evaluate("view.marks(1)") == [0, 1]
    assert "its own rule" in opened.page.locator(f"{row} .said").inner_text()
    opened.slide(f"{row} input[type=range]", 0)
    assert len(opened.page.evaluate("view.marks(1)")) == 12


def test_detectors_are_shown_and_hidden(opened):
    shown = opened.pixels("#map")
    opened.page.uncheck(f"{DETECTOR} input[type=checkbox]")
    hidden = opened.pixels("#map")
    assert hidden != shown
    opened.page.check(f"{DETECTOR} input[type=checkbox]")
    assert opened.pixels("#map") == shown


def test_before_and_after_differ_where_outliers_were_purified(opened):
    for kind in ("norm", "features"):
        opened.page.check(f"input[name=purify][value={kind}]")
        assert opened.pixels("figure[data-kind=before] canvas") != opened.pixels("figure[data-kind=after] canvas")
    sentence = opened.page.locator("#purify-said").inner_text()
    assert "relative-norm" in sentence
    assert "neighbor-mean" in sentence


def test_label_maps_name_the_class_and_show_one_alone(opened):
    opened.point(1, 0)
    captions = opened.page.locator("#labels figcaption").all_inner_texts()
    assert captions == ["clip: zebra", "sc-clip"]  # no window looked there
    opened.point(1, 3)
    assert opened.page.locator("#labels figcaption").all_inner_texts() == ["clip: sky", "sc-clip: grass"]
    canvas = "#labels figure:first-child canvas"
    before = opened.pixels(canvas)
    opened.page.get_by_role("button", name="zebra").click()
    assert opened.pixels(canvas) != before
    assert "zebra: clip 35 %" in opened.page.locator("#classes-said").inner_text()
    opened.page.select_option("#over", "labels clip")
    assert opened.complaints == []


def test_every_choice_over_the_image_draws_something_else(opened):
    drawn = set()
    for value in opened.page.eval_on_selector_all("#over option", "options => options.map((one) => one.value)"):
        opened.page.select_option("#over", value)
        drawn.add(opened.pixels("#map"))
    assert len(drawn) == 7  # nothing, four maps, two label maps
    opened.page.select_option("#over", "norm")
    solid = opened.pixels("#map")
    opened.slide("#opacity", 10)
    assert opened.pixels("#map") != solid


def test_arrow_keys_move_the_patch_and_stop_at_the_edge(opened):
    opened.point(1, 1)
    opened.page.locator("#map").focus()
    opened.press("ArrowRight", "ArrowDown")
    assert opened.state("patch") == 10
    opened.press("ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowUp")
    assert opened.state("patch") == 4
    assert opened.page.evaluate("scrollY") == 0


def test_keys_change_layer_and_head(opened):
    opened.slide("#layer", 1)
    opened.page.locator("#map").focus()
    opened.press("+")
    assert opened.state("layer") == 2
    opened.press("PageUp", "PageUp")
    assert opened.state("layer") == 3
    opened.press("-", "PageDown")
    assert opened.state("layer") == 1
    opened.press("]", "]")
    assert opened.state("head") == 1
    opened.press("]")
    assert opened.state("head") == "mean"


def test_a_slider_keeps_its_own_keys(opened):
    opened.page.locator("#opacity").focus()
    patch = opened.state("patch")
    opened.press("ArrowRight")
    assert opened.state("patch") == patch
    assert opened.state("opacity") == pytest.approx(0.61)


def test_tab_goes_through_the_controls_in_order_and_focus_is_seen(opened):
    focused = []
    for _ in range(10):
        opened.press("Tab")
        focused.append(opened.page.evaluate("document.activeElement.id"))
        style = "getComputedStyle(document.activeElement)"
        assert opened.page.evaluate(f"{style}.outlineStyle") == "solid"
        assert opened.page.evaluate(f"parseFloat({style}.outlineWidth)") >= 2
    order = ["image", "layer-down", "layer", "layer-up", "head", "contrast", "map", "over", "opacity"]
    assert focused[: len(order)] == order


def test_controls_and_maps_have_names_for_those_who_do_not_see_them(opened):
    unnamed = opened.page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, canvas:not([aria-hidden=true])")]
        .filter((one) => !one.closest("[hidden]"))
        .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
        .map((one) => one.outerHTML)"""
    )
    assert unnamed == []
    assert opened.page.locator("#readout").get_attribute("aria-live") == "polite"


def test_another_image_can_be_chosen_one_without_a_class_token(opened):
    opened.page.check(f"{DETECTOR} input[type=checkbox]")
    layer = opened.state("layer")
    opened.page.select_option("#image", "1")
    # Not wait_for_function: when it has to wait, it evaluates a text, which the page's own policy forbids.
    for _ in range(200):
        if opened.state("image") == 1 and opened.page.locator("html[data-ready='true']").count():
            break
        opened.page.wait_for_timeout(50)
    opened.point(4, 1, rows=5, cols=2)
    assert (opened.state("patch"), opened.state("layer")) == (9, layer)
    assert "no class token" in opened.page.locator("figure[data-kind=class]").inner_text()
    assert "class" not in opened.page.eval_on_selector_all("#over option", "all => all.map((one) => one.value)")
    assert opened.complaints == []


def test_one_image_without_heads_or_labels_hides_what_it_lacks(open_page, draw):
    opened = open_page([PageImage(inside=draw(heads=None))])
    for hidden in ("#chooser", "#labels-section", "#heads"):
        assert not opened.page.locator(hidden).is_visible()
    assert opened.page.locator("#head").is_disabled()
    assert opened.complaints == []


def test_a_reduced_page_works_and_says_what_is_left_out(browser, tmp_path, draw):
    images = [PageImage(inside=draw(grid=(7, 9), depth=8, heads=6))]
    text = page_html(images, title="x")
    while 'every second layer"]' not in (text := page_html(images, title="x", limit=len(text.encode()) - 1)):
        assert "every fourth layer" not in text
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    context = browser.new_context(viewport=DESK)
    opened = Opened(context, tmp_path / "page.html")
    assert "every second layer" in opened.page.locator("#reduced").inner_text()
    opened.slide("#layer", 6)
    assert "left out" in opened.page.locator("figure[data-kind=attention]").inner_text()
    assert opened.page.locator("#layers button").nth(6).is_disabled()
    opened.slide("#layer", 7)
    assert opened.page.locator(ATTENTION).is_visible()
    opened.page.check("input[name=purify][value=similarity]")
    opened.painted()
    assert opened.complaints == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(open_page, images, scheme):
    opened = open_page(images, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme=scheme)
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= opened.page.evaluate("innerWidth") == PHONE["width"]
    outside = opened.page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((one) => one.getClientRects().length
        && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []
    assert opened.complaints == []


def test_a_tap_holds_a_patch(open_page, images):
    opened = open_page(images, viewport=PHONE, is_mobile=True, has_touch=True)
    box = opened.page.locator("#map").bounding_box()
    opened.page.touchscreen.tap(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    opened.painted()
    assert (opened.state("patch"), opened.state("held")) == (6, True)
    opened.page.touchscreen.tap(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.9)
    opened.painted()
    assert (opened.state("patch"), opened.state("held")) == (8, True)


def test_a_padded_image_lies_inside_its_frame(open_page, draw):
    inset = (0.25, 0.0, 0.5, 1.0)
    opened = open_page([PageImage(inside=draw(inset=inset))])
    opened.page.select_option("#over", "none")
    opened.page.uncheck(f"{DETECTOR} input[type=checkbox]")
    opened.point(1, 1)
    gray = opened.page.eval_on_selector(
        "#map",
        "canvas => [...canvas.getContext('2d').getImageData(canvas.width - 9, 9, 1, 1).data].slice(0, 3)",
    )
    assert gray == [127, 127, 127]

"""Every method has a page: one written by hand that it names, or one that is made of what it declares."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper
from segment.methods import METHODS

DOCS = Path(__file__).resolve().parents[1] / "docs"
WRITTEN = {page.stem for page in (DOCS / "methods").glob("*.md")} - {"index", "last-block"}


@pytest.fixture(scope="module")
def pages():
    """The module beside the documents that makes the pages."""
    spec = importlib.util.spec_from_file_location("method_pages", DOCS / "method_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", METHODS.listed)
def test_every_method_has_a_page_that_names_it(name, pages):
    path = pages.page_path(name, METHODS[name], DOCS / "generated" / "methods")
    made = path.parent != DOCS / "methods"
    text = pages.page_of(name, METHODS[name]) if made else path.read_text(encoding="utf-8")
    assert f"`{name}`" in text.partition("\n")[0]
    if made:
        assert METHODS[name].summary[1:] in text


def test_every_page_in_the_folder_is_the_page_of_a_method():
    assert {METHODS[name].page for name in METHODS.listed} - {""} == WRITTEN


def test_a_page_is_made_of_summary_paper_settings_and_departures(pages):
    method = Method(
        encoder=LastBlock(kernel="vv", residual=False, ffn=False),
        paper=Paper(title="Values to values", venue="ours 2026"),
        summary="v-v attention, no residual",
        departures=("The temperature is ours.",),
    )
    text = pages.page_of("values", method)
    assert text.startswith("# Values to values: `values`\n\n«Values to values», ours 2026.\n\nV-v attention")
    assert "Release:" not in text
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.*)` \|$", text, flags=re.MULTILINE))
    assert (rows["kernel"], rows["residual"], rows["scale"]) == ("vv", "false", "40.0")
    assert set(rows) == set(method.settings())
    assert text.endswith("## Where it leaves the paper or the release\n\n- The temperature is ours.\n")


def test_a_made_page_goes_on_with_the_docstring_of_the_methods_module(pages):
    text = pages.page_of("gem", METHODS["gem"])
    assert "The release hands its blocks the tokens in the order (T, B, D)." in text
    assert "CVPR 2024, arXiv:2312.00878. Release: WalBouss/GEM 5fa677c." in text


def test_the_table_has_every_method_with_a_link_and_the_contents_every_page(pages, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS._loaded, "clip", replace(METHODS["clip"], page=""))  # as a new one has none
    (tmp_path / "gone.md").write_text("a method that was taken away")
    pages.write_methods(tmp_path)
    without = {name for name in METHODS.listed if not METHODS[name].page}
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", *(f"{name}.md" for name in without)}
    table, _, contents = (tmp_path / "table.md").read_text(encoding="utf-8").partition("```{toctree}")
    links = dict(re.findall(r"^\| \[`([\w-]+)`\]\((\S+)\) \|", table, flags=re.MULTILINE))
    made = {name: f"../generated/{tmp_path.name}/{name}" for name in without}
    assert links == {name: f"{METHODS[name].page or made[name]}.md" for name in METHODS.listed}
    assert set(contents.partition(":hidden:")[2].split()[:-1]) == WRITTEN - {"clip"} | {*made.values(), "last-block"}


def test_a_page_that_nobody_wrote_is_refused_by_name(pages):
    with pytest.raises(ValueError, match=r"`clip` has page='clap', but there is no .*clap\.md\. Write it"):
        pages.page_path("clip", replace(METHODS["clip"], page="clap"), DOCS)

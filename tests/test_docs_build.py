"""The documents build without a warning, with a page for each package and an entry for each figure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attention_outliers.papers.figures import PAPER_FIGURES
from segment.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages as HTML, from a copy of the sources; the gallery's figures are not drawn for it."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("generated", "_build", "__pycache__"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return folder / "html"


def test_every_page_is_there_and_can_be_reached_from_the_first(built):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    first = (built / "index.html").read_text(encoding="utf-8")
    for page in pages - {"index"}:
        assert (built / f"{page}.html").exists()
        assert f'href="{page}.html"' in first


def test_the_reference_lists_public_names_with_links(built):
    page = (built / "generated" / "reference" / "diagnostics.html").read_text(encoding="utf-8")
    assert 'href="diagnostics.backbones.html#diagnostics.backbones.load_backbone"' in page
    public = (built / "generated" / "reference" / "attention_outliers.html").read_text(encoding="utf-8")
    assert 'href="diagnostics.backbones.html#diagnostics.backbones.load_backbone"' in public
    assert 'id="attention_outliers.api.figure"' in public
    for package in ("diagnostics.detectors", "figures.view", "segment.methods"):
        assert (built / "generated" / "reference" / f"{package}.html").exists()


def test_sections_of_docstrings_become_lists_and_examples(built):
    page = (built / "generated" / "reference" / "diagnostics.studies.html").read_text(encoding="utf-8")
    assert "Parameters<span" in page
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page
    assert "----" not in re.sub(r"<[^>]+>", "", page)


def test_the_list_of_methods_leads_to_the_page_of_each(built):
    page = (built / "methods" / "index.html").read_text(encoding="utf-8")
    for name in METHODS.listed:
        target = METHODS[name].page or f"../generated/methods/{name}"
        assert re.search(rf'href="{target}.html"><span[^>]*><code[^>]*><span class="pre">{name}</span>', page), name
        assert (built / "methods" / f"{target}.html").exists()


def test_the_gallery_has_every_figure(built):
    page = (built / "gallery.html").read_text(encoding="utf-8")
    for name in PAPER_FIGURES:
        assert f">{name}</span>" in page

"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from diagnostics import BACKBONES, MEASURES, TAPS
from diagnostics.studies.probe import POOLED

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MEASURES)
def test_every_documented_variable_has_its_dimensions_and_unit(name):
    for variable in MEASURES.build(name).variables:
        row = f"| `{variable.name}` | {', '.join(variable.dims)} | {variable.units} |"
        assert row in MEASUREMENTS or f"| `{variable.name}` |" not in MEASUREMENTS


def test_every_documented_variable_exists():
    documented = set(re.findall(r"^\| `(\w+)` \| (?:image|layer)(?:,| \|)", MEASUREMENTS, flags=re.MULTILINE))
    known = {variable.name for name in MEASURES for variable in MEASURES.build(name).variables}
    assert documented <= known | {variable.name for variable in POOLED}
    assert len(documented) >= 30


def test_the_readme_names_every_family_of_backbones():
    for family in BACKBONES:
        assert f"`{family}" in README


PAGES = [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_page_lead_somewhere(page):
    """Pages of the reference are made when the documents are built, which looks at links to them."""
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("generated/") and not (page.parent / link).exists()] == []


def test_numbers_of_the_readme_are_those_of_the_registries():
    """«24 measures», «22 detectors»: there are so many at least, also of papers, data sets and protocols."""
    from diagnostics.detectors import DETECTORS
    from diagnostics.purifiers import PURIFIERS
    from segment import METHODS
    from segment.datasets import DATASETS
    from segment.evaluation.protocols import PROTOCOLS

    counted = {
        "measures": MEASURES, "detectors": DETECTORS, "purifiers": PURIFIERS, "methods": METHODS,
        "data sets": DATASETS, "protocols": PROTOCOLS, "papers": {method.paper.title for method in METHODS.values()},
    }  # fmt: skip
    for name, parts in counted.items():
        counts = [int(count) for count in re.findall(rf"\b(\d+) {name}\b", README)]
        assert counts, f"README should say how many {name} there are"
        assert max(counts) <= len(parts), f"README says {max(counts)} {name}; there are {len(parts)}"


# Two pages are of no one method: the list, and what the five simplest have in common.
METHOD_PAGES = [page for page in (ROOT / "docs" / "methods").glob("*.md") if page.stem not in ("index", "last-block")]


@pytest.mark.parametrize("page", METHOD_PAGES, ids=lambda page: page.stem)
def test_each_method_page_sets_paper_against_release_and_says_how_near_we_are(page):
    text = page.read_text(encoding="utf-8")
    assert "## Paper against release" in text
    section = re.search(r"## (?:Against the authors' code|Not verified)\n(.*?)(?=\n## |\Z)", text, flags=re.DOTALL)
    assert section is not None
    assert re.search(r"\d\.\de-\d|\| 0 \|", section[1]) or "No outputs of the release were at hand" in section[1]


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def test_the_glossary_has_every_tap_in_the_order_of_the_block():
    rows = re.findall(r"^\| [^|]+\| [^|]+\| ((?:`\w+`(?:, )?)+) \|", GLOSSARY, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(TAPS)


def test_the_glossary_explains_each_term_once():
    lines = re.findall(r"^\*\*(.+)\*\*(?: \(.*\))?$", GLOSSARY, re.MULTILINE)
    terms = [term for line in lines for term in line.split(", ")]
    assert len(terms) > 40
    assert sorted({term.lower() for term in terms}) == sorted(term.lower() for term in terms)
    for symbol in (
        "X_res",
        "X_attn",
        "X_sum",
        "residual stream",
        "registers",
        "sink",
        "global patches",
        "anomaly tokens",
    ):
        assert symbol.lower() in GLOSSARY.lower()


def test_the_glossary_names_modules_that_timm_has():
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(img_size=32, patch_size=16, embed_dim=12, depth=1, num_heads=2, num_classes=0)
    parts = {name for name, _ in model.blocks[0].named_modules()}
    assert {"norm1", "attn", "attn.qkv", "attn.attn_drop", "norm2", "mlp", "mlp.act"} <= parts
    for part in ("norm1", "attn", "attn.qkv", "attn.attn_drop", "norm2", "mlp", "mlp.act"):
        assert f"`{part}`" in GLOSSARY

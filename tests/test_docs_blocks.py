"""Every block of the README and of the documents runs as it stands; one that can't run here says why, and is parsed.

A comment in the line before a block, `<!-- not run: REASON -->`, keeps it from being run. Reasons are those of
`REASONS`, and the block must bear them out.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image

import attention_outliers as ao
import attention_outliers.papers.figures as paper_figures
from attention_outliers.commands.main import app
from attention_outliers.papers import experiments
from diagnostics import BACKBONES, MEASURES
from diagnostics.detectors import DETECTORS
from diagnostics.purifiers import PURIFIERS
from diagnostics.registry import spec_name, split_specs
from figures import FIGURES
from segment import METHODS
from segment.datasets import DATASETS
from segment.datasets.shapes import Shapes
from segment.decoding.refine import REFINERS
from segment.decoding.windows import WINDOWS
from segment.evaluation.engines import ENGINES
from segment.evaluation.protocols import PROTOCOLS
from segment.text.templates import TEMPLATES, load_templates

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"generated", "_build"} & set(path.parts)),
]

REASONS = {
    "weights from the network": r"\b(open_clip|timm|hf-hub):",
    "your files": r"@|local-dir:|rows\.json|--root|/data|\.txt",
    "a cluster": r"\bray\b|s3://|/shared/",
    "it installs": r"\bmake\b|\bpip\b|\bgit\b",
    "it takes long": r"\bmake\b|training\.|--scenes|docs/gallery",
}
# Blocks of these languages are shown, not run; a name in braces is a directive of the documents' builder.
SHOWN = re.compile(r"text|\{[\w-]+\}.*")
FENCE = re.compile(
    r"(?:^<!-- (?P<note>.*?) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, and why it is not run ("" if it is)."""

    language: str
    text: str
    reason: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in FENCE.finditer(text):
        note = match["note"] or ""
        blocks.append(Block(match["language"].strip(), match["text"], note.removeprefix("not run: ")))
    fences = len(re.findall(r"^\s*(?:```|~~~)", text, flags=re.MULTILINE))
    assert fences == 2 * len(blocks), f"{page.name}: a fence that is indented, or not closed, is not found by this test"
    return blocks


def lines_of(block: Block) -> list[list[str]]:
    """The commands of a block of shell, each as its words; comments are left out."""
    whole = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in whole) if words]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_name_a_language_that_is_checked_and_a_reason_that_holds(page):
    for block in blocks_of(page):
        assert block.language in ("python", "sh", "json") or SHOWN.fullmatch(block.language), block
        if block.reason:
            assert block.language in ("python", "sh"), block
            assert block.reason in REASONS, f"{block.reason!r} is none of {sorted(REASONS)}"
            assert re.search(REASONS[block.reason], block.text), f"nothing here needs «{block.reason}»:\n{block.text}"


# What is parsed, run or not


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_the_page_compiles_and_what_it_imports_exists(page):
    for block in blocks_of(page):
        if block.language == "json":
            json.loads(block.text)
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


@cache
def root_command() -> Any:
    return typer.main.get_command(app)


def parsed(words: list[str]) -> Any:
    """The context of an `outliers` command line, read by the command itself: unknown options are an error."""
    command, rest = root_command(), words
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    return command.make_context(words[0], list(rest))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_the_page_exist_with_their_options_and_parts(page):
    for block in blocks_of(page):
        for words in lines_of(block) if block.language == "sh" else []:
            if words[0] == "outliers":
                params = parsed(words[1:]).params if words[1:] else {}
                if block.reason:  # else it is run
                    check_parts(params, words[1:])
            else:
                check_program(*words)


def check_program(program: str, *rest: str) -> None:
    """Programs other than ours: what they name in this repository is there."""
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert set(rest) <= targets
    elif program == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        assert {extra for group in asked for extra in group.split(",")} <= set(project["optional-dependencies"])
    else:
        assert program == "ray", f"a program that this test does not know: {program}"


def check_parts(params: dict[str, object], words: list[str]) -> None:
    """The parts that a command names by spec are there, with the settings that they are given."""
    text = {key: value for key, value in params.items() if isinstance(value, str)}
    registries = {
        "detectors": DETECTORS, "detector": DETECTORS, "purify": DETECTORS, "purified_by": DETECTORS,
        "purifier": PURIFIERS, "purifiers": PURIFIERS, "method": METHODS, "methods": METHODS, "measures": MEASURES,
        "refine": REFINERS, "windows": WINDOWS,
    }  # fmt: skip
    for key, registry in registries.items():
        for spec in split_specs(text.get(key, "")):
            if spec != "none":
                registry.build(spec)
    for key, known in {"protocol": PROTOCOLS, "engine": ENGINES, "dataset": DATASETS}.items():
        if key in text:
            assert spec_name(text[key]) in known, text[key]
    for spec in (text.get("backbone", ""), text.get("second", "")):
        if spec:
            check_backbone(spec)
    if words[0] == "figure" and words[1] != "list":
        assert words[1] in paper_figures.PAPER_FIGURES
    if words[0] == "reproduce" and words[1] != "list":
        tables = experiments()
        assert words[1] in tables or any(name.startswith(f"{words[1]}/") for name in tables)
    if "templates" in text and not text["templates"].endswith((".txt", ".json")):
        load_templates(text["templates"])


def check_backbone(spec: str) -> None:
    """The family is known, and the library knows a model of this name."""
    import open_clip
    import timm

    family, _, rest = spec.partition(":")
    assert family in BACKBONES
    name, at, _ = rest.partition("@")
    if family == "open_clip":
        architecture, _, tag = name.partition("/")
        assert (architecture, tag) in open_clip.list_pretrained() if tag else architecture in open_clip.list_models()
    elif family == "timm" and not (at and name == "NAME"):
        architecture, _, tag = name.partition(".")
        assert timm.is_model(architecture)
        assert not tag or tag in {
            str(config).rpartition(".")[2] for config in timm.models.get_arch_pretrained_cfgs(architecture)
        }


# What is run

SCENES = list(Shapes(scenes=3, height=112, width=144))


def furnish(folder: Path) -> None:
    """What pages take for granted: folders of images, label maps by the same names, files of words."""
    for place in ("photos", "images"):
        (folder / place).mkdir()
        for sample, name in zip(SCENES, ("a.jpg", "b.png"), strict=False):
            Image.fromarray(sample.image).save(folder / place / name)
    (folder / "maps").mkdir()
    for sample, name in zip(SCENES, ("a.png", "b.png"), strict=False):
        Image.fromarray(sample.labels.astype(np.uint8)).save(folder / "maps" / name)
    for name in ("photo.jpg", "street.jpg"):
        Image.fromarray(SCENES[2].image).save(folder / name)
    (folder / "classes.txt").write_text("person, man, woman\ntv, screen\ndog")
    (folder / "shown.csv").write_text("a.jpg,cat\nb.png,dog\n")
    (folder / "coco_object.txt").write_text("background, wall\ncat\ndog")


@contextmanager
def parts_kept() -> Iterator[None]:
    """Parts that a page adds to registries are gone afterwards."""
    tables = [DETECTORS, PURIFIERS, METHODS, MEASURES, BACKBONES, DATASETS, PROTOCOLS, TEMPLATES, FIGURES]
    tables.append(paper_figures.PAPER_FIGURES)
    before = [set(table) for table in tables]
    try:
        yield
    finally:
        for table, names in zip(tables, before, strict=True):
            for name in set(table) - names:
                del table[name]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=name_of)
def test_what_the_page_shows_runs(page, tmp_path, monkeypatch):
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page_of_the_documents")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    with parts_kept():
        for block in blocks_of(page):
            if block.reason:
                continue
            if block.language == "python":
                exec(compile(block.text, str(page), "exec"), module.__dict__)
            elif block.language == "sh":
                for words in lines_of(block):
                    assert words[0] == "outliers", f"{words[0]} can't be run here: say why before the block"
                    assert app(words[1:], standalone_mode=False) in (None, 0), " ".join(words)
        CHECKS.get(name_of(page), lambda names: None)(module.__dict__)


def check_readme(names):
    assert names["first"] == ao.planted_unit()[0]
    assert names["labels"]["sc-clip"].shape == (112, 144)


def test_the_newcomers_path_is_at_most_twelve_lines_without_a_warning(tmp_path):
    """Where outliers begin, their places, features for a linear probe, attention of a patch: in a fresh Python."""
    furnish(tmp_path)
    path = next(block for block in blocks_of(ROOT / "README.md") if block.language == "python").text
    assert len([line for line in path.splitlines() if line.strip()]) <= 12
    checks = (
        f"assert first == {ao.planted_unit()[0]}\n"
        "assert {'image', 'row', 'col'} <= set(table.columns) and len(table)\n"
        "assert maps.shape == (2, *run['norm'].shape[2:], backbone.width)\n"
        "assert weights.shape == run['norm'].shape[2:] and 0 < weights.sum() <= 1.001\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{path}{checks}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def check_segment(names):
    assert names["labels"]["sc-clip"].shape == (112, 144)
    assert names["same"] == names["words"]
    assert names["text"].owners.tolist() == [0, 0, 0, 1, 1, 2]
    assert names["numbers"].shape == (112, 144)
    assert sum(names["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert names["scores"].shape == (3, 112, 144)
    assert names["features"].shape[:3] == (1, *names["clip"].layout.grid)


def check_tour(names):
    assert names["first"] == 6
    assert set(names["outliers"]["layer"]) == {8}
    assert names["attention"].shape == names["maps"].shape[1:3]
    assert names["rows"].shape == (12 * 14 * 14, names["maps"].shape[-1])
    scores = [json.loads(path.read_text())["miou"] for path in sorted(Path("results/tour/cells").glob("*.json"))]
    plain, purified = sorted(scores)
    assert plain < 0.25
    assert purified > 0.6
    assert names["changed"] > 0.2


# What the pages say of what their code gives.
CHECKS = {"README.md": check_readme, "docs/segment.md": check_segment, "docs/tour.md": check_tour}


def test_a_block_without_its_reason_or_with_an_unknown_option_would_be_found():
    assert not re.search(REASONS["weights from the network"], "outliers probe photos/")
    with pytest.raises(Exception, match="No such option"):
        parsed(["probe", "photos/", "--bakcbone", "tiny"])
    with pytest.raises(ValueError, match="relative-nrm"):
        check_parts({"detectors": "relative-nrm"}, ["compare"])

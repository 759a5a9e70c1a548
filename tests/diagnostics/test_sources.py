"""Docstrings and constants read from source files, against the imported objects; nothing is imported on the way."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest

from diagnostics.registry import load_target
from diagnostics.sources import NotInSource, facts_of, keys_of, source_file

SOURCE = '''
from written_elsewhere import Base, words as other
import written_elsewhere

if True:
    class Part(Base):
        """A part.

        More.
        """

        share: float = -0.5
        names = ("a", "b")
        computed = len("abc")

        class Inner:
            """Inside."""

class Bare(Base):
    pass

def maker(value):
    "Makes a part."

VALUE = Method(summary="one " "line", paper=other, size=[1, 2], made=maker(3))
PAGE = "fig"
TABLE = {"a": Figure(shows="first"), f"{PAGE}-2": Figure(shows="second")}
'''
ELSEWHERE = '''
class Base:
    """The base."""

    kind = "base"
    share = 1.0

words = Paper(title="Words" + " and more")
'''


@pytest.fixture
def written(tmp_path, monkeypatch):
    (tmp_path / "written_here.py").write_text(SOURCE)
    (tmp_path / "written_elsewhere.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    assert not {"written_here", "written_elsewhere"} & sys.modules.keys()


@pytest.mark.parametrize(
    "target, facts",
    [
        ("written_here:Part", {"kind": "base", "share": -0.5, "names": ("a", "b"), "doc": "A part."}),
        ("written_here:Part.Inner", {"doc": "Inside."}),
        ("written_here:Bare", {"kind": "base", "share": 1.0, "doc": "The base."}),
        ("written_here:maker", {"doc": "Makes a part."}),
        ("written_here:other", {"title": "Words and more"}),
        (
            "written_here:VALUE",
            {"summary": "one line", "paper": {"title": "Words and more"}, "size": (1, 2)},
        ),
        ("written_here:TABLE[a]", {"shows": "first"}),
        ("written_here:TABLE[fig-2]", {"shows": "second"}),
    ],
)
def test_constants_and_the_first_line_are_read_from_the_file(written, target, facts):
    assert facts_of(target) == facts


def test_keys_of_a_table_are_read_in_their_order(written):
    assert keys_of("written_here:TABLE") == ("a", "fig-2")
    with pytest.raises(NotInSource, match="should be a dictionary"):
        keys_of("written_here:VALUE")


@pytest.mark.parametrize(
    "target", ["no_such_module:x", "written_here:absent", "written_here:written_elsewhere", "written_here:TABLE[z]"]
)
def test_what_is_not_written_is_reported(written, target):
    with pytest.raises(NotInSource):
        facts_of(target)


def test_a_file_is_found_without_importing_the_package_around_it(tmp_path, monkeypatch):
    (tmp_path / "outer_package" / "inner").mkdir(parents=True)
    (tmp_path / "outer_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "outer_package" / "inner" / "__init__.py").write_text("")
    (tmp_path / "outer_package" / "inner" / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert source_file("outer_package.inner.part") == tmp_path / "outer_package" / "inner" / "part.py"
    with pytest.raises(NotInSource, match="no source file"):
        source_file("outer_package.inner.other")
    with pytest.raises(NotInSource, match="no source file"):
        source_file("sys")


REGISTRIES = {
    "diagnostics.backbones": ("BACKBONES", "POSITIONS"),
    "diagnostics.detectors": ("DETECTORS",),
    "diagnostics.edits": ("EDITS",),
    "diagnostics.measures": ("MEASURES",),
    "diagnostics.purifiers": ("PURIFIERS",),
    "figures": ("FIGURES",),
    "attention_outliers.papers.figures": ("PAPER_FIGURES",),
    "segment.datasets": ("DATASETS",),
    "segment.decoding.masks": ("MASKS",),
    "segment.decoding.refine": ("REFINERS",),
    "segment.decoding.windows": ("WINDOWS",),
    "segment.evaluation.engines": ("ENGINES",),
    "segment.evaluation.protocols": ("PROTOCOLS",),
    "segment.methods": ("METHODS",),
    "segment.text.templates": ("TEMPLATES",),
}


@pytest.mark.parametrize("module, name", [(module, name) for module, names in REGISTRIES.items() for name in names])
def test_every_part_is_described_as_its_object_says(module, name):
    registry = load_target(f"{module}:{name}")
    lines = registry.describe()
    assert list(lines) == list(registry)
    for key, line in lines.items():
        part = registry[key]
        if isinstance(part, type) or inspect.isroutine(part):
            assert line == inspect.getdoc(part).partition("\n")[0]
        else:
            assert line == getattr(part, registry.summary)
        assert line

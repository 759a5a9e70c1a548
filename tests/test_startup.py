"""What the packages load when they are imported and when their parts are listed: no torch, no table, no drawing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from benchmarks.startup import STARTS, started

HEAVY = ("torch", "xarray", "pandas", "scipy", "zarr", "open_clip", "timm", "matplotlib", "sklearn", "torchvision")
PACKAGES = ("diagnostics", "segment", "figures")
REGISTRIES = (
    "diagnostics.backbones:BACKBONES",
    "diagnostics.backbones:POSITIONS",
    "diagnostics.detectors:DETECTORS",
    "diagnostics.edits:EDITS",
    "diagnostics.measures:MEASURES",
    "diagnostics.purifiers:PURIFIERS",
    "figures:FIGURES",
    "attention_outliers.papers.figures:PAPER_FIGURES",
    "segment.datasets:DATASETS",
    "segment.decoding.masks:MASKS",
    "segment.decoding.refine:REFINERS",
    "segment.decoding.windows:WINDOWS",
    "segment.evaluation.engines:ENGINES",
    "segment.evaluation.protocols:PROTOCOLS",
    "segment.methods:METHODS",
    "segment.text.templates:TEMPLATES",
)


def loaded_by(code: str) -> set[str]:
    """Top-level modules of HEAVY that a process has after running this code."""
    code = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split()) & set(HEAVY)


def test_importing_a_package_loads_no_heavy_library():
    assert loaded_by("import diagnostics, segment, figures, attention_outliers") == set()


def test_describing_every_registry_loads_no_heavy_library():
    code = "from importlib import import_module\n"
    for target in REGISTRIES:
        module, _, name = target.partition(":")
        code += f"assert import_module({module!r}).{name}.describe()\n"
    assert loaded_by(code) == set()


COMMANDS = (
    ["--help"],
    ["--version"],
    ["list", "detectors"],
    ["list"],
    ["figure", "list"],
    ["datasets", "list"],
    ["probe", "--help"],
    ["compare", "--help"],
    ["segment", "--help"],
    ["evaluate", "--help"],
    ["reproduce", "--help"],
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_that_needs_no_model_loads_no_heavy_library(arguments):
    code = (
        f"import io, sys\nsys.argv = ['outliers', *{arguments!r}]\nout, sys.stdout = sys.stdout, io.StringIO()\n"
        "from attention_outliers.commands.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert sys.stdout.getvalue()\nsys.stdout = out"
    )
    assert loaded_by(code) == set()


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory is measured on POSIX systems")
def test_help_and_lists_take_little_memory():
    for name in ("outliers --help", "outliers list detectors"):
        assert started(STARTS[name][0]).megabytes <= 120


def test_the_check_sees_what_is_loaded():
    assert loaded_by("import matplotlib") == {"matplotlib"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_listed(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert type(value).__name__ != "module", f"{package}.{name} is a module"
    with pytest.raises(AttributeError, match=f"module `{package}` has no attribute `nothing_like_it`; dir"):
        module.nothing_like_it  # noqa: B018


def test_a_function_is_no_module_whatever_was_imported_before():
    code = "import segment.one_image, segment\nassert callable(segment.segment_one)"
    loaded_by(code)

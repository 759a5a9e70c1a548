"""One vocabulary: words that were given up stay out of names, of `--help`, of tables and of figures.

The word on the right is used instead. Papers' titles, a model's vocabulary and the list of changes keep theirs.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("attention_outliers", "diagnostics", "figures", "segment", "training", "benchmarks", "docs", "tests")

# Parts of names, each a whole word of snake_case or CamelCase; and what to say.
OLD = {
    r"mend(s|ed|er|ers|ing)?": "purify",
    r"repair(s|ed|er|ing)?": "purify",
    r"pictures?": "image",
    r"neighbours?|neighbourhood": "neighbor",
    r"colou?rs?(?<=our|urs)|coloured": "color",
    r"(de|un|re)?normalis(e|es|ed|er|ing|ation)": "normalize",
    r"centred?|centres": "center",
    r"grey(s|scale)?": "gray",
    r"(un)?labelled|labelling": "labeled",
    r"behaviours?": "behavior",
    r"favour\w*": "favor",
    r"licence[sd]?": "license",
    r"catalogues?": "catalog",
    r"(in|re)?initialis\w+|optimis\w+|visualis\w+|summaris\w+|recognis\w+|tokenis\w+|minimis\w+|organis\w+": "-ize",
    r"analys(e|es|ed|er)": "analyze",
    r"told": "what it is: settings, reported …",
    r"loneliness|lonely": "outlier score, density",
    r"refusals?": "unsupported_reason",
    r"whoever": "what it is",
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
CLASSES = {"Stock": "Activations", "Heads": "QKV"}

# Names that say nothing; bindings that are left of each, by package. Lower a number when some go, never raise one.
EMPTY = ("found", "seen", "said", "given", "one", "some", "own", "here")
LEFT: dict[str, tuple[int, ...]] = {
    "attention_outliers": (0, 0, 0, 0, 0, 0, 0, 0),
    "diagnostics": (0, 0, 0, 0, 0, 0, 0, 0),
    "figures": (0, 0, 0, 0, 0, 0, 0, 0),
    "segment": (0, 0, 0, 0, 0, 0, 0, 0),
    "training": (0, 0, 0, 0, 0, 0, 0, 0),
    "benchmarks": (0, 0, 0, 0, 0, 0, 0, 0),
    "docs": (0, 0, 0, 0, 0, 0, 0, 0),
    "tests": (0, 0, 0, 0, 0, 0, 0, 0),
}

# What keeps an old word: (file, word).
KEPT = {
    ("diagnostics/registry.py", "repair"),  # a package that does not load
    ("diagnostics/backbones/pocket/tokenizer.py", "picture"),  # words that the stored model was trained with
    ("training/captions.py", "picture"),
    ("training/scores.py", "picture"),
}


@cache
def sources() -> dict[str, str]:
    """Every Python file of the packages by its path, this one left out."""
    files = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not {"_build", "generated", "__pycache__"} & set(path.parts)
    }
    return {name: text for name, text in files.items() if ROOT / name != Path(__file__).resolve()}


def old_words(name: str) -> list[str]:
    """The given-up words that a name is made of: `n_neighboursFound` -> ["neighbours"]."""
    return [part for part in map(str.lower, WORD.findall(name)) if any(re.fullmatch(old, part) for old in OLD)]


def bindings(tree: ast.AST) -> Iterator[str]:
    """Names that the code gives: variables, arguments, functions, classes, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def names_of(text: str) -> Iterator[str]:
    """All names in a source, those of keyword arguments and imports too."""
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type == tokenize.NAME:
            yield token.string


@pytest.mark.parametrize("package", PACKAGES)
def test_names_of_the_code_are_made_of_words_in_use(package):
    used = {
        f"{file}: {name}"
        for file, text in sources().items()
        if file.startswith(f"{package}/")
        for name in names_of(text)
        if old_words(name)
    }
    assert used == set()


def test_no_class_has_the_name_of_one_that_was_renamed():
    classes = {
        f"{file}: {node.name}"
        for file, text in sources().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and node.name in CLASSES
    }
    assert classes == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_names_that_say_nothing_get_fewer(package):
    counted = Counter(
        name.strip("_")
        for file, text in sources().items()
        if file.startswith(f"{package}/")
        for name in bindings(ast.parse(text))
        if name.strip("_") in EMPTY
    )
    most = dict(zip(EMPTY, LEFT[package], strict=True))
    assert {name: (count, most[name]) for name, count in counted.items() if count > most[name]} == {}


def in_text(text: str) -> list[str]:
    """Given-up words in prose or in a string."""
    return old_words(" ".join(re.findall(r"[A-Za-z]+", text)))


def commands(command: Any, path: str = "outliers") -> Iterator[tuple[str, str]]:
    """Every command with the text of its `--help`."""
    import click

    with click.Context(command, info_name=path) as context:
        yield path, command.get_help(context)
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


def test_help_of_every_command_uses_the_words():
    from attention_outliers.commands.main import app

    texts = dict(commands(typer.main.get_command(app)))
    assert len(texts) > 12
    assert {path: in_text(text) for path, text in texts.items() if in_text(text)} == {}


def literals(tree: ast.Module) -> Iterator[str]:
    """Strings of the code that are no docstrings: columns of tables, titles, labels, messages, names of files."""
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    documents = {id(node.body[0].value) for node in owners if node.body and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


@pytest.mark.parametrize("package", ["attention_outliers", "diagnostics", "figures", "segment", "training"])
def test_tables_figures_and_messages_use_the_words(package):
    used = {
        (file, word)
        for file, text in sources().items()
        if file.startswith(f"{package}/")
        for literal in literals(ast.parse(text))
        for word in in_text(literal)
    }
    assert used - KEPT == set()


def test_columns_of_tables_and_of_data_sets_use_the_words():
    """Columns as they come out of a run, not only as they stand in the source."""
    import attention_outliers as ao

    backbone, scenes = ao.load_backbone("tiny"), [sample.image for sample in ao.Shapes(scenes=2)]
    dataset = ao.probe(backbone, scenes)
    scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[2])
    names = {*dataset.variables, *dataset.dims, *scores.variables, *scores.dims, *ao.layer_table(dataset).columns}
    names |= {*ao.threshold_table(scores).columns, *ao.agreement_table(scores).columns}
    names |= {str(value) for variable in dataset.variables.values() for value in variable.attrs.values()}
    assert len(names) > 60
    assert {name for name in map(str, names) if in_text(name)} == set()


def test_old_words_are_seen_in_every_form_and_new_ones_are_not():
    for name in ("n_neighbours", "mendedTokens", "PICTURE_SIZE", "colour", "colours", "centre", "unlabelled", "told",
                 "normalisation", "Repair", "grey", "behaviour", "catalogue"):  # fmt: skip
        assert old_words(name), name
    for name in ("neighbors", "color", "colors", "amend", "recommended", "commend", "center", "recentered", "labeled",
                 "normalize", "image", "hour", "contour", "greedy", "analysis", "catalog", "toldo"):  # fmt: skip
        assert not old_words(name), name

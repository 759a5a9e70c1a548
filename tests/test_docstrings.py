"""Public functions say what they take and give in NumPy's sections, with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import re
import warnings

import pytest

import attention_outliers as ao

FUNCTIONS = [name for name in ao.__all__ if inspect.isfunction(inspect.unwrap(getattr(ao, name)))]
SECTIONS = ("Parameters", "Returns", "Yields", "Raises", "Source", "Attributes", "Notes", "Examples", "See Also")


def sections_of(text: str) -> dict[str, str]:
    """The sections of a docstring: title -> text."""
    pieces = re.split(r"^([A-Z][A-Za-z ]+)\n-{4,}\n", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def documented_parameters(text: str) -> list[str]:
    """Names of the section Parameters; one line may name several."""
    heads = re.findall(r"^(\S.*?)(?: : .*)?$", text, flags=re.MULTILINE)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented_and_none_that_is_not_there(name):
    function = getattr(ao, name)
    sections = sections_of(inspect.getdoc(function) or "")
    assert set(sections) <= set(SECTIONS), f"{name} has sections that no reader of NumPy's style knows"
    assert documented_parameters(sections.get("Parameters", "")) == list(inspect.signature(function).parameters)
    assert "Returns" in sections or "Yields" in sections or inspect.signature(function).return_annotation == "None"
    assert "Examples" in sections


# Classes that have an example, too, and module-level functions: what doctest finds in them is run.
EXAMPLES = [
    name for name in ao.__all__ if ">>> " in (inspect.getdoc(getattr(ao, name)) or "") and callable(getattr(ao, name))
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_and_gives_what_it_says(name):
    """In a fresh name space, as a reader would type it; without a warning."""
    value = getattr(ao, name)
    parser = doctest.DocTestParser()
    example = parser.get_doctest(inspect.getdoc(value) or "", {}, name, inspect.getsourcefile(inspect.unwrap(value)), 0)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner.run(example, out=output.append)
    assert example.examples
    assert not runner.failures, "".join(output)


def test_a_wrong_example_would_be_found():
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3", {}, "sum", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example, out=lambda text: None).failed == 1
    assert documented_parameters("mean, std : floats\n    Both.\n*taps : Tap\n    All.") == ["mean", "std", "taps"]

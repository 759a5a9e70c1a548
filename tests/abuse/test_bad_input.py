"""Bad input over the command line and the API: `make abuse` runs every case, `make test` a sample of them."""

from __future__ import annotations

import pytest
from bad_input import images, places, settings, stores, subcommands, weights, words
from bad_input.harness import Case, fault_of, unique

EVERY = 25  # `make test` runs one case of so many
MODULES = (images, weights, words, stores, settings, places, subcommands)
CASES = unique(case for module in MODULES for case in module.cases())


def _marks(number: int) -> list[pytest.MarkDecorator]:
    return [] if number % EVERY == 0 else [pytest.mark.abuse]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=_marks(k)) for k, c in enumerate(CASES)])
def test_bad_input_is_done_rightly_or_refused_by_name(case: Case, products, tmp_path, record_property):
    fault = fault_of(case, tmp_path / "case")
    record_property("abuse", fault.partition(":")[0] or ("refused" if case.refused else "works"))
    assert not fault, fault


def test_there_are_at_least_300_cases():
    assert len(CASES) >= 300

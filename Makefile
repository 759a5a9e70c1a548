# Two commands do everything on a machine that has Python, make and a package index: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types mutants bench docs clean help

help:
	@echo "make demo    measure, find, purify and segment with the embedded model, into results/"
	@echo "make test    lint, types, and all tests"
	@echo "make docs    the documents with gallery and reference, into docs/_build/html"
	@echo "make mutants put known faults into a copy, one at a time, and see that tests catch them"
	@echo "make bench   time the trunk and the measures against the stock forward"
	@echo "make clean   remove the environment and what was drawn"

# Made anew when the dependencies change.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,notebooks,cluster,docs]"
	touch $(READY)

demo: $(READY)
	$(BIN)/outliers demo --out results

test: lint types
	$(BIN)/python -m pytest -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

mutants: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run.py

bench: $(READY)
	$(BIN)/python -m benchmarks.run

docs: $(READY)
	$(BIN)/python docs/gallery.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) results docs/_build docs/generated

# Two commands do everything on a machine that has Python, make and a package index: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test abuse lint types mutants bench parity gpu docs clean help

help:
	@echo "make demo    measure, find, purify and segment with the embedded model, into results/"
	@echo "make test    lint, types, and all tests"
	@echo "make abuse   bad input of every kind, and runs killed and resumed (KILLS=100 of each; 20 by default)"
	@echo "make docs    the documents with gallery and reference, into docs/_build/html"
	@echo "make mutants put known faults into a copy, one at a time, and see that tests catch them"
	@echo "make parity  every model name of timm and open_clip against its stock forward (an hour)"
	@echo "make bench   time the trunk and the measures against the stock forward"
	@echo "make gpu     parity and cost on a GPU, ten minutes at most; the table goes into docs/gpu.md"
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

abuse: $(READY)
	$(BIN)/python -m pytest -n 2 -m "abuse or not abuse" tests/abuse

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

mutants: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants/run.py

parity: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.parity

bench: $(READY)
	$(BIN)/python -m benchmarks.run

gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu

docs: $(READY)
	$(BIN)/python docs/gallery.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) results docs/_build docs/generated

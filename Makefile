# `make demo` and `make test` need only Python (>= 3.11) and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test lint types examples clean

help:  ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# A stamp an environment state, so that a second call installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) --constraint constraints.txt --editable ".[test]"
	touch $@

demo: $(VENV)/installed  ## Run the tutorial: print its table, write its picture
	$(BIN)/python examples/plot_tutorial.py

# One thread for each of pytest's workers: two of them fill two cores.
test: $(VENV)/installed-test  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --doctest-modules torchblob tests

lint: $(VENV)/installed-test  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-test  ## Check types
	$(BIN)/mypy

examples: $(VENV)/installed-test  ## Run every example
	for example in examples/*.py; do MPLBACKEND=agg $(BIN)/python $$example || exit 1; done

clean:  ## Remove what was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

# `make demo` and `make test` need only Python (>= 3.11) and make.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test fuzz test-lowest mutants lint types audit examples docs wheel clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# A stamp for each state of the environment, so that a second call installs nothing.
$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(PIP) --constraint $(CONSTRAINTS) --editable ".[$*]"
	touch $@

demo: $(VENV)/installed  ## Run the tutorial: print its table, write its picture
	$(BIN)/python examples/plot_tutorial.py

# One thread for each of pytest's workers: two of them fill two cores.
test: $(VENV)/installed-test  ## Run the tests; PYTEST=--cov tells what they reach
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 $(PYTEST) \
		--doctest-modules torchblob tests

fuzz: $(VENV)/installed-test  ## Run the tests of properties with thousands of new examples
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --hypothesis-profile fuzz tests/test_properties.py

test-lowest:  ## Run the tests with the lowest versions that are supported
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

# From the start each time, since mutmut does not see that tests have changed; slowly, in
# one process that lets others go first.
mutants: $(VENV)/installed-mutation  ## Change the kernel and the loop; list what no test notices
	rm -rf mutants
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 nice -n 10 $(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

lint: $(VENV)/installed-test  ## Check style and format; look for what is unsafe
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --recursive torchblob

types: $(VENV)/installed-test  ## Check types
	$(BIN)/mypy

# Needs a network that reaches pypi.org; skips nothing in silence.
audit:  ## Look for known weaknesses of the pinned versions
	$(PYTHON) -m venv --clear .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $(CONSTRAINTS)

examples: $(VENV)/installed-test  ## Run every example
	for example in examples/*.py; do MPLBACKEND=agg $(BIN)/python $$example || exit 1; done

docs: $(VENV)/installed-docs  ## Build the documentation in docs/_build; check its links
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build
	$(BIN)/python docs/check_links.py docs/_build

# Outside of the checkout, or else Python would import the package from there.
wheel: $(VENV)/installed  ## Build the wheel; install and try it in an environment of its own
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(CONSTRAINTS) dist/*.whl
	cp examples/plot_tutorial.py dist
	cd dist && MPLBACKEND=agg ../.venv-wheel/bin/python plot_tutorial.py
	cd dist && ../.venv-wheel/bin/python -c "import torchblob, importlib.resources as r; \
		assert (r.files(torchblob) / 'py.typed').is_file(); print(torchblob.__file__)"

clean:  ## Remove what was made
	rm -rf $(VENV) .venv-audit .venv-lowest .venv-wheel build dist mutants docs/_build *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

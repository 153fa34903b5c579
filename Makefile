# make test   everything CI runs          make demo       the pipeline on the embedded table
# make format ruff's fixes                make notebooks  run the notebooks in place

PYTHON ?= python3
PY := .venv/bin/python
JOBS ?= 2

.PHONY: install test lint format demo notebooks proxies clean
.DEFAULT_GOAL := test

install: .venv/.installed

# installed again only when pyproject.toml changed
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "camel_jax needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 test" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

test: lint
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

demo: install
	.venv/bin/camel-jax demo

notebooks: install
	$(PY) notebooks/execute.py

# the measured table of tiny models: about an hour on one core, and it goes on where it was stopped
proxies: install
	$(PY) benchmarks/proxies/make_table.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info demo_out

# make test      the quick tests                make demo           the pipeline on the package's table
# make test-all  what `make test` leaves out    make notebooks      run the notebooks in place
# make docs      the documentation, strictly    make release-check  the wheel, alone in an empty environment
# make lint      style and types                make wheel          dist/camel_jax-VERSION-py3-none-any.whl
# make format    ruff's fixes
# make test-interop   imports and exports with torch and trainers in an environment of their own (gigabytes)
# make audit     known faults of what is used   make licences       the licences of what is used
# make lowest    the oldest versions that pyproject.toml allows, in .venv-lowest, and the quick tests of LOWEST there

PYTHON ?= python3
PY := .venv/bin/python
JOBS ?= 2
TAG ?=
SLOW ?= slow
LOWEST ?= tests/tables tests/test_storage.py tests/mixture tests/fitting tests/study/test_store.py tests/study/test_writers.py
PYTEST := $(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

# packages whose own parsers read what is exported; what does not go with them in one environment is asked for by itself:
# make test-interop INTEROP=.venv-levanter PARSERS="marin-levanter==0.2.20.dev202606180959 gitpython"
INTEROP ?= .venv-interop
PARSERS ?= torch tensorboard ai2-olmo-core megatron-core torchtitan

.PHONY: install lint test test-all browser test-interop format demo notebooks docs wheel audit licences lowest release-check proxies clean
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

test: install
	$(PYTEST) -m "not slow"

# studies, many processes, notebooks; with `make test`, every test there is
test-all: install browser
	$(PYTEST) -m "$(SLOW)"

# a browser for the tests of pages: the system's Chromium, or playwright's own (CAMEL_JAX_BROWSER names another)
browser: install
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || test -n "$$CAMEL_JAX_BROWSER" || \
	  $(PY) -m playwright install chromium || echo "no browser: the tests of pages are skipped" >&2

test-interop:
	@test -x $(INTEROP)/bin/python || $(PYTHON) -m venv $(INTEROP)
	@$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[all,clients]" pytest hypothesis beartype $(PARSERS)
	$(INTEROP)/bin/python -m pytest -q tests/interop

format: install
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

demo: install
	.venv/bin/camel-jax demo

notebooks: install
	$(PY) notebooks/execute.py

docs: install
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(PY) -m mkdocs build --strict

# equal commits give equal bytes: times in the wheel are that of the commit
wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
wheel:
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

audit: install
	@$(PY) -m pip install --quiet --disable-pip-version-check "pip-audit>=2.7,<3"
	$(PY) -m pip_audit --skip-editable

licences: install
	@$(PY) -m pip install --quiet --disable-pip-version-check "pip-licenses>=5,<6"
	$(PY) -m piplicenses --from=mixed --order=license

lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e ".[dev]"
	.venv-lowest/bin/python -m pytest -q -n $(JOBS) -m "not slow" $(LOWEST)

# make release-check TAG=v0.1.0 asks whether the tag is the version, too
release-check: wheel
	PYTHON=$(PYTHON) .ci/release-check dist/*.whl $(TAG)

# the measured table of tiny models: about an hour on one core, and it goes on where it was stopped
proxies: install
	$(PY) benchmarks/proxies/make_table.py

clean:
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .hypothesis build dist site *.egg-info demo_out

# Each verb makes .venv by itself and installs into it what the verb needs; the second time it starts at once.
#
#   make demo ARGS='--seconds 15'     make test ARGS='tests/unit -k count'     make lint docs bench
#   make test PYTHON=python3.12       (another Python: remove .venv first)

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Tests that run at the same time: many wait for servers and leases, so one more than there are processors. With more
# it takes as long, and what has a deadline misses it.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# What was late on a busy machine is tried once more, and shown at the end; what was lost or doubled is not tried again.
RETRY ?= --reruns 1 --rerun-except "'(lost|in_two_windows|changed|disordered|doubled|missing)': "

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input

.PHONY: help demo test lint docs bench clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/installed-demo
	@$(BIN)/minibatch demo $(ARGS)

test: $(VENV)/installed-dev
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadgroup $(RETRY) $(ARGS)

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict --package minibatch --package benchmarks

docs: $(VENV)/installed-docs
	@$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	@echo 'The site is in build/docs/index.html. Now all programs on its pages are run ...'
	@$(BIN)/python -m pytest --quiet --numprocesses $(JOBS) --dist loadgroup $(RETRY) minibatch tests/unit/test_docs.py \
	    tests/acceptance/test_readme.py tests/acceptance/test_pages.py tests/acceptance/test_seed.py $(ARGS)

bench: $(VENV)/installed-dev
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps are touched last, so an install that was interrupted or failed is done again.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo 'minibatch needs Python 3.10 or later; name one: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	    { echo 'Python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@touch $@

$(VENV)/installed-%: $(VENV)/made pyproject.toml setup.py
	@echo 'Installing minibatch[$*] into $(VENV) (only this once) ...'
	@$(PIP) --editable '.[$*]' || { echo 'The install failed: pip says above why. Nothing was run.' >&2; exit 1; }
	@touch $@

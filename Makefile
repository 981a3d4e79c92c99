# `make` lists what there is. Every target makes the environment that it needs, in .venv, from a
# Python between 3.11 and 3.13 and the package registry; nothing else has to be installed.

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && { command -v $$p; break; }; done)

BIN    := $(VENV)/bin
PY     := $(BIN)/python
JOBS   ?= 2
export JAX_PLATFORMS ?= cpu
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check format bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; \
	do printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: $(VENV)/.demo  ## train on handwritten digits, be killed and resume, compare bit for bit
	@$(PY) examples/digits/supervise.py

test: $(VENV)/.test  ## all tests but those that take minutes; ARGS="-k name" narrows them
	@$(PY) -m pytest -q -n $(JOBS) --dist worksteal $(ARGS)

test-long: $(VENV)/.test  ## the tests that take minutes
	@$(PY) -m pytest -q -m long $(ARGS)

check: $(VENV)/.check  ## format, lint, types, layers
	@$(BIN)/ruff format --check --quiet --output-format concise . || { echo 'run: make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/pyright --pythonpath $(PY)
	@$(BIN)/lint-imports --no-logo
	@echo 'format, lint, types and layers are fine'

format: $(VENV)/.check  ## format the sources and mend what can be mended
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .

bench: $(VENV)/.bench  ## sealwax, Orbax and the raw limit side by side; ARGS=--quick is a short run
	@$(PY) -m tests.benchmarks $(ARGS)

clean:  ## remove the environment and everything built
	@rm -rf $(VENV) build dist lib/*.egg-info .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@test -n '$(PYTHON)' || { \
		echo 'No Python between 3.11 and 3.13 with the venv module was found.' >&2; \
		echo 'Install one (on Debian: python3 and python3-venv), or name it: make PYTHON=/path/to/python3' >&2; \
		exit 1; }
	@echo 'making $(VENV) with $(PYTHON)'
	@'$(PYTHON)' -m venv $(VENV)

# One stamp for each group of dependencies in pyproject.toml.
$(VENV)/.%: pyproject.toml | $(PY)
	@echo 'installing what "$*" needs; the first time takes a minute or two'
	@$(PY) -m pip install -qq --editable '.[$*]'
	@touch $@

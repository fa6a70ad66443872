# `make demo` and `make test` need Python 3.11 or later and nothing else of ours; both build .venv when it is not there yet.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.built
LOWERED := .venv/.lowered
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

.PHONY: help env demo docs bundle test lint types check bench bench-check soak clean lock sample-data

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

env: $(STAMP) $(LOWERED) ## build .venv from requirements-dev.lock (again only when that file or pyproject.toml changed)

$(STAMP): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later found; name one: make PYTHON=/path/to/python3.11 env" >&2; exit 2; }
	@rm -f $@
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "building .venv with $(PYTHON)"; $(PYTHON) -m venv --clear .venv; }
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q kernels storage ingest loadlock  # as pip does with what it copies
	@touch $@

$(LOWERED): $(STAMP) $(wildcard kernels/*.py)  # numba's half of compiling the kernels; LLVM's is paid with each empty cache
	@$(BIN)/python -m kernels.lower
	@touch $@

demo: $(LOWERED) ## ingest sample_data into demo.lake and ask SQL of it
	@scripts/demo $(BIN)/loadlock

test: $(LOWERED) ## all tests but the slow ones
	@$(BIN)/python -m pytest -n 2 -m "not slow" tests

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

check: lint types test ## all of the above

bench: $(LOWERED) ## all figures and docs/benchmarks.md (half an hour); BENCH="--only decode" runs a part
	@$(BIN)/python -m benchmarks.bench $(BENCH)

bench-check: $(LOWERED) ## a regression against BASE (default: the merge base with main, else the commit before) fails
	@$(BIN)/python -m benchmarks.gate $(if $(BASE),--base $(BASE))

soak: $(STAMP) ## the slow tests with their full counts (an hour or two); SOAK=tests/faults/test_bits.py runs a part
	@$(BIN)/python -m benchmarks.soak $(SOAK)

docs: $(STAMP) ## write the reference from the code, and build the pages into build/site
	@$(BIN)/python scripts/reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

bundle: $(STAMP) ## a folder from which loadlock installs without a network; BUNDLE=DIR names it (default build/bundle)
	@scripts/bundle $(BUNDLE)

sample-data: $(STAMP) ## write sample_data/ again, byte for byte
	$(BIN)/python sample_data/generate.py

lock: ## resolve the locks anew (needs uv)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove what was built, but not .venv
	rm -rf demo.lake build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

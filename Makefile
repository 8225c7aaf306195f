# Hansa: `make demo` trains a league and writes its report; `make test` checks that the promises hold.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null)
# One thread per process: Hansa is parallel over sites, and two busy cores are slower with more threads than that.
export OMP_NUM_THREADS ?= 1
export FLWR_TELEMETRY_ENABLED ?= 0
export FLWR_DISABLE_UPDATE_CHECK ?= 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0
TEST_WORKERS ?= 2
RUN ?= runs/demo
PACKAGES := common clients server simulations

.PHONY: help setup demo test test-all mutate bench lint format lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with the pinned packages (again only when they change)

$(STAMP): requirements.txt pyproject.toml
ifneq ($(UV),)
	test -x $(BIN)/python || $(UV) venv --quiet --seed --python 3.11 $(VENV)
	VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.txt
	VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
else
	test -x $(BIN)/python || python3.11 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	touch $(STAMP)

demo: $(STAMP)  ## train the built-in league and write its report (no data needed)
	if test -e $(RUN)/options.json; then $(BIN)/hansa resume $(RUN); \
	else $(BIN)/hansa simulate --data bazaar --engine pool --run $(RUN); fi
	@echo "Open $(RUN)/report.html in a browser. Next: $(BIN)/hansa recommend $(RUN) --help"

test: $(STAMP)  ## the fast tests, under ten minutes on two cores
	$(BIN)/python -m pytest -m "not slow" -n $(TEST_WORKERS)

test-all: $(STAMP)  ## every test, with the coverage of common/
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --cov --cov-report=term-missing:skip-covered

mutate: $(STAMP)  ## change the code in hundreds of places and count what no test notices (ONLY=clients/evaluation/blend.py)
	$(BIN)/python -m tests.mutation.run --workers $(TEST_WORKERS) --only "$(ONLY)"

bench: $(STAMP)  ## every benchmark in its short form (`hansa bench NAME` runs one in full)
	set -e; for name in $$($(BIN)/hansa bench --list); do $(BIN)/hansa bench $$name --quick; done

lint: $(STAMP)  ## form, types and the direction of dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## resolve the dependencies of pyproject.toml anew, with hashes and without the names of hosts
	$(BIN)/uv pip compile pyproject.toml --extra dev -o requirements.txt --upgrade --quiet --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --python-version 3.11 --python-platform x86_64-unknown-linux-gnu

clean:  ## remove what was built; runs and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage .coverage.*
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

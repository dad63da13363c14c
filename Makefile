# Two commands do all the set-up on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUNTIMES := .runtimes
PYTEST_ARGS ?= -n 2
HTML ?= report.html

export BENCHFARM_TEST_RUNTIMES ?= $(CURDIR)/$(RUNTIMES)

.DEFAULT_GOAL := help
.PHONY: help demo test test-farm chaos storm farm-up farm-down lint lock audit format bench runtimes clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.demo ## Set up, then run the main job on this machine; writes report.html
	$(BIN)/benchfarm --home .benchfarm/demo demo --html $(HTML)

test: lint $(RUNTIMES)/.done ## Set up, lint, then every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-farm: $(VENV)/.dev ## Only the tests on boards under systemd-nspawn; needs root
	BENCHFARM_REQUIRE=nspawn,redis $(BIN)/python -m pytest tests/boards

chaos: $(VENV)/.dev ## Faults into a real farm for half an hour; CHAOS_ARGS="--minutes 5 --seed 7" replays
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

storm: $(VENV)/.dev ## Many played boards on one controller under faults; STORM_ARGS="--boards 1000 --trials 100000"
	$(BIN)/python -m tests.chaos storm $(STORM_ARGS)

farm-up: $(VENV)/.dev ## Three such boards to play with, until farm-down; BOARDS="a b:arm64" for others
	$(BIN)/python -m tests.farm up $(BOARDS)

farm-down: $(VENV)/.dev ## Take those of this checkout away
	$(BIN)/python -m tests.farm down

lint: $(VENV)/.dev ## Style, types, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/.dev ## Write the lock files anew; LOCK_ARGS=--upgrade takes the newest versions
	$(BIN)/python -m pip install -q 'uv>=0.13.9'
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=. $(BIN)/python requirements/lock.py $(LOCK_ARGS)

audit: $(VENV)/.dev ## Known holes of every locked version; asks pypi.org, and fails where it cannot
	$(BIN)/python -m pip install -q 'pip-audit>=2.10.1'
	PYTHONPATH=. $(BIN)/python requirements/audit.py $(AUDIT_ARGS)

format: $(VENV)/.dev ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(RUNTIMES)/.done ## Every benchmark; exits 1 if a goal is missed
	$(BIN)/python -m benchmarks

runtimes: $(RUNTIMES)/.done ## An environment for each runtime, for tests and benchmarks

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "benchfarm needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# what the lock files name, by its hash, and nothing else; benchfarm itself has none
$(VENV)/.demo: pyproject.toml requirements/controller.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-deps -e .
	$(BIN)/python -m pip install -q -r requirements/controller.lock
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-deps -e .
	$(BIN)/python -m pip install -q -r requirements/dev.lock
	@touch $@ $(VENV)/.demo

# what `benchfarm-agent runtimes add` builds, from the manifests; what was built before is kept
$(RUNTIMES)/.done: $(wildcard agent/runtimes/*/manifest.py agent/runtimes/*/*.lock) | $(VENV)/.dev
	$(BIN)/python -m tests.build_runtimes $(RUNTIMES)
	@touch $@

clean: ## Remove environments and what the demo left
	rm -rf $(VENV) $(RUNTIMES) .benchfarm report.html .mypy_cache .ruff_cache .pytest_cache

# Every target sets up .venv from the locked versions first; nothing else needs to be typed on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
SAMPLE ?= sample
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV_LOCK := --python-version 3.11 --universal --generate-hashes --no-annotate --no-header --no-emit-index-url \
	--strip-extras --allow-unsafe

.DEFAULT_GOAL := help
.PHONY: help pack test test-fast lint format types bench bench-daily bench-engines docs ui lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

.venv/run.done: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (once) ..." >&2
	@$(PIP) install --require-hashes --no-deps -r requirements/run.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

.venv/dev.done: requirements/dev.txt tests/fakes/package-lock.json .venv/run.done
	@echo "setting up the tools of development (once) ..." >&2
	@$(PIP) install --require-hashes --no-deps -r requirements/dev.txt
	@PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --prefix tests/fakes --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

pack: .venv/run.done ## Run the sample organisation end to end; the last line is the pack's folder
	@$(BIN)/quarterdeck sample $(SAMPLE)
	@$(BIN)/quarterdeck run --settings $(SAMPLE)/quarterdeck.yaml

test: .venv/dev.done ## All tests
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-fast: .venv/dev.done ## The fast tier alone (under two minutes)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

lint: .venv/dev.done ## Style, imports and the portable SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m tests.portable_sql

format: .venv/dev.done ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/dev.done ## mypy, strict
	$(BIN)/mypy

bench: .venv/dev.done ## Generate, build and measure at scale, and print ratios
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.supply_chain
	$(BIN)/python -m benchmarks.dora

bench-daily: .venv/dev.done ## One more day of facts against the time that everything took
	$(BIN)/python -m benchmarks.daily

bench-engines: .venv/dev.done ## The same questions on DuckDB, Polars and Spark (1 M run attempts)
	$(BIN)/python -m benchmarks.engines

docs: .venv/dev.done ## Write docs/metrics.md from the registry
	$(BIN)/python -m analytics.metrics.document docs/metrics.md

ui: .venv/run.done ## The Dagster UI on the sample organisation
	@test -f $(SAMPLE)/quarterdeck.yaml || $(BIN)/quarterdeck sample $(SAMPLE)
	@$(BIN)/quarterdeck ui --settings $(SAMPLE)/quarterdeck.yaml

lock: ## Lock versions with hashes and without addresses (needs uv)
	uv pip compile --quiet $(UV_LOCK) pyproject.toml --group build -o requirements/run.txt
	uv pip compile --quiet $(UV_LOCK) -c requirements/run.txt pyproject.toml --extra s3 --group build --group deploy -o requirements/deploy.txt
	uv pip compile --quiet $(UV_LOCK) -c requirements/run.txt pyproject.toml --group dev -o requirements/dev.txt

clean: ## Remove what make made
	rm -rf .venv $(SAMPLE) *.egg-info

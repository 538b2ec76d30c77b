# Every command of the project: the same for people, hooks and CI.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help train up down test repro lint types format lock bench clean
help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

train: .venv/run ## bring the model up to date and register it (a Prefect flow)
	python -m flows train

up: .venv/services ## start the whole system on this machine: Prefect, MLflow, S3, workers
	python -m flows up

down: .venv/services ## stop it; it goes on where it was
	python -m flows down

test: .venv/dev /usr/bin/chromium ## run the tests
	pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

repro: .venv/run ## rebuild the same without Prefect
	dvc repro

lint: types ## check style, types and layers
	ruff check
	ruff format --check

types: .venv/dev
	mypy

format: .venv/dev ## format the code
	ruff check --fix-only
	ruff format

lock: $(BIN)/uv ## settle the versions of pyproject.toml in the lock files (UPGRADE=--upgrade: newest)
	$(UV) compile $(LOCKED) $(UPGRADE) pyproject.toml -o requirements.lock
	$(UV) compile $(LOCKED) $(UPGRADE) --group pyproject.toml:services -c requirements.lock -o requirements-services.lock
	$(UV) compile $(LOCKED) $(UPGRADE) --group pyproject.toml:dev -c requirements.lock -c requirements-services.lock -o requirements-dev.lock

bench: .venv/dev ## measure learners, sweeps, proofs, the system, and what orchestration costs
	python -m bench.learners
	python -m bench.lineage
	python -m bench.overhead
	python -m bench.proof
	python -m bench.sweeps
	python -m bench.system

clean: ## remove outputs, caches and the environment; the MLflow store and what `make up` keeps stay
	find .verbatim -mindepth 1 -maxdepth 1 ! -name system -exec rm -rf {} + 2>/dev/null || true
	rm -rf .venv .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf data/lake data/ingest data/validate data/featurize data/train data/evaluate data/register

# The browser of the tests; Debian's, since no package registry has one.
/usr/bin/chromium:
	$(shell command -v sudo) apt-get update --quiet=2
	$(shell command -v sudo) apt-get install --quiet=2 --yes --no-install-recommends chromium

LOCKED := --quiet --universal --generate-hashes --fork-strategy fewest --no-emit-index-url --no-header

# Into this environment, even if another one is active. Compiled at once, because great libraries
# take twice as long to import when they are not.
INSTALLED := --python $(BIN)/python --quiet --require-hashes --compile-bytecode

# uv comes from the lock itself, so that pip's only work is this one package, its hash checked too.
$(BIN)/uv: requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement .venv/uv.lock
	touch $@

.venv/run: requirements.lock $(BIN)/uv
	$(UV) sync $(INSTALLED) requirements.lock
	touch $@

.venv/services: .venv/run requirements-services.lock
	$(UV) sync $(INSTALLED) requirements.lock requirements-services.lock
	touch $@

.venv/dev: .venv/services requirements-dev.lock
	$(UV) sync $(INSTALLED) requirements.lock requirements-services.lock requirements-dev.lock
	touch $@

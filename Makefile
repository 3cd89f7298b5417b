# Madang: `make` lists the targets.
PYTHON ?= python3
BIN = .venv/bin
STAMP = .venv/installed

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

serve: $(STAMP)  ## start the service, with a MongoDB of its own if none is named
	exec $(BIN)/python run.py $(ARGS)

test: $(STAMP) browser  ## lint, types, architecture, then the tests on mongomock and on a real MongoDB
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage run -m pytest --mongodb
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

install: $(STAMP)  ## make the virtual environment in .venv from the lock

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tools/apt-install python3-venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || sh tools/apt-install chromium

COMPILE = $(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --no-header --allow-unsafe

bench: $(STAMP) .venv-bench/installed  ## measure the service beside others and write docs/performance.md
	@command -v wrk >/dev/null || sh tools/apt-install wrk
	$(BIN)/python -m bench $(ARGS)

chaos: $(STAMP)  ## kill databases, workers and servers while people write; takes a quarter of an hour
	$(BIN)/python -m chaos $(ARGS)

.venv-bench/installed: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check -r bench/requirements.txt
	@touch $@

lock:  ## write the locks anew from pyproject.toml: all packages, and those of the image alone
	$(COMPILE) --extra mongod --extra dev -o requirements.lock pyproject.toml
	$(COMPILE) -c requirements.lock -o requirements-runtime.lock pyproject.toml

format:  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches; data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

.PHONY: help serve test install browser bench chaos lock format clean
.DEFAULT_GOAL := help

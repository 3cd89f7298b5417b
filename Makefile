# Madang: `make` lists the targets.
PYTHON ?= python3
BIN = .venv/bin
# Where Python is told to keep no compiled modules, every process that a test starts would compile all of them.
export PYTHONDONTWRITEBYTECODE =
# What is installed already stays. A Python that was named is meant; else any that .venv has and that is new enough will do.
INSTALL = command -v $(PYTHON) >/dev/null || { echo "Madang needs Python 3.11 or newer; there is no $(PYTHON)" >&2; exit 1; }; \
	$(PYTHON) tools/install.py $(if $(filter-out file,$(origin PYTHON)),--this-python)

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

serve:  ## start the service, with a MongoDB of its own if none is named
	@$(INSTALL) requirements-serve.lock
	exec $(BIN)/python run.py $(ARGS)

test: install  ## lint, types, architecture, then the tests on mongomock and on a real MongoDB
	@$(MAKE) $(AT_ONCE) -j2 lint browser build/clients/installed
	$(BIN)/coverage erase
	@echo "Four runs of pytest, three at once; each is shown when it has ended."
	@$(MAKE) $(AT_ONCE) -k -j$(RUNS) mongodb-j-to-z mongodb-a-to-i mongodb-both mongomock
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# Each shows what it said when it has ended. One that fails makes all fail, once the others have come to their end.
AT_ONCE = --no-print-directory $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Runs that share the one database of a server that is named would empty it for each other.
RUNS = $(if $(SERVICE_MONGODB_URI),1,3)

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

mongomock:
	$(BIN)/coverage run -m pytest

# What both databases run is measured with mongomock alone: to be measured costs a test more than it does itself.
mongodb-both:
	$(BIN)/pytest --mongodb -m "not ($(ONLY_MONGODB))"

# What mongomock has not, by the first letter of a file's name. A file that two of them do not leave out would be in both.
mongodb-a-to-i:
	$(BIN)/coverage run -m pytest --mongodb -m "$(ONLY_MONGODB)" --ignore-glob='tests/test_[j-z]*'

mongodb-j-to-z:
	$(BIN)/coverage run -m pytest --mongodb -m "$(ONLY_MONGODB)" --ignore-glob='tests/test_[a-i]*'

ONLY_MONGODB = real or browser or clients

install:  ## bring .venv up to the lock: all that serving, tests and tools need
	@$(INSTALL) requirements.lock

browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || sh tools/apt-install chromium

screenshots: install browser  ## take pictures of the pages, in build/screenshots
	TEST_ARTEFACTS=build/screenshots $(BIN)/pytest --mongodb tests/test_console_browser.py tests/test_browser.py

clients: install build/clients/installed  ## make clients in five languages from the API document, compile and run what can be
	$(BIN)/pytest --mongodb tests/test_generated_clients.py tests/test_live_clients.py

# One environment for the generators of all languages. Of `jars.txt` only the packages themselves are wanted.
build/clients/installed: tests/clients/package.json tests/clients/requirements.txt tests/clients/jars.txt
	@command -v npm >/dev/null || sh tools/apt-install nodejs npm
	mkdir -p build/clients
	cp tests/clients/package.json build/clients
	cd build/clients && npm install --silent --no-audit --no-fund --ignore-scripts && npm rebuild --silent node
	$(PYTHON) -m venv build/clients/python
	build/clients/python/bin/pip install -q --disable-pip-version-check -r tests/clients/requirements.txt
	build/clients/python/bin/pip install -q --disable-pip-version-check --no-deps -r tests/clients/jars.txt
	@touch $@

COMPILE = $(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links --no-header --allow-unsafe

bench: install .venv-bench/installed  ## measure the service beside others and write docs/performance.md
	@command -v wrk >/dev/null || sh tools/apt-install wrk
	$(BIN)/python -m bench $(ARGS)

chaos: install build/clients/installed  ## kill databases, workers and servers, and ask for too much; takes a quarter of an hour
	$(BIN)/python -m chaos $(ARGS)
	MADANG_CRASH_EVERY=1 $(BIN)/pytest --mongodb tests/test_crash.py
	MADANG_OUTBOX_KILLS=100 $(BIN)/pytest --mongodb tests/test_outbox_kills.py
	MADANG_WEBHOOK_KILLS=100 $(BIN)/pytest --mongodb tests/test_webhook_kills.py
	MADANG_JOB_KILLS=200 $(BIN)/pytest --mongodb tests/test_job_kills.py
	MADANG_PUSH_KILLS=200 $(BIN)/pytest --mongodb tests/test_push_kills.py
	MADANG_HOOK_KILLS=200 $(BIN)/pytest --mongodb tests/test_after_change_kills.py
	MADANG_FILE_KILLS=200 $(BIN)/pytest --mongodb tests/test_file_kills.py
	MADANG_TUS_UPLOADS=200 MADANG_TUS_BYTES=30000000 $(BIN)/pytest --mongodb -s tests/test_tus_clients.py
	MADANG_MERGE_RECORDS=100000 MADANG_MERGE_KILLS=5 $(BIN)/pytest --mongodb tests/test_guest_kills.py

fuzz: install  ## send whatever a machine makes up to the API and the parsers; takes a quarter of an hour
	@$(INSTALL) requirements-fuzz.lock
	$(BIN)/python -m fuzz $(ARGS)

mutants: install .venv-mutants/installed  ## change the modules that security stands on in every small way: each time a test has to fail; takes an hour
	nice .venv-mutants/bin/python -m mutants $(ARGS)

converge: install build/clients/installed  ## follow changes with devices through 3,000 random histories, and 200 with the sync clients, and lose connections of live clients for ten minutes; takes over an hour
	MADANG_MODEL_RUNS=2000 $(BIN)/pytest --mongodb tests/test_changes_model.py tests/test_sync_model.py -k converge
	MADANG_SYNC_RUNS=200 $(BIN)/pytest --mongodb -s tests/test_sync_clients.py -k all_devices
	MADANG_LIVE_SECONDS=600 $(BIN)/pytest --mongodb -s tests/test_live_clients.py -k lose_their

# What mutmut brings must not be seen by the service: Granian takes another name where it finds setproctitle.
.venv-mutants/installed: requirements.lock requirements-mutants.lock
	$(BIN)/python -m venv .venv-mutants
	.venv-mutants/bin/pip install -q --disable-pip-version-check --require-hashes $(^:%=-r %)
	@touch $@

.venv-bench/installed: bench/requirements.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q --disable-pip-version-check -r bench/requirements.txt
	@command -v npm >/dev/null || sh tools/apt-install nodejs npm
	npm install --silent --no-audit --no-fund --prefix .venv-bench mongodb@7.9.0
	@touch $@

lock: install  ## write the locks anew from pyproject.toml: all packages, and those of parts
	$(COMPILE) --extra mongod --extra door --extra dev -o requirements.lock pyproject.toml
	$(COMPILE) -c requirements.lock -o requirements-runtime.lock pyproject.toml
	$(COMPILE) -c requirements.lock --extra mongod --extra door -o requirements-serve.lock pyproject.toml
	$(COMPILE) -c requirements.lock --extra fuzz -o requirements-fuzz.lock pyproject.toml
	$(COMPILE) -c requirements.lock --extra mutants -o requirements-mutants.lock pyproject.toml

format:  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environments and caches; data in var/ stays
	rm -rf .venv .venv-bench .venv-mutants build/clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

.PHONY: help serve test lint mongomock mongodb-both mongodb-a-to-i mongodb-j-to-z install browser screenshots clients bench chaos fuzz mutants converge lock format clean
.DEFAULT_GOAL := help

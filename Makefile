# make serve: sets up everything and runs the shipped functions. make test: sets up everything and
# tests it; make test-full: with the long tests, before a release.
# make check looks and never writes; make fix writes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
CODE := wakeful runtime deployments apps loadtests tests

.DEFAULT_GOAL := help
.PHONY: help setup compiled serve test test-full durations check fix lock wheel bench faults bounds fuzz house mutants contracts load models docs

help:
	@echo "make setup | serve | test | test-full | durations | check | fix | docs | bench | faults | fuzz | mutants | contracts | load | lock | wheel"

# The stamp stands once everything is installed: an interrupted set-up is done again.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Wakeful needs Python 3.11 or newer; say which with make PYTHON=...")'
	@echo "setting up .venv (a minute or two the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

models: .venv/.installed
	@$(BIN)/wakeful models pull

setup: models

serve: setup
	$(BIN)/wakeful up serve_config.yaml

# Hundreds of processes of the tests import this code. Where PYTHONDONTWRITEBYTECODE is set, as in many
# images, each would compile it anew: half a second of a core for a command, a replica, a worker.
compiled: .venv/.installed
	@$(BIN)/python -m compileall -q $(filter-out tests,$(CODE))

# Processes share the tests as tests/distribution.py says, three on two cores: a quarter of what tests take is waiting,
# above all for Ray. What pytest makes of a test's assertions is kept, half of the time that it takes to find them.
PROCESSES ?= 3
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(PROCESSES) $(RERUNS)

test: setup compiled
	$(PYTEST) -m "not full"

test-full: setup compiled
	$(PYTEST)

# What each file takes, for tests/distribution.py: on a machine with nothing else on it, now and then.
durations: setup compiled
	$(PYTEST) -m "not full" --write-durations

check: compiled
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(PYTEST) -q -m "not ray and not slow and not full"

fix: .venv/.installed
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/python -m tests.regenerate

lock: .venv/.installed
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

# One file that `pip install` takes, in dist/; docs/install.md says how. It needs pip alone.
wheel:
	$(PYTHON) -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

# The pages of docs/ as a site, in build/site: a folder that any web server serves, and that loads nothing from elsewhere.
docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file docs/site/mkdocs.yml
	@echo "build/site/index.html"

bench: setup
	$(BIN)/python -m loadtests.bench

# Kills, redeploys, overload and the rest under load, with an account of every request: an hour and a half. ARGS="--quick --only kill2" for less.
faults: setup
	$(BIN)/python -m loadtests.faults $(ARGS)

# The worst calls there are, one by one, and what each costs the processes that serve: ten minutes. ARGS="--only ray" is the half on Ray.
bounds: setup
	$(BIN)/python -m loadtests.bounds $(ARGS)

# Calls that no client should make, made by a seed: 100,000 and what they leave, a quarter of an hour. ARGS="--quick" for less, "--ways run,workers,up" for more.
fuzz: setup
	$(BIN)/python -m loadtests.fuzz $(ARGS)

# How the code is built: modules, lines, floors, and what one call goes through, traced.
house: .venv/.installed
	$(BIN)/python -m tests.house

# Faults that a careful engineer fears, made one by one in a copy: which tests see each. An hour; ARGS="survivors" or ARGS="H12 I8" for less.
mutants: setup
	nice -n 10 $(BIN)/python -m tests.mutations $(ARGS)

# What is assumed of the inside of other programs, tried in their newest releases on the index. ARGS="uvicorn==0.50.2" for another.
contracts: .venv/.installed
	$(BIN)/python -m tests.contracts $(ARGS)

# A short steady load and a spike of two shipped functions, with their verdicts: a minute and a half.
load: setup
	WAKEFUL_ROOT=$(CURDIR) $(BIN)/python -m loadtests.loadtest.short $(ARGS)

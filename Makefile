# `make` lists what there is. Needs python3 (3.11-3.13) with pip and venv; everything else comes from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint format native lib docs pages notebooks sanitize tsan fuzz faults benchmarks audit dist lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $(READY)

install: $(READY) ## .venv with the pinned packages and this project

quickstart: $(READY) ## dense against pruned DeepFwFM on a planted world (about a minute)
	$(BIN)/deeplight quickstart

test: lint ## ruff, pyright and the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY) ## ruff (format and lint) and pyright, as CI runs them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(READY) ## rewrite the sources as ruff likes them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

native: $(READY) ## the C++ engine, built again in place
	$(BIN)/python setup.py --quiet build_ext --inplace --force

lib: ## libdeeplight.so, libdeeplight.a and deeplight.h into build/native; needs a C++ compiler alone
	$(MAKE) -s -C deeplight_jax/serving/native

DOCS := build/docs-venv
$(DOCS)/.ready: requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	touch $@

docs: $(DOCS)/.ready ## the documentation as a site in build/docs, notebooks run; a warning fails it
	PYTHONPATH=$(CURDIR) JUPYTER_PLATFORM_DIRS=1 $(DOCS)/bin/python -m sphinx -q -n -W --keep-going docs build/docs

pages: $(READY) ## run what the documentation's pages tell a reader to type, the slow pages too
	DEEPLIGHT_PAGES=all $(BIN)/python -m pytest -q tests/docs/test_pages.py

notebooks: $(READY) ## run the notebooks of docs/; with their outputs into build/notebooks
	$(BIN)/python docs/notebooks/run.py --out build/notebooks

sanitize: $(READY) ## the engine's and the loader's tests under AddressSanitizer and UndefinedBehaviorSanitizer
	PYTHON=$(CURDIR)/$(BIN)/python tests/native/sanitize

tsan: $(READY) ## threads that share an engine, under ThreadSanitizer
	PYTHON=$(CURDIR)/$(BIN)/python tests/native/tsan

SECONDS ?= 60
SEED ?= 1
fuzz: $(READY) ## fuzz the loader of artifacts for SECONDS=60 from SEED=1 (libFuzzer, or g++ and a driver of our own)
	PYTHON=$(CURDIR)/$(BIN)/python tests/fuzz/run $(SECONDS) $(SEED)

faults: $(READY) ## kills, damage, full disks and load in their long form (an hour); writes benchmarks/RELIABILITY.md
	$(BIN)/python benchmarks/reliability.py

CRITEO ?=
benchmarks: $(READY) ## every benchmark (hours) into build/benchmarks; CRITEO=FILE: rows of Criteo, for the tables
	$(BIN)/python benchmarks/everything.py $(if $(CRITEO),--criteo $(CRITEO))

dist: $(READY) ## sdist and wheel into dist/, installed and tried in a clean environment, also without a compiler
	PYTHON=$(CURDIR)/$(BIN)/python tests/packaging/smoke

audit: $(READY) ## known vulnerabilities of the pinned packages (pip-audit is installed for it); fails where PyPI cannot tell
	$(BIN)/python -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate --upgrade
lock: $(READY) ## resolve both locks anew (every platform, Python 3.11-3.13, hashes, no hosts)
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --extra dev -o requirements.lock
	$(LOCK) --extra docs -c requirements.lock -o requirements-docs.lock

clean: ## remove .venv and caches, keep runs/
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist *.egg-info

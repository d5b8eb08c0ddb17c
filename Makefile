# Every step that a workflow, a hook or a person runs is a target here. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Some images set it; then every one of the hundreds of processes of a test run compiles all that it imports again.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
UV := $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
PYTHON_CODE := src contracts dags tests benchmarks scripts docker
DATA ?=
REPORTS := build/reports

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

include make/shipping.mk

# --- environment -----------------------------------------------------------------------------------------------------

.venv/.bootstrap: requirements/bootstrap.txt scripts/create-venv.sh
	@scripts/create-venv.sh .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

.venv/.runtime: .venv/.bootstrap requirements/runtime.txt pyproject.toml
	@echo "installing what the service and the pipeline need (hashed lock: requirements/runtime.txt)"
	@$(INSTALL) --require-hashes -r requirements/runtime.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.bootstrap requirements/dev.txt pyproject.toml
	@scripts/ensure-git.sh
	@echo "installing what tests and checks need (hashed lock: requirements/dev.txt)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: .venv/.dev ## create .venv with everything that development needs
	@$(BIN)/pre-commit install --install-hooks >/dev/null && echo "ready: source .venv/bin/activate"

# --- use -------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.runtime ## the whole loop on synthetic data, or on a folder: make demo DATA=path
	@$(BIN)/ctcd demo $(if $(DATA),--data $(DATA))

.PHONY: serve
serve: .venv/.runtime ## serve the champion
	@$(BIN)/ctcd serve

.PHONY: airflow
airflow: .venv/.dev ## Airflow with our DAGs on this machine until Ctrl-C: make airflow PORT=8080
	@scripts/ensure-mariadb.sh
	@PYTHONPATH=tests $(BIN)/python scripts/airflow_stack.py $(if $(PORT),--port $(PORT))

# --- checks ----------------------------------------------------------------------------------------------------------

.PHONY: test
test: lint types unit-coverage prove-quick integration coverage ## everything: lint, types, unit suite, planted defects, integration suite, coverage floor

.PHONY: lint
lint: .venv/.dev ## ruff: lint and format
	@$(BIN)/ruff check $(PYTHON_CODE)
	@$(BIN)/ruff format --check --quiet $(PYTHON_CODE) || { echo "run: make format"; exit 1; }

.PHONY: format
format: .venv/.dev ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix --exit-zero --quiet $(PYTHON_CODE)
	@$(BIN)/ruff format $(PYTHON_CODE)

.PHONY: types
types: .venv/.dev ## mypy, strict
	@$(BIN)/mypy $(PYTHON_CODE)

.PHONY: unit
unit: .venv/.dev ## unit suite: no network, no server; with fewer drawn examples than in `make test`
	@$(BIN)/pytest tests/unit --numprocesses auto -p no:schemathesis --hypothesis-profile quick --quiet

.PHONY: unit-coverage
unit-coverage: .venv/.dev
	@rm -f .coverage.unit*
	@COVERAGE_FILE=.coverage.unit $(BIN)/pytest tests/unit --numprocesses auto -p no:schemathesis --cov --cov-report= --cov-fail-under 0

build/wheel: .venv/.dev $(shell find src contracts -type f -not -name '*.pyc') pyproject.toml README.md
	@rm -rf build/wheel dist
	@$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
	@$(INSTALL) --no-deps --target build/wheel dist/*.whl
	@touch $@

# Services and the gate are judged by the clock: nothing runs beside their tests.
BY_THE_CLOCK := tests/integration/serving tests/integration/cli
INTEGRATION := PYTHONPATH=build/wheel EXPECT_WHEEL=build/wheel $(BIN)/pytest --cov --cov-report= --cov-fail-under 0

# The suite imports the built wheel, not the checkout: what is tested is what ships.
.PHONY: integration
integration: build/wheel ## integration suite on real parts, against the built wheel
	@scripts/ensure-mariadb.sh
	@rm -f .coverage.integration*
	@COVERAGE_FILE=.coverage.integration-beside $(INTEGRATION) tests/integration --numprocesses auto --dist loadfile \
		-p no:schemathesis $(addprefix --ignore ,$(BY_THE_CLOCK))
	@COVERAGE_FILE=.coverage.integration-alone $(INTEGRATION) $(BY_THE_CLOCK)

.PHONY: coverage
coverage: ## combine the coverage of the suites and hold it to the floor
	@$(BIN)/coverage combine --quiet --keep .coverage.unit* .coverage.integration*
	@mkdir -p $(REPORTS) && $(BIN)/coverage xml --quiet -o $(REPORTS)/coverage.xml
	@$(BIN)/coverage report

PROVE := PYTHONPATH=tests $(BIN)/python -m prove

.PHONY: prove
prove: .venv/.dev ## plant every defect of the catalogue and see it caught; ONLY=regex for a part, JSON=1 for a document
	@$(PROVE) $(if $(JSON),--json) $(if $(ONLY),'$(ONLY)')

.PHONY: prove-quick
prove-quick: .venv/.dev ## the planted defects that need no process of their own
	@$(PROVE) --quick

.PHONY: mutation
mutation: .venv/.dev ## change the code that decides step by step and count what tests notice; MINUTES=20
	@PYTHONPATH=tests $(BIN)/python -m prove.mutation $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: check
check: .venv/.dev ## every pre-commit hook on all files
	@$(BIN)/pre-commit run --all-files

# On a first push there is nothing to compare with.
BASE ?= HEAD
.PHONY: contract-diff
contract-diff: .venv/.dev ## whom the contract's changes since BASE break, and whether its version says so
	@$(BIN)/ctcd contract diff $(if $(filter-out 0000000000000000000000000000000000000000,$(BASE)),$(BASE),HEAD) \
		--markdown | tee -a "$${GITHUB_STEP_SUMMARY:-/dev/null}"

.PHONY: python-versions
python-versions: ## the supported Python versions, from the metadata, as JSON
	@python3 -c 'import json, tomllib; print(json.dumps([c.rpartition(" ")[2] for c in \
		tomllib.load(open("pyproject.toml", "rb"))["project"]["classifiers"] if "Python :: 3." in c]))'

.PHONY: load
load: .venv/.dev ## load test of the service: make load SHAPE=reference|spike|soak|smoke
	@scripts/ensure-mariadb.sh
	@PYTHONPATH=tests $(BIN)/python -m load $(or $(SHAPE),reference)

.PHONY: bench
bench: .venv/.dev ## benchmarks; results go to benchmarks/results
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(DATA),--data $(DATA))

# --- images ----------------------------------------------------------------------------------------------------------

TAG ?= local
# The base of all images; a digest, where it has to be the same every time.
export BASE_IMAGE ?= python:3.11-slim-bookworm

.PHONY: images
images: .venv/.dev ## build the images credit-score-api, -ct and -airflow: make images BENTO=folder TAG=local ONLY="api ct"
	@$(BIN)/python scripts/images.py $(ONLY) --tag $(TAG) $(if $(BENTO),--bento $(BENTO))

.PHONY: images-test
images-test: .venv/.dev mariadb ## run the images of `make images` as they are to run, and look into them; needs Docker
	@scripts/ensure-kubectl.sh $(BIN)
	@PATH="$(CURDIR)/$(BIN):$$PATH" IMAGE_TAG=$(TAG) $(BIN)/pytest tests/containers

export TAG
export PROFILES ?=

.PHONY: up
up: ## the whole stack on this machine, from the images of `make images`: make up PROFILES=console,monitoring
	@scripts/up.sh

.PHONY: down
down: ## end the stack; its data stays, unless VOLUMES=1
	@PROFILES='*' scripts/compose.sh down --remove-orphans $(if $(VOLUMES),--volumes)

# --- generated files -------------------------------------------------------------------------------------------------

COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" pyproject.toml

.PHONY: lock
lock: .venv/.bootstrap ## rewrite the hashed dependency locks from pyproject.toml
	@$(COMPILE) --all-extras --group dev --group bootstrap -o requirements/dev.txt
	@$(COMPILE) --extra train --extra serve -c requirements/dev.txt -o requirements/runtime.txt
	@$(COMPILE) --extra serve -c requirements/dev.txt -o requirements/serve.txt
	@$(COMPILE) $(addprefix --extra ,contract postgres serve train) -c requirements/dev.txt -o requirements/ct.txt
	@$(COMPILE) $(addprefix --extra ,airflow contract postgres serve train) -c requirements/dev.txt -o requirements/airflow.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group bootstrap -c requirements/dev.txt -o requirements/bootstrap.txt
	@scripts/check-lock.sh --record

.PHONY: clean
clean: ## remove what was built; var/ with its models and data stays
	@rm -rf build dist .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache

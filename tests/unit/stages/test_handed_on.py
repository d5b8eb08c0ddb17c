"""What a stage is given, and what the instance and the settings say, reaches the library that does the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from support.called import Calls, recording
from support.instance import CONTRACT, INSTANCE

from ctcd.deployment import local_container
from ctcd.deployment.smoke import SmokeReport
from ctcd.errors import CtcdError, GateRefused, NotFound, UsageError
from ctcd.model.served import Origin
from ctcd.monitoring.periods import Period
from ctcd.monitoring.since import drift_since
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.promotion.policy import load_policy
from ctcd.registry.versions import IMAGE
from ctcd.scoring.replay import Chosen
from ctcd.settings import Environment, Settings
from ctcd.stages import audit, connections, data, deployment, promotion, scoring, site, traffic, training
from ctcd.stages.connections import instance
from ctcd.training.grid import load_profile
from ctcd.training.job import Plan

DAY, TODAY = date(2025, 8, 31), date(2025, 9, 2)
PROGRESS = object()
STORE, FRAME, REPORT, LOADED = object(), object(), object(), object()
THRESHOLD: Any = object()
QUARANTINED: Any = (object(),)
SOURCES: Any = (object(),)
SETTINGS = Settings(
    contracts=INSTANCE.folder,
    ingest_chunk_rows=123,
    snapshot_months=4,
    snapshot_keep_days=5,
    log_keep_months=3,
    timezone="Asia/Tokyo",
    served_by="an image by digest",
)
REGISTRY = SimpleNamespace(
    champion=lambda: SimpleNamespace(version="6", run_id="of-6"),
    find=lambda _: SimpleNamespace(version="6", run_id="of-6"),
    client="client",
    info=lambda version: SimpleNamespace(version=version, run_id=f"of-{version}"),
    scorer=lambda info, _: SimpleNamespace(contract_version=f"of {info.version}"),
)
"""A registry in memory: a real one takes seconds to make, and what is asked of it is not the subject."""
REFERENCES = {("client", CONTRACT, SETTINGS): "reference of a run"}

SNAPSHOT: Any = SimpleNamespace(day=DAY, give_up=lambda: FRAME, quarantined=QUARANTINED, sources=SOURCES)
"""A snapshot of which stages take the rows and leave none."""
JUDGED = {
    "registry": REGISTRY,
    "policy": load_policy(INSTANCE),
    "request": INSTANCE.payload.request,
    "run_id": None,
    "today": None,
    "without_champion": None,
    "drift": (
        drift_since,
        {
            "find_reference": "reference of a run",
            "contract": CONTRACT,
            "limits": load_tolerances(INSTANCE).drift,
        },
    ),
}
TRAINED = {
    "frame": FRAME,
    "plan": Plan(
        profile=load_profile("fast", INSTANCE),
        base_dt=DAY,
        threshold=THRESHOLD,
        quarantined=QUARANTINED,
        sources=SOURCES,
    ),
}
MONITORED = {
    "engine": STORE,
    "base_dt": DAY,
    "reports": SETTINGS.reports,
    "tolerances": load_tolerances(INSTANCE),
    "accept_change": False,
}
INGESTED = {"engine": STORE, "source": Path("raw"), "chunk_rows": 123, "replace": False, "today": TODAY}
TAKEN = {"engine": STORE, "base_dt": DAY, "months": 4, "keep_days": 5}
BY = Origin(
    model_version="6", run_id="of-6", contract_version="of 6", served_by="an image by digest", variant="champion"
)
SCORED = {"engine": STORE, "scorer": SimpleNamespace(contract_version="of 6"), "origin": BY, "chunk_rows": 123}
TOKYO = ZoneInfo("Asia/Tokyo")
REPLAYED = {"engine": STORE, "registry": REGISTRY, "cache": SETTINGS.scorers}
PERFORMED = {"engine": STORE, "base_dt": DAY, "period": Period.WEEKLY, "zone": ZoneInfo("Asia/Tokyo")}
OF_LOG = PERFORMED | {"slices": load_policy(INSTANCE).slices, "chunk_rows": 123}
DRIFTED = PERFORMED | {
    "limits": load_tolerances(INSTANCE).drift,
    "champion": ("6", "of-6"),
    "find_reference": "reference of a run",
    "chunk_rows": 123,
}

HANDED_ON: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "ingest": (partial(data.ingest, source=Path("raw")), "store.ingest.ingest", INGESTED),
    "ingest that replaces": (
        partial(data.ingest, source=Path("raw"), replace=True), "store.ingest.ingest", INGESTED | {"replace": True},
    ),
    "snapshot": (partial(data.snapshot, base_dt=DAY), "store.snapshot.take_snapshot", TAKEN),
    "snapshot of other months": (
        partial(data.snapshot, base_dt=DAY, months=2), "store.snapshot.take_snapshot", TAKEN | {"months": 2},
    ),
    "monitor": (partial(data.monitor_data, base_dt=DAY), "monitoring.data_monitor.monitor_data", MONITORED),
    "monitor that accepts": (
        partial(data.monitor_data, base_dt=DAY, accept_change=True), "monitoring.data_monitor.monitor_data",
        MONITORED | {"accept_change": True},
    ),
    "training": (
        partial(training.train, base_dt=None, profile="fast", snapshot=SNAPSHOT), "training.train.train", TRAINED | {"force": False},
    ),
    "training again": (
        partial(training.train, base_dt=None, profile="fast", snapshot=SNAPSHOT, force=True), "training.train.train",
        TRAINED | {"force": True},
    ),
    "training on the snapshot of a day": (
        partial(training.train, base_dt=DAY, profile="fast"), "training.train.train", TRAINED | {"force": False},
    ),
    "training in steps": (
        partial(training.prepare_training, base_dt=DAY, profile="fast"), "training.distributed.prepare", TRAINED,
    ),
    "trial": (
        partial(training.run_trial, training="1f0c2e", index=3), "training.distributed.run_trial",
        {"training": "1f0c2e", "index": 3},
    ),
    "end of a training": (
        partial(training.finish_training, training="1f0c2e"), "training.distributed.finish", {"training": "1f0c2e"},
    ),
    "gate": (promotion.gate, "promotion.gate.gate", JUDGED),
    "gate of a version": (partial(promotion.gate, version="7"), "promotion.gate.gate", JUDGED | {"run_id": "of-7"}),
    "gate of a run, on old data": (
        partial(promotion.gate, run_id="abc", today=DAY, without_champion="gone"), "promotion.gate.gate",
        JUDGED | {"run_id": "abc", "today": DAY, "without_champion": "gone"},
    ),
    "batch scores": (scoring.predict_new, "scoring.store.score_new", SCORED),
    "replay": (
        partial(audit.replay, begin=DAY, end=TODAY, sample=5), "scoring.replay.replay",
        REPLAYED | {"chosen": Chosen(
            begin=datetime(2025, 8, 31, tzinfo=TOKYO), end=datetime(2025, 9, 3, tzinfo=TOKYO), sample=5, seed=42
        )},
    ),
    "replay of requests": (
        partial(audit.replay, requests=["r-1"]), "scoring.replay.replay",
        REPLAYED | {"chosen": Chosen(requests=("r-1",), seed=42)},
    ),
    "export": (
        partial(scoring.export, base_dt=DAY, folder="there", days=2), "store.warehouse.export_log",
        {"engine": STORE, "days": [DAY - timedelta(2), DAY - timedelta(1)], "folder": "there",
         "zone": ZoneInfo("Asia/Tokyo"), "chunk_rows": 123},
    ),
    "retain": (
        partial(scoring.retain, partition=True), "store.retention.retain",
        {"engine": STORE, "today": TODAY, "keep_months": 3, "partitions": True, "require_copied": None},
    ),
    "performance": (
        partial(scoring.performance, base_dt=DAY, period="weekly"), "monitoring.performance.write_performance", OF_LOG,
    ),
    "site": (
        partial(site.write_site, into=None, load=Path("load")), "monitoring.site.write_site",
        {"engine": STORE, "registry": REGISTRY, "reports": SETTINGS.reports, "load": Path("load"), "into": SETTINGS.reports / "site"},
    ),
    "site in a folder": (
        partial(site.write_site, into=Path("there"), load=Path("load")), "monitoring.site.write_site",
        {"engine": STORE, "registry": REGISTRY, "reports": SETTINGS.reports, "load": Path("load"), "into": Path("there")},
    ),
    "drift": (partial(scoring.drift, base_dt=DAY, period="weekly"), "monitoring.drift.write_drift", DRIFTED),
}  # fmt: skip
"""Stage, the function that does its work, and all that it gets besides contract, settings and progress."""


@pytest.mark.parametrize("name", HANDED_ON)
def test_a_stage_hands_on_what_it_is_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options as they were given, limits of the settings, and policies of the instance in force."""
    stage, path, expected = HANDED_ON[name]
    calls: Calls = []
    function = _named(f"ctcd.{path}")
    monkeypatch.setattr(f"ctcd.{path}", recording(function, calls))
    monkeypatch.setattr(Settings, "today", lambda _: TODAY)
    for module in (audit, data, promotion, scoring, site):
        for opened, found in (("open_store", STORE), ("open_registry", REGISTRY)):
            monkeypatch.setattr(module, opened, lambda _, found=found: found, raising=False)
    monkeypatch.setattr("ctcd.training.runs.TrainingRuns", lambda *given: SimpleNamespace(reference=REFERENCES[given]))
    monkeypatch.setattr(training, "valid_snapshot", lambda _, day: {DAY: SNAPSHOT}[day])
    monkeypatch.setattr(training, "_threshold", lambda found: {INSTANCE.folder: THRESHOLD}[found.folder])
    reported = {"progress": PROGRESS} if "progress" in signature(stage).parameters else {}
    with pytest.raises(CtcdError, match="that is all"):
        stage(SETTINGS, **reported)
    [(_, given)] = calls
    assert given.pop("contract") == CONTRACT
    assert given.pop("settings", SETTINGS) is SETTINGS
    if reported:
        assert given.pop("progress") is PROGRESS
    if isinstance(given.get("drift"), partial):  # two of them are never equal
        given["drift"] = given["drift"].func, given["drift"].keywords
    assert given == expected


def test_a_migration_is_that_of_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schema first, and then what its contract needs and is missing, which is reported."""
    did: list[tuple[object, ...]] = []

    def restore(*given: object) -> tuple[str, ...]:
        did.append(("restore", *given))
        return ("labels",)

    monkeypatch.setattr("ctcd.store.migrations.upgrade", lambda *given: did.append(("upgrade", *given)))
    monkeypatch.setattr("ctcd.store.migrations.restore", restore)
    assert data.migrate(SETTINGS) == ("labels",)
    url = SETTINGS.store_url
    assert did == [("upgrade", url, INSTANCE.migrations), ("restore", url, CONTRACT)]


@pytest.mark.parametrize("dialect", ["mysql", "sqlite"])
def test_a_server_is_migrated_by_its_own_command_only(monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    """Whoever opens it does not change its tables under others, but says what to run; a file is brought up to date."""
    did: list[tuple[object, ...]] = []
    store = SimpleNamespace(dialect=SimpleNamespace(name=dialect))
    monkeypatch.setattr("ctcd.store.engine.connect", lambda _: store)
    monkeypatch.setattr("ctcd.store.migrations.pending", lambda *_: True)
    monkeypatch.setattr("ctcd.store.migrations.upgrade", lambda *given: did.append(given))
    if dialect == "mysql":
        with pytest.raises(NotFound, match=r"the schema is not up to date \(run: ctcd migrate\)"):
            connections.open_store(SETTINGS)
        assert did == []
    else:
        opened: object = connections.open_store(SETTINGS)
        assert opened is store
        assert did == [(SETTINGS.store_url, INSTANCE.migrations)]


def test_what_is_exported_is_loaded_into_bigquery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of this export, into the table of the settings, once it is known that it can load them."""
    settings = SETTINGS.model_copy(update={"bigquery": "project.data.log"})
    did: list[tuple[object, ...]] = []

    def does(name: str, answer: object) -> Callable[..., object]:
        def done(*given: object, **named: object) -> object:
            did.append((name, *given, *named.values()))
            return answer

        return done

    monkeypatch.setattr(scoring, "open_store", lambda _: STORE)
    monkeypatch.setattr("ctcd.store.bigquery.require_loadable", does("require", None))
    monkeypatch.setattr("ctcd.store.warehouse.export_log", lambda *_, **__: REPORT)
    monkeypatch.setattr("ctcd.store.bigquery.load_days", does("load", LOADED))
    found: object = scoring.export(settings, DAY, "gs://bucket/log", days=2, progress=cast("Any", PROGRESS))
    assert found is LOADED
    assert did == [
        ("require", CONTRACT, "gs://bucket/log"),
        ("load", CONTRACT, REPORT, "project.data.log", PROGRESS),
    ]


def test_manifests_name_one_version_and_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the champion, and the image that was released of the version; one that is given is taken."""
    versions = {each: SimpleNamespace(version=each, tags={IMAGE: f"image of {each}"}) for each in ("6", "7", "8")}
    registry = SimpleNamespace(
        champion=lambda: versions["6"], info=versions.__getitem__, versions=lambda: list(versions.values())[::-1]
    )
    monkeypatch.setattr(deployment, "open_registry", lambda _: registry)
    monkeypatch.setattr("ctcd.deployment.kubernetes.render", lambda *given: list(given))
    slug = CONTRACT.slug
    render: Callable[..., object] = deployment.render_manifests
    assert render(SETTINGS) == [SETTINGS, slug, "image of 6", "6"]
    assert render(SETTINGS, version="7") == [SETTINGS, slug, "image of 7", "7"]
    assert render(SETTINGS, image="another") == [SETTINGS, slug, "another", "6"]
    assert render(SETTINGS, image="another", version="7") == [SETTINGS, slug, "another", "7"]


class Scoring:
    """Stands in for a scorer of files and tables: says what it was made of, and what it is to score."""

    def __init__(self, *given: object, **named: object) -> None:
        self.made = (given, named)

    def score_file(self, *what: object) -> object:
        return ("file", what, self.made)

    score_files = score_file

    def score_table(self, *what: object) -> object:
        return ("table", what, self.made)

    def score_new(self, *what: object) -> object:
        return ("new", what, self.made)


@pytest.mark.parametrize("engine", ["process", "spark"])
@pytest.mark.parametrize("source", ["rows.parquet", CONTRACT.features_table])
def test_rows_are_scored_by_the_champion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, source: str
) -> None:
    """By either engine: with its model, in its name, in chunks of the setting, into the file that is asked for."""
    monkeypatch.chdir(tmp_path)
    Path("rows.parquet").touch()
    folder = Path("scorer of-6")
    registry = SimpleNamespace(**vars(REGISTRY), scorer_folder=lambda info, _: Path(f"scorer {info.run_id}"))
    model = SimpleNamespace(contract_version="of 6")
    for name, found in {"open_store": STORE, "open_registry": registry}.items():
        monkeypatch.setattr(scoring, name, lambda _, found=found: found)
    monkeypatch.setattr("ctcd.model.scorer.contract_version_of", {folder: "of 6"}.__getitem__)
    for name in ("files.BatchScorer", "spark.SparkScorer"):
        monkeypatch.setattr(f"ctcd.scoring.{name}", Scoring)
    monkeypatch.setattr("ctcd.scoring.spark.require_spark", lambda: None)
    progress: Any = PROGRESS
    named = {"chunk_rows": 123, "progress": PROGRESS}
    made: object = ((model, BY, CONTRACT), named)
    if engine == "spark":
        made = ((), {"model": folder, "instance": instance(SETTINGS), "origin": BY, **named})
        scored: Any = scoring.predict_new(SETTINGS, engine=engine, progress=progress)
        assert scored == ("new", (STORE,), made)
    for out in (None, Path("there.parquet")):
        into = out or Path(f"{source.partition('.')[0]}.predictions.{'parquet' if engine == 'spark' else 'csv'}")
        kind, what = ("file", (Path(source), into)) if source == "rows.parquet" else ("table", (STORE, source, into))
        scored = scoring.predict(SETTINGS, source, out, engine=engine, progress=progress)
        assert scored == (kind, what, made)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        *((name, "promotion.policy.Policy") for name in ("training", "gate", "performance")),
        *((name, "monitoring.tolerances.Drift") for name in ("monitor", "gate", "drift")),
    ],
)
def test_a_policy_that_does_not_fit_the_contract_is_not_used(
    monkeypatch: pytest.MonkeyPatch, name: str, policy: str
) -> None:
    """Nothing is read by it, and nothing written: its classes and limits may be those of another contract."""

    def refuse(_: object, contract: object) -> None:
        assert contract == CONTRACT
        raise UsageError("it does not fit")

    stage, path, _ = HANDED_ON[name]
    monkeypatch.setattr(f"ctcd.{path}", lambda *_, **__: pytest.fail("it was used"))
    monkeypatch.setattr(f"ctcd.{policy}.require_contract", refuse)
    for module in (data, promotion, scoring):
        for opened, found in (("open_store", STORE), ("open_registry", REGISTRY)):
            monkeypatch.setattr(module, opened, lambda _, found=found: found, raising=False)
    monkeypatch.setattr("ctcd.training.runs.TrainingRuns", lambda *given: SimpleNamespace(reference=REFERENCES[given]))
    with pytest.raises(UsageError, match="it does not fit"):
        stage(SETTINGS)


def test_a_contract_with_drafts_challenges_nobody_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """A challenger answers requests, too; nobody asks the registry about one."""
    drafted = replace(INSTANCE, contract=replace(CONTRACT, draft="roles and personal columns"))
    monkeypatch.setattr(connections, "instance", lambda _: drafted)
    monkeypatch.setattr(traffic, "open_registry", lambda _: pytest.fail("the registry was asked"))
    production = SETTINGS.model_copy(update={"environment": Environment.PRODUCTION})
    for kind in ("shadow", "canary", "route"):
        with pytest.raises(GateRefused, match="drafts in the contract: 1, the first: contract, roles"):
            traffic.start(production, "7", kind=kind)


def test_the_newest_decisions_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that was judged again is shown as it was judged last."""
    registry = SimpleNamespace(decisions=lambda version: [f"{version}, first", f"{version}, again"])
    monkeypatch.setattr(promotion, "open_registry", lambda _: registry)
    monkeypatch.setattr("ctcd.promotion.page.read_judged", str)
    monkeypatch.setattr("ctcd.promotion.page.compare", lambda *both: both)
    compared: Any = promotion.compare(SETTINGS, "7", "8")
    assert compared == ("7, again", "8, again")


def _named(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    found: Callable[..., Any] = getattr(__import__(module, fromlist=[name]), name)
    return found


@pytest.mark.parametrize("version", [None, "7"])
def test_the_image_that_is_given_is_probed_as_the_version_that_is_given(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """It runs for as long as its probes take, and its predictions reach no store."""
    ran: list[object] = []
    report = SmokeReport(url="", version="7", probes=1, problems=(), median_ms=None)

    @contextmanager
    def running(settings: Settings, image: str) -> Iterator[str]:
        ran.extend((settings.feature_store_url.get_secret_value(), image))
        yield "http://container"
        ran.append("removed")

    def probe(settings: Settings, **given: Any) -> SmokeReport:
        ran.append((settings is with_store, given))
        return report

    with_store = SETTINGS.model_copy(update={"feature_store_url": SecretStr("mysql+pymysql://u@db/x")})
    monkeypatch.setattr(local_container, "running_image", running)  # Docker is for tests/containers
    monkeypatch.setattr(deployment, "smoke", probe)
    assert deployment.smoke_image(with_store, "api:v7", version=version) is report
    assert ran == ["", "api:v7", (True, {"version": version, "url": "http://container"}), "removed"]

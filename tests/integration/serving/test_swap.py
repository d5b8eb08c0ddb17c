"""A running service follows the registry: promotion, rollback and refusal, under load."""

import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from itertools import count, islice
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from pydantic import SecretStr
from support.command import COMMAND
from support.instance import CONTRACT, INSTANCE, PAYLOAD
from support.load import load, wait
from support.marks import API_KEY, KEYS, METRICS_KEY, SECRETS, in_files
from support.network import free_port
from support.serving import EXAMPLE, INFO, logged, pinned, row_of, small_scorer

from ctcd.cli.app import run as command_line
from ctcd.contract.traffic import Experiment, Mode, TrafficPolicy, chosen, load_traffic
from ctcd.deployment import bento
from ctcd.model.probes import PROBES_FILE
from ctcd.model.pyfunc import log_model
from ctcd.model.scorer import SCORER_FILE, SELF_DIGEST, Scorer
from ctcd.monitoring.findings import list_findings
from ctcd.registry import tracking, traffic
from ctcd.registry.history import What
from ctcd.registry.versions import AGAINST, CHAMPION, GATE, NO_CHAMPION, PASSED, SCORER_FOLDER, Registry
from ctcd.serving.champion.poller import RegistryPoller
from ctcd.serving.champion.state import Champion
from ctcd.serving.launch import RunningService, running
from ctcd.settings import ModelSource, Settings
from ctcd.stages import audit
from ctcd.stages.connections import open_store
from ctcd.store.prediction_log import shadow_id
from ctcd.traffic.judging import Verdict

pytestmark = pytest.mark.integration


@dataclass
class Models:
    """A registry with four versions, of which the first is the champion, and the Bento of that one."""

    home: Path
    settings: Settings
    client: MlflowClient
    registry: Registry
    tag: str

    def add(self, scorer: Scorer) -> str:
        """Register a version, and return it."""
        run_id = self.client.create_run(tracking.experiment_id(self.client, CONTRACT, self.settings)).info.run_id
        log_model(self.client, scorer, CONTRACT, run_id=run_id)
        self.client.set_terminated(run_id)
        return self.registry.register(run_id)

    def with_traffic(self, text: str, home: Path) -> tuple[TrafficPolicy, Path]:
        """Give a home the Bento with a traffic policy; return it, and the Bento's folder of contracts."""
        shutil.copytree(self.home / "bentoml", home / "bentoml")
        [contracts] = (home / "bentoml").glob("bentos/*/*/src/contracts")
        (contracts / "traffic.toml").write_text(text)
        policy = load_traffic(contracts / "traffic.toml", CONTRACT)
        assert policy is not None
        return policy, contracts

    def passed(self, version: str, against: str) -> None:
        """Mark a version as the gate does."""
        self.client.set_model_version_tag(CONTRACT.name, version, GATE, PASSED)
        self.client.set_model_version_tag(CONTRACT.name, version, AGAINST, against)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Models:
    """Shared by the tests; a test restores what it changes."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_mlflow, home)
    settings = pinned(home, mlflow_tracking_uri=SecretStr(f"sqlite:///{home / 'mlflow.db'}")).model_copy(
        update={"model_source": ModelSource.REGISTRY}
    )
    client = tracking.connect(settings)
    registry = Registry(client, CONTRACT)
    made = Models(home, settings, client, registry, "")
    for iterations in (20, 30, 40, 50):
        made.add(small_scorer(iterations))
    made.passed("1", NO_CHAMPION)
    registry.promote("1")
    champion = registry.champion()
    folder = registry.scorer_folder(champion, home / "scorers")
    info = replace(INFO, version="1", run_id=champion.run_id, model_uri=champion.uri)
    made.tag = bento.build(info, folder, settings, INSTANCE).tag
    return made


def _broken(models: Models, version: str) -> None:
    """Change the probes of a version in MLflow's own files."""
    folder = models.registry.model_folder(version, models.home / "peek") / SCORER_FOLDER
    probes = json.loads((folder / PROBES_FILE).read_text())
    probes["probabilities"][0] = probes["probabilities"][0][::-1]
    [stored] = [
        path
        for path in models.settings.artifacts.rglob(PROBES_FILE)
        if path.parent.joinpath("scorer.json").read_text() == (folder / "scorer.json").read_text()
    ]
    stored.write_text(json.dumps(probes))


def info(url: str, headers: dict[str, str] | None = None) -> Any:
    return PAYLOAD.model_info.model_validate_json(httpx.get(f"{url}/model-info", headers=headers).content)


def test_promotion_rollback_and_refusal_cost_no_request(models: Models, store_url: str) -> None:
    """Under constant load every request is answered, each answer names its version, and each change is followed."""
    settings = models.settings.model_copy(
        update={"port": free_port(), "feature_store_url": SecretStr(store_url), "workers": 2}
    )
    with running(models.tag, settings) as service, load(service) as answers:
        wait(lambda: len(answers.ids) > 50 and info(service.url).looked_at != "")
        models.passed("2", "1")
        models.registry.promote("2")
        wait(lambda: "2" in answers.versions)
        models.registry.rollback()
        before = answers.versions["1"]
        wait(lambda: answers.versions["1"] > before + 20)
        _broken(models, "3")
        models.passed("3", "1")
        models.registry.promote("3")
        wait(lambda: all(info(service.url).refused is not None for _ in range(6)))  # of both workers
        refused = info(service.url).refused
        assert refused is not None
        assert (refused.version, "probes" in refused.reason, info(service.url).version) == ("3", True, "1")
        page = httpx.get(f"{service.url}/metrics").text
        assert 'ctcd_model_swaps_total{model="machine_condition",outcome="swapped"} 4.0' in page
        assert 'ctcd_model_swaps_total{model="machine_condition",outcome="refused"} 2.0' in page
        models.client.set_registered_model_alias(CONTRACT.name, CHAMPION, "1")
        wait(lambda: all(info(service.url).refused is None for _ in range(6)))
    assert "version 3 is refused, version 1 stays in service" in service.log.read_text()
    assert answers.statuses == {200}
    assert answers.broken == 0
    assert set(answers.versions) == {"1", "2"}
    rows = logged(store_url)
    assert {row["request_id"]: row["model_version"] for row in rows} == answers.ids
    _audit(settings.model_copy(update={"contracts": INSTANCE.folder}), models, rows)


def _audit(settings: Settings, models: Models, rows: list[dict[str, Any]]) -> None:
    """Every answer is computed again by its version, and every second and every change of the champion has its version."""
    assert {(row["served_by"], row["variant"]) for row in rows} == {(models.tag, "champion")}
    report = audit.replay(settings)
    assert (report.answers, report.equal, report.partial) == (len(rows), len(rows), 0)
    assert {(each.model_version, each.run_id) for each in report.versions} == {
        (version, models.registry.info(version).run_id) for version in ("1", "2")
    }
    reported: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        reported[row["created_at"].isoformat(timespec="seconds")].add(row["model_version"])
    history = audit.history(settings)
    for second, versions in reported.items():
        assert versions <= {each.model_version for each in history.answering if each.first <= second <= each.last}
    assert sum(each.answers for each in history.answering) == len(rows)
    assert [(each.what, each.version) for each in history.changes] == [
        ("promoted", "1"),
        ("promoted", "2"),
        ("rolled back to", "1"),
        ("promoted", "3"),
    ]
    [last] = audit.history(settings, at=rows[-1]["created_at"]).answering
    assert last.model_version == rows[-1]["model_version"]


def test_a_model_can_come_from_the_registry_alone(models: Models, tmp_path: Path, sqlite_url: str) -> None:
    """A service whose folder holds no model begins with the champion."""
    settings = models.settings.model_copy(
        update={"port": free_port(), "feature_store_url": SecretStr(sqlite_url), "scorer_folder": tmp_path}
    )
    for path in settings.champions.glob("*"):
        if path.is_file():
            path.unlink()
    with running(models.tag, settings) as service:
        assert httpx.post(f"{service.url}/predict", json={"data": EXAMPLE}).json()["model_version"] == "1"


def _unknown_feature(models: Models, version: str) -> None:
    """Let the description of a version name a feature that the trees do not know, in MLflow's own files.

    As in versions that were registered before descriptions had a digest: nothing but CatBoost notices.
    """
    folder = models.registry.model_folder(version, models.home / "peek") / SCORER_FOLDER
    text = (folder / SCORER_FILE).read_text()
    [stored] = [path for path in models.settings.artifacts.rglob(SCORER_FILE) if path.read_text() == text]
    description = json.loads(text.replace("drive-shaft", "drive-shfat"))
    del description[SELF_DIGEST]
    stored.write_text(json.dumps(description))


def _restarts(url: str, part: str) -> float:
    [line] = [
        line
        for line in httpx.get(f"{url}/metrics").text.splitlines()
        if line.startswith(f'ctcd_restarts_total{{model="machine_condition",part="{part}"}}')
    ]
    return float(line.split()[-1])


def test_content_that_nobody_expects_is_refused_while_running_and_at_the_start(
    models: Models, tmp_path: Path, sqlite_url: str
) -> None:
    """A library's own error refuses the version, says why, and ends nothing: the next good one is followed.

    A start while the registry names the broken one serves the champion that was served last.
    """
    (tmp_path / "bentoml").symlink_to(models.home / "bentoml")
    settings = models.settings.model_copy(
        update={"home": tmp_path, "port": free_port(), "feature_store_url": SecretStr(sqlite_url)}
    )
    _unknown_feature(models, "4")

    def champion(version: str) -> None:
        models.client.set_registered_model_alias(CONTRACT.name, CHAMPION, version)

    try:
        with running(models.tag, settings) as service:
            wait(lambda: info(service.url).looked_at != "")
            champion("4")
            wait(lambda: info(service.url).refused is not None)
            refused = info(service.url).refused
            assert refused is not None
            assert (refused.version, "CatBoostError" in refused.reason) == ("4", True)
            champion("2")
            wait(lambda: info(service.url).version == "2")
            assert info(service.url).refused is None
            champion("4")
            wait(lambda: info(service.url).refused is not None)
            assert info(service.url).version == "2"
            assert _restarts(service.url, "follower") == 0
        with running(models.tag, settings) as service:
            wait(lambda: info(service.url).refused is not None)
            assert info(service.url).version == "2"
            assert httpx.post(f"{service.url}/predict", json={"data": EXAMPLE}).json()["model_version"] == "2"
    finally:
        champion("1")


@contextmanager
def command(settings: Settings) -> Iterator[str]:
    """Run `ctcd serve`, and yield its URL when it is ready; no secret is in what it prints or writes."""
    output = settings.home / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [str(COMMAND), "serve"], env=settings.child_environment() | KEYS, stdout=file, stderr=subprocess.STDOUT
        )
    url = f"http://{settings.host}:{settings.port}"

    def ready() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait(ready, 300)  # it builds a Bento first
        yield url
    finally:
        process.terminate()
        process.wait(60)
    assert '"route":"/predict"' in output.read_text()
    assert in_files(SECRETS, settings.home) == []


@pytest.mark.parametrize(
    ("fault", "there"), [("away", "Bento"), ("deleted", "fetched champion"), ("no alias", "fetched champion")]
)
def test_a_service_starts_without_its_registry(
    models: Models, tmp_path: Path, sqlite_url: str, fault: str, there: str
) -> None:
    """Whether the registry refuses connections, is gone or names no champion, the last one known is served."""
    uris = {"away": f"http://127.0.0.1:{free_port()}", "deleted": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    settings = models.settings.model_copy(
        update={"home": tmp_path, "port": free_port(), "feature_store_url": SecretStr(sqlite_url)}
    )
    if there == "Bento":
        (tmp_path / "bentoml").symlink_to(models.home / "bentoml")
    else:
        registry = Registry(models.client, CONTRACT)
        RegistryPoller(open_registry=lambda: registry, home=settings.champions, seconds=1).poll(registry)
    if fault == "no alias":
        models.client.delete_registered_model_alias(CONTRACT.name, CHAMPION)
    else:
        settings = settings.model_copy(update={"mlflow_tracking_uri": SecretStr(uris[fault])})
    try:
        with command(settings) as url:
            key, metrics_key = ({"X-API-Key": secret} for secret in (API_KEY, METRICS_KEY))
            answer = httpx.post(f"{url}/predict", json={"data": EXAMPLE}, headers=key)
            assert answer.json()["model_version"] == "1"
            wait(lambda: info(url, key).registry_error != "")
            page = httpx.get(f"{url}/metrics", headers=metrics_key).text
            assert 'ctcd_registry_followed{model="machine_condition"} 0.0' in page
    finally:
        models.client.set_registered_model_alias(CONTRACT.name, CHAMPION, "1")


def test_the_poller_ends_when_its_parent_is_gone(models: Models, tmp_path: Path) -> None:
    """It fetches the champion, and notices that its standard input was closed."""
    settings = models.settings.model_copy(update={"home": tmp_path})
    command = [sys.executable, "-m", "ctcd.serving.champion.poller"]
    process = subprocess.Popen(command, env=settings.child_environment(), stdin=subprocess.PIPE)  # noqa: S603 - our own command
    try:
        wait(lambda: Champion.load(settings.champions).version == "1")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


TRAFFIC = """
default = "champion"

[shadow]
share = 1.0

[canary]
steps = [{ share = 0.25, min_answers = 1 }, { share = 0.5, min_answers = 1 }]

[[route]]
when = "machine > 30"
alias = "challenger"
"""
MACHINES = 40
SERVES = "serving version 1 of"
"""What a worker logs just before it answers."""


@dataclass(frozen=True)
class Told:
    """What a client was told about a machine, and when: seconds since 1970."""

    sent: float
    received: float
    machine: int
    version: str
    request_id: str


@dataclass
class Clients:
    """Clients that ask about machines in turn, one by one and in batches, until they are stopped."""

    url: str
    reported: list[Told] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    broken: int = 0
    """Requests without an answer: their worker was killed."""
    stop: Event = field(default_factory=Event)

    def run(self, first: int) -> None:
        place = urlsplit(self.url)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=60)
        for number in count(first):
            if self.stop.wait(0.005):
                break
            rows = [row_of(number + each) | {"machine": 1 + (number + each) % MACHINES} for each in range(3)]
            path, data = ("/predict_batch", rows) if number % 5 == 0 else ("/predict", rows[0])
            sent = time.time()
            try:
                connection.request("POST", path, json.dumps({"data": data}), {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, HTTPException):
                connection.close()
                self.broken += 1
                continue
            received = time.time()
            if response.status != 200:
                self.failed.append(response.status)
                continue
            for each in answer.get("predictions", [answer]):
                version = each.get("model_version", answer["model_version"])
                self.reported.append(Told(sent, received, each["machine"], version, each["request_id"]))
        connection.close()

    def during(self, begin: float, end: float) -> list[Told]:
        return [each for each in self.reported if begin <= each.sent and each.received < end]


@contextmanager
def asking(url: str) -> Iterator[Clients]:
    clients = Clients(url)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(clients.run, first) for first in (0, 13, 26)]
        try:
            yield clients
        finally:
            clients.stop.set()
        for each in asked:
            each.result()


def _workers(pid: int) -> list[psutil.Process]:
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if "_bentoml_impl.worker.service" in " ".join(each.cmdline()):
                found.append(each)
    return found


def _replaced(service: RunningService, known: str) -> list[tuple[float, float]]:
    """Kill a worker; return once the one in its place serves and says what it knows, with the time if that was later."""
    killed, moment, before = _workers(service.process.pid)[0], time.time(), len(service.log.read_text())
    killed.kill()

    def places() -> list[int]:
        return [service.log.read_text().find(each, before) for each in (known, SERVES)]

    wait(lambda: min(places()) >= 0, seconds=180)
    reported, serves = places()
    return [(moment, time.time())] if reported > serves else []


def test_each_kind_of_traffic_begins_changes_and_ends_under_load(
    models: Models, tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker is killed in each: nothing fails, is lost or logged twice, and each machine has one version in a step."""
    policy, _ = models.with_traffic(TRAFFIC, tmp_path)
    monkeypatch.setattr("ctcd.contract.traffic.LEAD_SECONDS", 4.0)
    settings = models.settings.model_copy(
        update={
            "home": tmp_path,
            "port": free_port(),
            "feature_store_url": SecretStr(store_url),
            "workers": 2,
            "follow_seconds": 0.5,
        }
    )
    steps: list[tuple[Experiment, float]] = []
    unsure: list[tuple[float, float]] = []
    """Times in which a new worker answered and did not know the step: the registry had not told it within ten seconds."""

    try:
        with running(models.tag, settings) as service, asking(service.url) as clients:

            def begin(mode: Mode, *, step: int = 1) -> float:
                """Begin a part of the experiment; return when all workers answer by it.

                That is when it takes effect, or when the last of both workers says that it knows of it: on a busy machine
                that can be later, and until then a machine may have either version.
                """
                made = policy.experiment(mode, "2", step=step, running=steps[-1][0] if steps else None)
                steps.append((made, time.time()))  # when the kind before it may end
                traffic.write(models.client, CONTRACT.name, made)
                known = f"from {made.effective} on"
                # In the shadow the shipping processes say it, too.
                wait(lambda: service.log.read_text().count(known) >= 2, seconds=180)
                return max(made.begins.timestamp(), time.time())

            def asked_since(moment: float, rows: int = 150) -> None:
                wait(lambda: len(clients.during(moment, float("inf"))) > rows)

            def kill_one() -> None:
                unsure.extend(_replaced(service, f"from {steps[-1][0].effective} on"))
                asked_since(time.time())

            asked_since(0)
            asked_since(begin(Mode.SHADOW))
            # A shadow has idle priority: on a busy machine it takes its time.
            wait(lambda: any(row["variant"] == "shadow" for row in logged(store_url)), seconds=180)
            kill_one()
            first = begin(Mode.CANARY)
            asked_since(first)
            kill_one()
            second = begin(Mode.CANARY, step=2)
            asked_since(second)
            route = begin(Mode.ROUTE)
            asked_since(route)
            kill_one()
            ended = time.time()
            traffic.clear(models.client, CONTRACT.name)
            wait(lambda: all(info(service.url).challenger is None for _ in range(6)))  # of both workers
            over = time.time()
            asked_since(over)
    finally:
        traffic.clear(models.client, CONTRACT.name)
    salt = steps[0][0].id
    assert {each.id for each, _ in steps} == {salt}

    def expected(machine: int, share: float) -> str:
        return "2" if chosen(salt, machine, share) else "1"

    # The challenger was late; see `PATIENCE`: the machine is busy. Each machine has other answers, which is checked below.
    late = {row["request_id"] for row in logged(store_url) if row["variant"] == "fallback"}
    parts = {
        "before": (0.0, steps[1][0].begins.timestamp(), dict.fromkeys(range(1, MACHINES + 1), "1")),
        "a quarter": (
            first,
            steps[2][0].begins.timestamp(),
            {machine: expected(machine, 0.25) for machine in range(1, MACHINES + 1)},
        ),
        "half": (second, steps[3][1], {machine: expected(machine, 0.5) for machine in range(1, MACHINES + 1)}),
        "routed": (route, ended, {machine: "2" if machine > 30 else "1" for machine in range(1, MACHINES + 1)}),
        "after": (over, float("inf"), dict.fromkeys(range(1, MACHINES + 1), "1")),
    }
    for name, (begins, ends, versions) in parts.items():
        reported = [
            each
            for each in clients.during(begins, ends)
            if each.request_id not in late and not any(each.sent < end and each.received > at for at, end in unsure)
        ]
        assert len({each.machine for each in reported}) == MACHINES, name
        assert [each for each in reported if each.version != versions[each.machine]] == [], name
    _assert_logged(clients, store_url)


def _assert_logged(clients: Clients, store_url: str) -> None:
    """All that was told is logged once, with who said it; and a shadow only beside an answer of the champion."""
    assert clients.failed == []
    assert clients.broken <= 3 * 3  # of three clients, when each of three workers was killed
    rows = {row["request_id"]: row for row in logged(store_url)}
    assert len(rows) == len(logged(store_url))
    given = {request_id: row for request_id, row in rows.items() if row["variant"] != "shadow"}
    told_of = {each.request_id: each.version for each in clients.reported}
    assert {request_id: given[request_id]["model_version"] for request_id in told_of} == told_of
    assert len(given) - len(told_of) <= 3 * clients.broken
    for row in given.values():
        assert row["variant"] in {"1": ("champion", "fallback"), "2": ("challenger",)}[row["model_version"]]
    shadows = {request_id: row for request_id, row in rows.items() if row["variant"] == "shadow"}
    assert shadows
    assert set(shadows) <= {shadow_id(request_id) for request_id, row in given.items() if row["variant"] == "champion"}
    assert {row["model_version"] for row in shadows.values()} == {"2"}


LIMITS = """
[canary]
steps = [{ share = 0.5, min_answers = 100 }]

[limits]
false_withdrawals = 0.1
max_errors = 0.05
max_slowdown = 10.0
max_class_change = 0.4
max_disagreement = 0.5
max_accuracy_drop = 0.25
min_hours = 0.0
wait_for_labels = false
promote = false
"""
"""Limits that some hundred requests can be sure to keep."""


def test_a_challenger_is_judged_by_what_a_service_logged(
    models: Models, tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One with wrong answers is withdrawn, on record, and the champion answers all again; a good one is recommended."""
    # Of this test's own: others have rolled back or damaged those that all share.
    bad, good = models.add(small_scorer(one_sided=True)), models.add(small_scorer(20))
    policy, contracts = models.with_traffic(LIMITS, tmp_path)
    settings = models.settings.model_copy(
        update={"home": tmp_path, "port": free_port(), "feature_store_url": SecretStr(store_url), "follow_seconds": 0.5}
    )
    of_commands = {
        "CTCD_HOME": tmp_path,
        "CTCD_CONTRACTS": contracts,
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "FEATURE_STORE_URL": store_url,
    }
    for name, value in of_commands.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("ctcd.contract.traffic.LEAD_SECONDS", 0.0)
    machines = count(1)

    def versions(url: str) -> set[str]:
        """Return who answers twenty machines that have not asked before."""
        rows = [row_of(number) | {"machine": number} for number in islice(machines, 20)]
        answer = httpx.post(f"{url}/predict_batch", json={"data": rows}, timeout=30).raise_for_status().json()
        return {each.get("model_version", answer["model_version"]) for each in answer["predictions"]}

    def judged(url: str, version: str) -> Any:
        """Start a version, and ask until there is a verdict; return what the command says then."""
        models.passed(version, "1")
        models.registry.challenge(policy.experiment(Mode.CANARY, version), reason="the spring model")
        wait(lambda: version in versions(url), seconds=60)
        while True:
            for _ in range(10):
                versions(url)
            assert command_line(["traffic", "judge", "--json"]) == 0
            report = json.loads(capsys.readouterr().out)
            if report["verdict"] != Verdict.CONTINUE:
                return report

    try:
        with running(models.tag, settings) as service:
            report = judged(service.url, bad)
            assert (report["verdict"], report["done"]) == (Verdict.WITHDRAW, "withdrawn")
            wait(lambda: info(service.url).challenger is None)
            assert versions(service.url) == {"1"}
            change = models.registry.changes()[-1]
            assert (change.what, change.version) == (What.CHALLENGE_LOST, bad)
            assert "share of class" in change.why
            [finding] = list_findings(open_store(settings), CONTRACT)
            assert finding.subject.startswith(f"version {bad}, ")
            report = judged(service.url, good)
            assert (report["verdict"], report["done"]) == (Verdict.PROMOTE, "")
            assert models.registry.champion().version == "1"
    finally:
        traffic.clear(models.client, CONTRACT.name)

"""docker/compose.yaml, the rules for it, and Prometheus' alerts; no Docker is needed."""

import json
import os
import re
import runpy
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from support.alerts import CASES, alerts
from support.compose import broken_rules
from support.grafana import dashboard, misfits
from support.instance import CONTRACT, INSTANCE
from support.metrics import DASHBOARDS, GROUPED, SELECTOR, exported, metrics_page, queries, unknown

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()
PROMETHEUS = ROOT / "docker" / "prometheus"
MAKE_ENV = ROOT / "scripts" / "make-env.sh"
OF_THE_INSTANCE = {"IMAGE_PREFIX", "LATENCY_LIMIT_SECONDS"}
"""Variables that scripts/compose.sh sets from the instance."""


def compose_variables(folder: Path, **environment: str) -> dict[str, str]:
    """Return the variables that scripts/compose.sh gives Docker for the tests' instance."""
    (folder / "docker").write_text("#!/bin/sh\nenv\n")
    (folder / "docker").chmod(0o755)
    done = subprocess.run(  # noqa: S603 - the repository's own script
        [ROOT / "scripts" / "compose.sh", "config"],
        env={
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "CTCD_CONTRACTS": str(INSTANCE.folder),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_the_stack_keeps_the_rules() -> None:
    """No service of the stack breaks a rule."""
    assert broken_rules(COMPOSE) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"127.0.0.1:${MARIADB_PORT:-3306}:3306"', '"${MARIADB_PORT:-3306}:3306"', "mariadb: port"),
        ('"127.0.0.1:${API_PORT:-3000}:3000"', '"0.0.0.0:3000:3000"', "api: port 0.0.0.0:3000:3000 is open"),
        ("  read_only: true\n  cap_drop: [ALL]\n  security_opt: [\"no-new-privileges:true\"]\n  restart: unless", "  restart: unless", "api: its root"),
        ("    tmpfs: [/tmp, /run/mysqld]\n", "    read_only: false\n", "mariadb: its root can be written to"),
        ("    profiles: [console]\n", "    cap_drop: [NET_RAW]\n", "adminer: it keeps capabilities"),
        ("    profiles: [console]\n", "    security_opt: []\n", "adminer: it may gain privileges"),
        ("    profiles: [console]\n", "    privileged: true\n", "adminer: it is privileged"),
        ("    profiles: [console]\n", '    user: "0"\n', "adminer: it is privileged"),
        ("    profiles: [console]\n", "    pids_limit: 0\n", "adminer: it may start any number"),
        ("    profiles: [console]\n", "    network_mode: host\n", "adminer: it leaves"),
        ("    x-reasons:\n      cap_add: its entry point starts as root, gives the data folder to the user mysql and becomes that user\n", "", "mariadb: it gets capabilities"),
        ("${ADMINER_IMAGE:-adminer:5.4.1}", "adminer", "adminer: image 'adminer' has no version"),
        ("${ADMINER_IMAGE:-adminer:5.4.1}", "adminer:latest", "adminer: image 'adminer:latest' has no version"),
        ("MARIADB_PASSWORD: ${FEATURE_STORE_PASSWORD:?run make up}", "MARIADB_PASSWORD: mlops", "mariadb: MARIADB_PASSWORD does"),
        ("METRICS_KEY: ${METRICS_KEY:?run make up}", "METRICS_KEY: ${METRICS_KEY:-metrics}", "prometheus: METRICS_KEY does"),
        ("postgresql+psycopg2://mlflow:${MLFLOW_DB_PASSWORD:?run make up}@", "postgresql+psycopg2://mlflow:mlflow@", "mlflow: MLFLOW_BACKEND_STORE_URI holds"),
        ("- --serve-artifacts\n", "- --backend-store-uri=postgresql://mlflow:mlflow@postgres/mlflow\n", "mlflow: a password is in"),
        ('    healthcheck: {test: [CMD, healthcheck, "http://127.0.0.1:5000/health"], interval: 5s, timeout: 5s, retries: 60}\n', "", "mlflow: it has no health check"),
        ("depends_on: {databases: {condition: service_completed_successfully}}\n    healthcheck", "depends_on: [databases]\n    healthcheck", "mlflow: it does not wait"),
        ("depends_on: {api: {condition: service_healthy}}", "depends_on: {api: {condition: service_started}}", "prometheus: it does not wait"),
        ('volumes: ["mlflow:/var/lib/ctcd"]', 'volumes: ["/var/run/docker.sock:/var/run/docker.sock"]', "mlflow: volume /var/run/docker.sock"),
        ("./prometheus:/etc/prometheus:ro", "./prometheus:/etc/prometheus", "prometheus: volume ./prometheus"),
    ],
)  # fmt: skip
def test_each_rule_is_noticed_when_it_is_broken(old: str, new: str, problem: str) -> None:
    """One change breaks one rule; the problem names the service."""
    assert COMPOSE.count(old) == 1
    assert problem in "; ".join(broken_rules(COMPOSE.replace(old, new)))


def test_every_password_is_random_and_private(tmp_path: Path) -> None:
    """`.env` holds every password of the stack, is readable by its owner only, and keeps its values when run again."""
    file = tmp_path / ".env"
    subprocess.run([str(MAKE_ENV), str(file)], check=True)  # noqa: S603 - the repository's own script
    made = file.read_text()
    values = dict(line.split("=", 1) for line in made.splitlines())
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    assert asked - OF_THE_INSTANCE == set(values)
    assert len(set(values.values())) == len(values)
    assert min(len(value) for value in values.values()) >= 44
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    subprocess.run([str(MAKE_ENV), str(file)], check=True)  # noqa: S603 - the repository's own script
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (made, 0o600)


def test_a_last_line_without_an_end_keeps_its_value(tmp_path: Path) -> None:
    """As an editor may leave it: what is added begins a line of its own; a link stays one."""
    file = tmp_path / "folder of others" / "passwords"
    file.parent.mkdir()
    file.write_text("API_KEY=of others")
    (tmp_path / ".env").symlink_to(file)
    subprocess.run([str(MAKE_ENV), str(tmp_path / ".env")], check=True)  # noqa: S603 - the repository's own script
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert values["API_KEY"] == "of others"
    assert set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE)) - OF_THE_INSTANCE == set(values)


def test_a_full_disk_leaves_no_part_of_a_password(tmp_path: Path) -> None:
    """Of a password that was cut short, the beginning would be kept by the next run: the file stays as it was."""
    file = tmp_path / ".env"
    before = f"# {'x' * 500}\n"
    file.write_text(before)
    # Files may have 1,024 bytes, and what is beyond them cannot be written.
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 1; exec "$0" "$1"', str(MAKE_ENV), str(file)]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)  # noqa: S603 - the repository's own script
    assert done.returncode == 1
    assert "write error" in done.stderr
    assert (file.read_text(), list(tmp_path.iterdir())) == (before, [file])


def test_two_runs_at_once_lose_no_password(tmp_path: Path) -> None:
    """While one run writes, another refuses: both would write the same new file, and its half would replace `.env`."""
    file, new = tmp_path / ".env", tmp_path / ".env.new"
    file.write_text("API_KEY=of others")
    new.write_text("API_KEY=of oth")
    done = subprocess.run([str(MAKE_ENV), str(file)], capture_output=True, text=True, check=False)  # noqa: S603 - the repository's own script
    assert (done.returncode, file.read_text(), new.read_text()) == (1, "API_KEY=of others", "API_KEY=of oth")
    assert f"another run is at work; if there is none, delete {new}" in done.stderr


def test_passwords_for_a_folder_that_does_not_exist_are_refused(tmp_path: Path) -> None:
    """Such as of a misspelt ENV_FILE: the error names it."""
    file = tmp_path / "folder" / ".env"
    done = subprocess.run([str(MAKE_ENV), str(file)], capture_output=True, text=True, check=False)  # noqa: S603 - the repository's own script
    assert (done.returncode, done.stderr) == (1, f"error: {file}: its folder does not exist\n")


def test_the_passwords_stay_out_of_git_and_of_images() -> None:
    """Neither a commit nor a build context can hold `.env`, or the new one that a killed run leaves."""
    assert {".env", ".env.new"} <= set((ROOT / ".gitignore").read_text().splitlines())
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith("!.env") for line in ignored)


def test_every_alert_uses_metrics_that_the_service_exports() -> None:
    """An alert on a metric or a label that does not exist would never fire."""
    known = exported(metrics_page())
    assert {name: missing for name, rule in alerts().items() if (missing := unknown(rule["expr"], known))} == {}
    assert all(SELECTOR.search(rule["expr"]) for rule in alerts().values())


@pytest.mark.slow
def test_every_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    """`make alerts` has Prometheus' own tool run both; the quiet series are of the metrics that the alert reads."""
    assert set(CASES) == set(alerts())
    known = exported(metrics_page())
    for name, case in CASES.items():
        read = {metric for metric, _ in SELECTOR.findall(alerts()[name]["expr"])}
        for series in (case.fires, case.quiet):
            assert {metric for each in series for metric, _ in SELECTOR.findall(each)} == read, name
            assert [missing for each in series if (missing := unknown(each, known))] == [], name
        assert case.after > case.before >= 0


def test_every_panel_shows_metrics_that_the_service_exports() -> None:
    """A panel of a metric that is gone would be empty, and its legend has no label that the query drops."""
    known = exported(metrics_page())
    assert {place: missing for place, query in queries() if (missing := unknown(query, known))} == {}
    for place, query in queries():
        grouped = {label for by in GROUPED.findall(query) for label in by.split(", ")}
        labels = set(re.findall(r"\{\{(\w+)\}\}", place))
        assert labels, place
        assert labels <= (grouped or {"instance"}), place


def test_every_metric_is_on_a_dashboard() -> None:
    """What the service counts can be seen."""
    shown = {metric for _, query in queries() for metric, _ in SELECTOR.findall(query)}
    families = {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in exported(metrics_page())}
    assert families == {re.sub("_(total|bucket|sum|count)$", "", name) for name in shown}


def test_the_dashboards_are_those_that_the_script_writes(tmp_path: Path) -> None:
    """`make dashboards` changes nothing, Grafana's own models read each, and none has a panel on another or a query twice."""
    runpy.run_path(str(ROOT / "scripts" / "dashboards.py"))["main"](tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in DASHBOARDS.iterdir()}
    for text in written.values():
        document = Dashboard.from_json(json.loads(text))
        assert list(misfits(dashboard(json.loads(text)))) == []
        assert json.loads(json.dumps(document, cls=JSONEncoder)) == json.loads(text)
        places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in json.loads(text)["panels"]]
        assert len(set(places)) == len(places)
        asked = [each["expr"] for panel in json.loads(text)["panels"] for each in panel["targets"]]
        assert len(set(asked)) == len(asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profiles", "executor"),
    [("celery", "CeleryExecutor"), ("console,celery", "CeleryExecutor"), ("console", ""), ("", "")],
)
def test_the_executor_follows_the_profiles(profiles: str, executor: str, tmp_path: Path) -> None:
    """With Airflow's workers the scheduler gives them its tasks; without, it runs them itself."""
    assert compose_variables(tmp_path, PROFILES=profiles).get("AIRFLOW_EXECUTOR", "") == executor
    service = yaml.safe_load(COMPOSE)["services"]["airflow-scheduler"]["environment"]
    assert service["AIRFLOW__CORE__EXECUTOR"] == "${AIRFLOW_EXECUTOR:-LocalExecutor}"


@pytest.mark.parametrize(
    ("keys", "value", "place"),
    [
        (("graphTooltip",), 7, "dashboard.graph_tooltip"),
        (("time", "from"), 3, "dashboard.time"),
        (("panels", 0, "gridPos", "x"), "0", "dashboard.panels[0].grid_pos.x"),
        (("panels", 1, "targets", 0, "expr"), 3, "dashboard.panels[1]"),
        (("panels", 1, "options", "legend", "calcs"), [True], "dashboard.panels[1]"),
    ],
)
def test_a_value_of_another_type_than_in_the_schema_is_named(
    keys: tuple[str | int, ...], value: object, place: str
) -> None:
    """Also one in a query and in the options of a panel, which have types of their own."""
    document = json.loads((DASHBOARDS / "service.json").read_text())
    *path, last = keys
    part = document
    for key in path:
        part = part[key]
    part[last] = value
    [found] = misfits(dashboard(document))
    assert found.startswith(place)


def test_grafana_finds_its_dashboards_and_its_source() -> None:
    """Where they are mounted, and under the name that they ask for."""
    service = yaml.safe_load(COMPOSE)["services"]["grafana"]
    [mounted] = [each for each in service["volumes"] if each.startswith("./grafana:")]
    inside = mounted.split(":")[1]
    provisioning = ROOT / "docker" / "grafana" / "provisioning"
    [provider] = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text())["providers"]
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    environment = service["environment"]
    assert environment["GF_PATHS_PROVISIONING"] == f"{inside}/provisioning"
    assert provider["options"]["path"] == f"{inside}/dashboards"
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].removeprefix(f"{inside}/dashboards/")
    assert (DASHBOARDS / home).is_file()
    used = {each["datasource"]["uid"] for each in json.loads((DASHBOARDS / home).read_text())["panels"]}
    assert used == {source["uid"]}


def test_prometheus_reports_to_the_alertmanager_of_the_stack() -> None:
    """Under the name and at the port of its service."""
    document = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [reported] = document["alerting"]["alertmanagers"]
    [target] = reported["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert yaml.safe_load(COMPOSE)["services"][name]["ports"][0].endswith(f":{port}")


def test_every_alert_is_of_one_model_and_names_it() -> None:
    """With several services in one Prometheus no alert mixes two models, and each says which one it is about."""
    for name, rule in alerts().items():
        of = "instance" if name == "ApiDown" else "model"  # a service that is down tells no model
        assert f"$labels.{of} " in rule["annotations"]["summary"]
        sums = re.findall(r"\b(?:sum|max|min)\b(?: by \(([^)]*)\))?", rule["expr"])
        assert all("model" in by.split(", ") for by in sums)
        assert sums or of == "instance"


def test_an_unknown_metric_in_an_alert_is_reported() -> None:
    """A renamed metric is reported, also if only its suffix is missing, and so is a label that it does not have."""
    known = exported(metrics_page())
    for expression, missing in {
        "sum(rate(ctcd_requests[5m])) > 0": {"ctcd_requests"},
        'sum by (model) (ctcd_requests_total{code="500"})': {"ctcd_requests_total{code}"},
        "sum by (version) (rate(ctcd_predictions_total[5m]))": {"version"},
        'sum by (model) (rate(ctcd_requests_total{status=~"5.."}[5m])) / on (model) up{job="api"}': set(),
    }.items():
        assert unknown(expression, known) == missing


@pytest.mark.slow
def test_the_stack_follows_the_instance(tmp_path: Path) -> None:
    """Project, images and the limit of the latency alert are those of the instance that CTCD_CONTRACTS names."""
    variables = compose_variables(tmp_path)
    assert variables["COMPOSE_PROJECT_NAME"] == variables["IMAGE_PREFIX"] == CONTRACT.slug
    limits = tomllib.loads(INSTANCE.service_levels.read_text())["shapes"]["reference"]["limits"]
    assert float(variables["LATENCY_LIMIT_SECONDS"]) == limits["p99_ms"] / 1000


def test_the_latency_alert_has_the_limit_of_the_service_levels() -> None:
    """The rule holds a placeholder that Prometheus' start in the stack replaces."""
    assert re.findall(r'route="/predict"}\[5m\]\)\)\) > (.*)', (PROMETHEUS / "rules.yml").read_text()) == [
        "LATENCY_LIMIT_SECONDS"
    ]
    service = yaml.safe_load(COMPOSE)["services"]["prometheus"]
    assert "s/LATENCY_LIMIT_SECONDS/$$LATENCY_LIMIT_SECONDS/" in service["entrypoint"][-1]
    assert "LATENCY_LIMIT_SECONDS" in service["environment"]
    rules = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["rule_files"]
    assert f"/etc/prometheus/rules.yml >{rules[0]}" in service["entrypoint"][-1]


def test_every_alert_has_a_severity_and_a_summary() -> None:
    """The severity is one that alerts are routed by; the summary is a sentence."""
    for rule in alerts().values():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    """The link of each alert is a heading of docs/runbook.md, which begins with its severity, and no other alert is there."""
    links = {rule["annotations"]["runbook_url"] for rule in alerts().values()}
    assert links == {f"RUNBOOK_URL#{name.lower()}" for name in alerts()}
    section = (ROOT / "docs" / "runbook.md").read_text().partition("\n## Alerts\n")[2]
    says = dict(re.findall(r"^### (\w+)\n\n(Page|Ticket)\. ", section, re.MULTILINE))
    assert {line.removeprefix("### ") for line in section.splitlines() if line.startswith("#")} == set(alerts())
    assert says == {name: rule["labels"]["severity"].capitalize() for name, rule in alerts().items()}


def test_the_link_to_the_runbook_is_filled_in() -> None:
    """Prometheus reads rules in which the placeholder is the setting's value."""
    service = yaml.safe_load(COMPOSE)["services"]["prometheus"]
    assert "s|RUNBOOK_URL|$$RUNBOOK_URL|" in service["entrypoint"][-1]
    assert service["environment"]["RUNBOOK_URL"].endswith("docs/runbook.md}")

"""docker/compose.yaml, the rules for it, and Prometheus' alerts; no Docker is needed."""

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.compose import broken_rules
from support.instance import CONTRACT, INSTANCE

from ctcd.serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()
PROMETHEUS = ROOT / "docker" / "prometheus"
MAKE_ENV = ROOT / "scripts" / "make-env.sh"
OF_THE_INSTANCE = {"IMAGE_PREFIX", "LATENCY_LIMIT_SECONDS"}
"""Variables that scripts/compose.sh sets from the instance."""
METRIC = re.compile(r"\bctcd_[a-z0-9_]+\b")


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


def test_the_passwords_stay_out_of_git_and_of_images() -> None:
    """Neither a commit nor a build context can hold `.env`."""
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith("!.env") for line in ignored)


def alerts() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def exported() -> set[str]:
    """Return the names of all time series of a service that has answered a request."""
    metrics = Metrics()
    metrics.request("/predict", 200, 0.01)
    metrics.predicted(CONTRACT.classes[0], "1")
    lines = metrics.page(CONTRACT.name).decode().splitlines()
    return {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")}


def unknown_metrics(expression: str) -> set[str]:
    """Return the metrics of ctcd that an expression names and the service does not export."""
    return set(METRIC.findall(expression)) - exported()


def test_every_alert_uses_metrics_that_the_service_exports() -> None:
    """An alert on a metric that does not exist would never fire."""
    found = {name: unknown_metrics(rule["expr"]) for name, rule in alerts().items()}
    assert {name: unknown for name, unknown in found.items() if unknown} == {}
    assert all(METRIC.search(rule["expr"]) or "up{" in rule["expr"] for rule in alerts().values())


def test_every_alert_is_of_one_model_and_names_it() -> None:
    """With several services in one Prometheus no alert mixes two models, and each says which one it is about."""
    for name, rule in alerts().items():
        of = "instance" if name == "ApiDown" else "model"  # a service that is down tells no model
        assert f"$labels.{of} " in rule["annotations"]["summary"]
        sums = re.findall(r"\b(?:sum|max|min)\b(?: by \(([^)]*)\))?", rule["expr"])
        assert all("model" in by.split(", ") for by in sums)
        assert sums or of == "instance"


def test_an_unknown_metric_in_an_alert_is_reported() -> None:
    """A renamed metric is reported, also if only its suffix is missing."""
    assert unknown_metrics("sum(rate(ctcd_requests[5m])) > 0") == {"ctcd_requests"}


def test_the_stack_follows_the_instance(tmp_path: Path) -> None:
    """Project, images and the limit of the latency alert are those of the instance that CTCD_CONTRACTS names."""
    (tmp_path / "docker").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(  # noqa: S603 - the repository's own script
        [ROOT / "scripts" / "compose.sh", "config"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CTCD_CONTRACTS": str(INSTANCE.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert variables["COMPOSE_PROJECT_NAME"] == variables["IMAGE_PREFIX"] == CONTRACT.slug
    limits = tomllib.loads(INSTANCE.service_levels.read_text())["shapes"]["reference"]["limits"]
    assert float(variables["LATENCY_LIMIT_SECONDS"]) == limits["p99_ms"] / 1000


def test_the_latency_alert_has_the_limit_of_the_service_levels() -> None:
    """The rule holds a placeholder that Prometheus' start in the stack replaces."""
    assert alerts()["ApiSlow"]["expr"].rpartition("> ")[2] == "LATENCY_LIMIT_SECONDS"
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

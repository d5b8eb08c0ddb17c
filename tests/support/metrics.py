"""The metrics of a service, and what expressions of alerts and dashboards take from them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.instance import CONTRACT

from ctcd.serving.metrics import Metrics

DASHBOARDS = Path(__file__).parents[2] / "docker" / "grafana" / "dashboards"
OF_PROMETHEUS = {"up": {"instance", "job"}, "ALERTS": {"alertname", "alertstate", "model", "severity"}}
"""Series that Prometheus makes itself, with their labels."""
SELECTOR = re.compile(r"\b(ctcd_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER, GROUPED = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"'), re.compile(r"\b(?:by|on) \(([^)]*)\)")

Exported = Mapping[str, set[str]]
"""Labels of each series by its name."""


def metrics_page() -> str:
    """Return the metrics of a service that has answered a request."""
    metrics = Metrics()
    metrics.request("/predict", 200, 0.01)
    metrics.predicted(CONTRACT.classes[0], "1", "champion")
    return metrics.page(CONTRACT.name).decode()


def exported(page: str) -> Exported:
    """Return the series of a page of metrics, and those that Prometheus makes of a scrape."""
    found: dict[str, set[str]] = {**OF_PROMETHEUS}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, {"instance", "job"}).update(sample.labels)
    return found


def unknown(expression: str, known: Exported) -> set[str]:
    """Return the metrics that an expression names and that are not exported, and labels that none of its metrics has."""
    selected = SELECTOR.findall(re.sub(r'"[^"]*"', '""', expression))
    missing = {name for name, _ in selected if name not in known}
    for name, matchers in selected:
        missing |= {f"{name}{{{label}}}" for label in MATCHER.findall(matchers) if label not in known.get(name, ())}
    labels = {label for name, _ in selected for label in known.get(name, ())}
    grouped = {label.strip() for by in GROUPED.findall(expression) for label in by.split(",")}
    return missing | (grouped - labels)


def queries() -> Iterator[tuple[str, str]]:
    """Yield every query of a committed dashboard after the place where it stands: the dashboard, its panel, its legend."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}: {target['legendFormat']}", target["expr"]


def as_read(query: str) -> str:
    """Return a query as Prometheus gets it, once Grafana has filled in its variables."""
    return query.replace("$__rate_interval", "5m").replace("$model", ".*")

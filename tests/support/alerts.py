"""Series on which each alert fires, and on which it does not, and the files of promtool's unit tests that are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker" / "prometheus" / "rules.yml"
LIMIT_SECONDS = "0.05"
"""Stands for the limit of the instance's service levels."""
FIRING, QUIET = "wine", "beer"
"""Models in one Prometheus: the alert fires for the first, and the second goes on as it should."""
MINUTE = "1m"
Series = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an alert sees, a value a minute in promtool's notation; each series gets the labels of a scraped service.

    Args:
        fires: series on which it fires.
        quiet: series on which it does not: what looks like them, and is none of its business, or just keeps its limit.
        after: minutes after which it fires, and `before` minutes after which it does not yet.
        labels: labels of the alert besides `model`, `severity` and those of its name.
    """

    fires: Series
    quiet: Series
    after: int
    before: int = 0
    labels: Mapping[str, str] | None = None


def _requests(route: str, status: int) -> str:
    return f'ctcd_requests_total{{route="{route}",status="{status}"}}'


def _bucket(route: str, limit: str) -> str:
    return f'ctcd_request_seconds_bucket{{route="{route}",le="{limit}"}}'


def _latencies(route: str, fast: int) -> dict[str, str]:
    """A hundred requests a minute, of which so many take at most 10 ms, and the others up to 100 ms."""
    return {
        _bucket(route, "0.01"): f"0+{fast}x40",
        _bucket(route, "0.1"): "0+100x40",
        _bucket(route, "+Inf"): "0+100x40",
    }


def _predictions(often: int) -> Series:
    """A hundred predictions a minute, of which so many are of one class."""
    made = 'ctcd_predictions_total{{prediction="{}",model_version="1"}}'
    return {made.format("good"): f"0+{often}x150", made.format("bad"): f"0+{100 - often}x150"}


def _by_variant(**minutely: int) -> Series:
    """So many predictions a minute of each variant."""
    made = 'ctcd_predictions_total{{prediction="good",model_version="1",variant="{}"}}'
    return {made.format(variant): f"0+{often}x30" for variant, often in minutely.items()}


CASES: dict[str, Case] = {
    "ApiDown": Case(fires={'up{job="api"}': "1x3 0x9"}, quiet={'up{job="api"}': "1x12"}, before=4, after=6),
    "ApiFails": Case(
        fires={_requests("/predict", 200): "0+98x30", _requests("/predict", 503): "0+2x30"},
        quiet={
            _requests("/predict", 200): "0+995x30", _requests("/predict", 500): "0+5x30",
            _requests("/predict", 422): "0+500x30",  # what the client did wrong
        },
        before=4, after=12,
    ),
    "ApiSlow": Case(
        fires=_latencies("/predict", 90),
        quiet=_latencies("/predict", 100) | _latencies("/predict_batch", 0),
        before=9, after=20,
    ),
    "PartsRestart": Case(
        fires={'ctcd_restarts_total{part="shipper"}': "0x5 1x20"},
        quiet={'ctcd_restarts_total{part="shipper"}': "3x25"},
        before=4, after=8, labels={"part": "shipper"},
    ),
    "ConnectionsRefused": Case(
        fires={_requests("other", 503): "0x5 4x20"},
        quiet={_requests("other", 404): "0+9x25", _requests("/predict", 503): "0+9x25", _requests("other", 503): "4x25"},
        before=4, after=8,
    ),
    "RequestsWait": Case(
        fires={"ctcd_requests_age_seconds": "0x5 301x20"}, quiet={"ctcd_requests_age_seconds": "300x25"}, before=4, after=8,
    ),
    "PredictionsWait": Case(
        fires={"ctcd_outbox_age_seconds": "0x5 301x20"}, quiet={"ctcd_outbox_age_seconds": "300x25"}, before=4, after=8,
    ),
    "OutboxFillsUp": Case(
        fires={"ctcd_outbox_records": "0x5 80001x20"}, quiet={"ctcd_outbox_records": "80000x25"}, before=4, after=8,
    ),
    "PredictionsDeadLettered": Case(
        fires={"ctcd_outbox_dead_letters": "0x5 1x20"}, quiet={"ctcd_outbox_dead_letters": "0x25"}, before=4, after=8,
    ),
    "OutboxFileMovedAside": Case(
        fires={"ctcd_outbox_files_moved_aside": "0x5 1x20"}, quiet={"ctcd_outbox_files_moved_aside": "0x25"}, before=4, after=8,
    ),
    "StoreFails": Case(
        fires={"ctcd_outbox_failures_total": "0+1x40"},
        quiet={"ctcd_outbox_failures_total": "0x5 9x35"},  # one outage, which has passed
        before=14, after=25,
    ),
    "ChampionRefused": Case(
        fires={'ctcd_model_swaps_total{outcome="refused"}': "0x5 1x20"},
        quiet={'ctcd_model_swaps_total{outcome="swapped"}': "0+1x25", 'ctcd_model_swaps_total{outcome="refused"}': "2x25"},
        before=4, after=8,
    ),
    "ChallengerRefused": Case(
        fires={'ctcd_challenger_swaps_total{outcome="refused"}': "0x5 1x20"},
        quiet={
            'ctcd_challenger_swaps_total{outcome="swapped"}': "0+1x25",
            'ctcd_challenger_swaps_total{outcome="refused"}': "2x25",
        },
        before=4, after=8,
    ),
    "ChallengerFails": Case(
        fires=_by_variant(challenger=98, fallback=2),
        quiet=_by_variant(champion=900, challenger=995, fallback=5),
        before=4, after=12,
    ),
    "RegistryUnreachable": Case(
        fires={"ctcd_registry_followed": "1x5 0x40"}, quiet={"ctcd_registry_followed": "0x10 1x35"}, before=19, after=25,
    ),
    "OneClassOnly": Case(fires=_predictions(96), quiet=_predictions(94), before=59, after=130),
}  # fmt: skip


def rules() -> dict[str, Any]:
    """Return the rules as Prometheus reads them in the stack, where its start fills in the instance's latency limit."""
    document: dict[str, Any] = yaml.safe_load(RULES.read_text().replace("LATENCY_LIMIT_SECONDS", LIMIT_SECONDS))
    return document


def alerts() -> dict[str, dict[str, Any]]:
    """Return every rule by the name of its alert."""
    return {rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"]}


def unit_tests(file: str) -> dict[str, Any]:
    """Return promtool's unit tests of the rules in a file.

    Of each alert one in which it fires, for one model of two, and one in which it does not.
    """
    tests = []
    for name, case in CASES.items():
        silent = {**_scraped(case.quiet, QUIET)}
        expected = {"exp_labels": _labels(name, case), "exp_annotations": _annotations(name)}
        tests += [
            _test(f"{name} fires", _scraped(case.fires, FIRING) | silent, [
                {"alertname": name, "eval_time": f"{case.before}m", "exp_alerts": []},
                {"alertname": name, "eval_time": f"{case.after}m", "exp_alerts": [expected]},
            ]),
            _test(f"{name} does not fire", silent, [
                {"alertname": name, "eval_time": f"{minutes}m", "exp_alerts": []}
                for minutes in range(case.after + 1)
            ]),
        ]  # fmt: skip
    return {"rule_files": [file], "evaluation_interval": MINUTE, "tests": tests}


def _test(name: str, series: Series, alert_rule_test: list[dict[str, Any]]) -> dict[str, Any]:
    given = [{"series": each, "values": values} for each, values in series.items()]
    return {"name": name, "interval": MINUTE, "input_series": given, "alert_rule_test": alert_rule_test}


def _scraped(series: Series, model: str) -> dict[str, str]:
    """Return series with the labels that the service of a model and the scrape give them."""
    found = {}
    for each, values in series.items():
        name, _, rest = each.partition("{")
        given = [rest.removesuffix("}")] if rest else []
        # `up` is Prometheus' own: a service that is down says nothing about its model.
        given += [f'model="{model}"'] if name.startswith("ctcd_") else []
        given += [f'instance="{model}:3000"', *([] if 'job="' in rest else ['job="api"'])]
        found[f"{name}{{{','.join(given)}}}"] = values
    return found


def _labels(name: str, case: Case) -> dict[str, str]:
    of = {"instance": f"{FIRING}:3000", "job": "api"} if name == "ApiDown" else {"model": FIRING}
    return {**of, **(case.labels or {}), "severity": alerts()[name]["labels"]["severity"]}


def _annotations(name: str) -> dict[str, str]:
    written = alerts()[name]["annotations"]
    shown = written["summary"].replace("{{ $labels.model }}", FIRING)
    return {**written, "summary": shown.replace("{{ $labels.instance }}", f"{FIRING}:3000")}

"""Writes the dashboards of Grafana as JSON, by default into docker/grafana/dashboards: python scripts/dashboards.py [FOLDER].

They belong to no model: the variable `model` offers those whose services Prometheus reads.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

FOLDER = Path(__file__).parents[1] / "docker" / "grafana" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
"""The data source of docker/grafana/provisioning."""


class Panel(NamedTuple):
    """A graph.

    Args:
        says: what a reader sees in it.
        unit: Grafana's name of the unit.
        queries: expressions by the text of their legend.
        lowest: lower end of the axis; None: that of the values.
    """

    title: str
    says: str
    unit: str
    queries: dict[str, str]
    lowest: float | None = 0


VERSION, CLASS = "{{model}} version {{model_version}}", "{{model}} {{prediction}}"
UP = Panel("Up", "1 as long as Prometheus can read the service.", "short", {"{{instance}}": 'up{job="api"}'})
RESTARTS = Panel(
    "Restarts of parts",
    "Threads and child processes that ended and were started again.",
    "short",
    {"{{model}} {{part}}": 'sum by (model, part) (increase(ctcd_restarts_total{model=~"$model"}[$__rate_interval]))'},
)
BY_VERSION = Panel(
    "Predictions by version",
    "Which version answers: a swap or a roll-out shows as one colour that takes over from another.",
    "reqps",
    {VERSION: 'sum by (model, model_version) (rate(ctcd_predictions_total{model=~"$model"}[$__rate_interval]))'},
)

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "service": (
        "Service",
        [
            UP,
            Panel(
                "Firing alerts", "Each leads to its section of the runbook.", "short",
                {"{{alertname}} {{model}}": 'sum by (alertname, model, severity) (ALERTS{alertstate="firing"})'},
            ),
            Panel(
                "Requests", "By status.", "reqps",
                {"{{model}} {{status}}": 'sum by (model, status) (rate(ctcd_requests_total{model=~"$model"}[$__rate_interval]))'},
            ),
            Panel(
                "Failed share", "Share of requests with a 5xx; the alert ApiFails fires above 1 %.", "percentunit",
                {
                    "{{model}}": 'sum by (model) (rate(ctcd_requests_total{model=~"$model", status=~"5.."}[$__rate_interval]))'
                    ' / sum by (model) (rate(ctcd_requests_total{model=~"$model"}[$__rate_interval]))'
                },
            ),
            Panel(
                "Duration of /predict", "Half, 95 % and 99 % of the answers took at most as long.", "s",
                {
                    f"{{{{model}}}} p{share * 100:.0f}": f"histogram_quantile({share}, sum by (model, le) "
                    '(rate(ctcd_request_seconds_bucket{model=~"$model", route="/predict"}[$__rate_interval])))'
                    for share in (0.5, 0.95, 0.99)
                },
            ),
            Panel(
                "Rows scored together", "Mean; it grows with the load.", "short",
                {
                    "{{model}}": 'sum by (model) (rate(ctcd_batch_rows_sum{model=~"$model"}[$__rate_interval]))'
                    ' / sum by (model) (rate(ctcd_batch_rows_count{model=~"$model"}[$__rate_interval]))'
                },
            ),
            Panel(
                "Cache", "Rows looked up, by outcome, and times that it failed; empty without a cache.", "reqps",
                {
                    "{{model}} {{outcome}}": 'sum by (model, outcome) (rate(ctcd_cache_rows_total{model=~"$model"}[$__rate_interval]))',
                    "{{model}} failed": 'sum by (model) (rate(ctcd_cache_failures_total{model=~"$model"}[$__rate_interval]))',
                },
            ),
            Panel(
                "Open connections", "Of all workers.", "short",
                {"{{model}}": 'sum by (model) (ctcd_connections{model=~"$model"})'},
            ),
            Panel(
                "Asynchronous requests that wait", "They have no answer yet.", "short",
                {"{{model}}": 'max by (model) (ctcd_requests_waiting{model=~"$model"})'},
            ),
            Panel(
                "Age of the oldest asynchronous request", "How long it has waited; the alert RequestsWait fires above five minutes.",
                "s", {"{{model}}": 'max by (model) (ctcd_requests_age_seconds{model=~"$model"})'},
            ),
            RESTARTS,
        ],
    ),
    "prediction-log": (
        "Prediction log",
        [
            Panel(
                "Predictions that wait", "On disk, not in the store yet; the service refuses requests at its limit.", "short",
                {"{{model}}": 'sum by (model) (ctcd_outbox_records{model=~"$model"})'},
            ),
            Panel(
                "Age of the oldest", "How long the store has not accepted it; 0 if it accepts all.", "s",
                {"{{model}}": 'max by (model) (ctcd_outbox_age_seconds{model=~"$model"})'},
            ),
            Panel(
                "Made and shipped", "Both are the same as long as the store keeps up.", "reqps",
                {
                    "{{model}} made": 'sum by (model) (rate(ctcd_predictions_total{model=~"$model"}[$__rate_interval]))',
                    "{{model}} shipped": 'sum by (model) (rate(ctcd_outbox_shipped_total{model=~"$model"}[$__rate_interval]))',
                },
            ),
            Panel(
                "Failed attempts", "Batches that the store did not accept.", "short",
                {"{{model}}": 'sum by (model) (increase(ctcd_outbox_failures_total{model=~"$model"}[$__rate_interval]))'},
            ),
            Panel(
                "Dead letters", "Predictions that the store refuses, and records that cannot be read.", "short",
                {"{{model}}": 'sum by (model) (ctcd_outbox_dead_letters{model=~"$model"})'},
            ),
            Panel(
                "Files moved aside", "Files that could not be used as outboxes.", "short",
                {"{{model}}": 'max by (model) (ctcd_outbox_files_moved_aside{model=~"$model"})'},
            ),
        ],
    ),
    "model-and-data": (
        "Model and data",
        [
            Panel(
                "Share of each class", "Of the predictions of an hour.", "percentunit",
                {
                    CLASS: 'sum by (model, prediction) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                    ' / on (model) group_left () sum by (model) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                },
            ),
            Panel(
                "Change of the shares in a week", "Percentage points, against the same hour a week ago.", "percentunit",
                {
                    CLASS: 'sum by (model, prediction) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                    ' / on (model) group_left () sum by (model) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                    ' - sum by (model, prediction) (rate(ctcd_predictions_total{model=~"$model"}[1h] offset 1w))'
                    ' / on (model) group_left () sum by (model) (rate(ctcd_predictions_total{model=~"$model"}[1h] offset 1w))'
                },
                lowest=None,
            ),
            BY_VERSION,
            Panel(
                "Refused requests", "Share with a 422: rows that break the contract, or bodies that are none.", "percentunit",
                {
                    "{{model}}": 'sum by (model) (rate(ctcd_requests_total{model=~"$model", status="422"}[$__rate_interval]))'
                    ' / sum by (model) (rate(ctcd_requests_total{model=~"$model"}[$__rate_interval]))'
                },
            ),
        ],
    ),
    "traffic": (
        "Traffic of a challenger",
        [
            Panel(
                "Predictions by variant", "Who answers; a fallback is an answer of the champion for a challenger that failed.", "reqps",
                {"{{model}} {{variant}}": 'sum by (model, variant) (rate(ctcd_predictions_total{model=~"$model"}[$__rate_interval]))'},
            ),
            Panel(
                "Failed share of the challenger", "Share of its requests; the alert ChallengerFails fires above 1 %.", "percentunit",
                {
                    "{{model}}": 'sum by (model) (rate(ctcd_predictions_total{model=~"$model", variant="fallback"}[$__rate_interval]))'
                    ' / sum by (model) (rate(ctcd_predictions_total{model=~"$model", variant=~"challenger|fallback"}[$__rate_interval]))'
                },
            ),
            Panel(
                "Duration of /predict by variant", "Half and 99 % of the requests took at most as long.", "s",
                {
                    f"{{{{model}}}} {{{{variant}}}} p{share * 100:.0f}": f"histogram_quantile({share}, sum by (model, variant, le) "
                    '(rate(ctcd_request_seconds_bucket{model=~"$model", route="/predict", variant!=""}[$__rate_interval])))'
                    for share in (0.5, 0.99)
                },
            ),
            Panel(
                "Share of each class by variant", "Of the predictions of an hour; `ctcd traffic status` has the intervals.", "percentunit",
                {
                    "{{model}} {{variant}} {{prediction}}":
                    'sum by (model, variant, prediction) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                    ' / on (model, variant) group_left () sum by (model, variant) (rate(ctcd_predictions_total{model=~"$model"}[1h]))'
                },
            ),
            Panel(
                "Rows of the shadow", "By outcome; dropped ones were left out so that no client waits.", "reqps",
                {"{{model}} {{outcome}}": 'sum by (model, outcome) (rate(ctcd_shadow_rows_total{model=~"$model"}[$__rate_interval]))'},
            ),
            Panel(
                "Challengers", "New ones, by what became of them; and changes that a worker made too late.", "short",
                {
                    "{{model}} late": 'sum by (model) (increase(ctcd_challenger_late_changes_total{model=~"$model"}[$__rate_interval]))',
                    "{{model}} {{outcome}}": "sum by (model, outcome) "
                    '(increase(ctcd_challenger_swaps_total{model=~"$model"}[$__rate_interval]))'
                },
            ),
        ],
    ),
    "deployments": (
        "Deployments and swaps",
        [
            BY_VERSION,
            Panel(
                "Swaps of the model", "New champions, by what became of them.", "short",
                {
                    "{{model}} {{outcome}}": "sum by (model, outcome) "
                    '(increase(ctcd_model_swaps_total{model=~"$model"}[$__rate_interval]))'
                },
            ),
            Panel(
                "Registry followed", "1 if the registry answered the last time, 0 if it did not or is not followed.", "short",
                {"{{model}}": 'min by (model) (ctcd_registry_followed{model=~"$model"})'},
            ),
            UP,
            RESTARTS,
        ],
    ),
}  # fmt: skip
"""Title and panels of each dashboard, by the name of its file."""


def build(name: str) -> str:
    """Return a dashboard as JSON."""
    title, panels = DASHBOARDS[name]
    model = (
        dashboard.QueryVariable("model")
        .label("Model")
        .datasource(SOURCE)
        .query("label_values(ctcd_connections, model)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
    )
    made = dashboard.Dashboard(title).uid(f"ctcd-{name}").tags(["ctcd"]).readonly().refresh("30s").time("now-6h", "now")
    made.with_variable(model)
    legends = common.VizLegendOptions().show_legend(True)
    legends.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltips = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    for number, panel in enumerate(panels, 1):
        graph = timeseries.Panel().id(number).title(panel.title).description(panel.says).unit(panel.unit)
        graph.datasource(SOURCE).height(8).span(12).legend(legends).tooltip(tooltips)
        if panel.lowest is not None:
            graph.min(panel.lowest)
        for letter, (legend, expression) in zip("ABC", panel.queries.items(), strict=False):
            graph.with_target(prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend))
        made.with_panel(graph)
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main(folder: Path) -> None:
    """Write each dashboard into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (folder / f"{name}.json").write_text(build(name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

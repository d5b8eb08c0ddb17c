"""### Traffic.

Judges the challenger by the requests since the current step of its experiment began (`ctcd traffic start` starts one), and
acts on the result: withdraws it, starts the next step, or promotes it, if `contracts/traffic.toml` says so and the gate has
passed it against the champion. Without an experiment, it does nothing. A run can be repeated at any time: the intervals are
valid at every look.

| task | what it does |
|---|---|
| `judge` | judges and acts; its return value has all numbers and intervals, and the verdict with its reason |
| `is_promoted` | logs the verdict with its reason, and continues if there is a new champion |
| `promoted` | triggers the deployment, by the asset `<name>_champion` |

A withdrawn challenger becomes a finding, which is posted to the webhook.

The schedule is the setting `CTCD_TRAFFIC_CRON` of the DAG processor: every 15 minutes by default.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, task

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.defaults import CHAMPION, DAGS, NAME, ZONE
from ctcd.airflow.notices import findings, notice
from ctcd.airflow.pools import PROMOTION_POOL
from ctcd.airflow.stage import StageOperator

logger = logging.getLogger(__name__)

with DAG(
    f"{NAME}_traffic",
    schedule=CronTriggerTimetable(dag_settings().traffic_cron, timezone=str(ZONE)),
    description=f"The challenger by its requests; at {dag_settings().traffic_cron} in {ZONE}",
    dagrun_timeout=timedelta(hours=1),
    doc_md=__doc__,
    tags=[NAME, "monitoring"],
    **DAGS,
) as dag:
    judge = StageOperator(
        task_id="judge",
        command=["traffic", "judge"],
        pool=PROMOTION_POOL,
        on_success_callback=notice("findings raised", lambda context: findings(context, new=True)),
    )

    @task.short_circuit
    def is_promoted(report: dict[str, Any]) -> bool:
        """Continue only if the challenger is the champion now, and show the verdict."""
        logger.info("%s: %s", report["done"] or report["verdict"] or "nothing to judge", report["why"])
        return bool(report["done"] == "promoted")

    @task(outlets=[CHAMPION])
    def promoted(report: dict[str, Any], *, outlet_events: Any) -> None:
        """Say that there is a new champion."""
        outlet_events[CHAMPION].extra = {"version": report["experiment"]["version"], "why": report["why"]}

    is_promoted(judge.output) >> promoted(judge.output)  # type: ignore[arg-type, call-arg] # Airflow passes on both

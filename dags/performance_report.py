"""### Performance and drift.

`daily` and `weekly` join the prediction log with the labels that have arrived since, and store accuracy, macro F1 and the
confusion matrix of each model version in a table of the feature store: for each of the 31 days, and each of the 5 whole weeks,
before the run's base date. A prediction is compared with the first label of its group dated from the day of the prediction to
31 days later; so the row of a day is rewritten, and becomes more complete, as labels arrive.

`drift_daily` and `drift_weekly` compare the day, and the whole week, before the base date with what the models were trained on,
and store how far each column has moved. The numbers are in the log and in the return value of each task. A run can be repeated
and backfilled: it replaces the rows of its days.

`report` writes what is known, also of earlier days, as a site of pages into the folder of reports.

`export` copies the prediction log to the warehouse, if `CTCD_WAREHOUSE` names one, and from there into BigQuery, if
`CTCD_BIGQUERY` names a table. `retain` deletes the log's oldest months once `due` and `export` are done, if
`CTCD_LOG_KEEP_MONTHS` says how many are kept.

What they find becomes a finding, and a new one is posted to the webhook. `due` says whether findings ask for a
training; if so, `start_training` starts continuous training by the asset `<name>_finding`. That is off until
`CTCD_TRAIN_ON_FINDINGS` is set.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Context, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowSkipException

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.dates import BASE_DT, BASE_DT_PARAM
from ctcd.airflow.defaults import DAGS, FINDING, NAME, ZONE
from ctcd.airflow.notices import findings, notice
from ctcd.airflow.stage import StageOperator

logger = logging.getLogger(__name__)


def finding_event(report: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the extra of the asset event of findings that ask for a training.

    Raises:
        AirflowSkipException: another monitor has started one in the meantime.
    """
    del context
    if not report["due"]:
        raise AirflowSkipException(f"not due any more: {report['why']}")
    return {"findings": [each["id"] for each in report["findings"]], "why": report["why"]}


with DAG(
    f"{NAME}_performance_report",
    schedule=CronTriggerTimetable(dag_settings().report_cron, timezone=str(ZONE)),
    description=f"Predictions against the labels that arrived since, and drift; at {dag_settings().report_cron} in {ZONE}",
    params=BASE_DT_PARAM,
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "monitoring"],
    **DAGS,
) as dag:
    due = StageOperator(task_id="due", command=["findings", "due"])
    for command, prefix in (("performance", ""), ("drift", "drift_")):
        for period in ("daily", "weekly"):
            monitor = StageOperator(
                task_id=f"{prefix}{period}",
                command=[command],
                arguments=["--base-dt", BASE_DT, "--period", period],
                on_success_callback=notice("findings raised", lambda context: findings(context, new=True)),
            )
            monitor >> due

    @task.short_circuit
    def is_due(report: dict[str, Any]) -> bool:
        """Continue only if findings ask for a training, and show why or why not."""
        logger.info("%s", report["why"])
        return bool(report["due"])

    start = StageOperator(
        task_id="start_training",
        command=["findings", "due", "--started"],
        outlets=[FINDING],
        asset_event=finding_event,
        on_success_callback=notice("training started", lambda context: findings(context, new=False)),
    )
    is_due(due.output) >> start  # type: ignore[arg-type] # Airflow passes on the future output
    due >> StageOperator(task_id="report", command=["report"])
    readers = [due]  # of the log, before its oldest months are deleted
    if dag_settings().warehouse:
        readers.append(StageOperator(task_id="export", command=["export"], arguments=["--base-dt", BASE_DT]))
    if dag_settings().log_keep_months:
        readers >> StageOperator(task_id="retain", command=["retain"])

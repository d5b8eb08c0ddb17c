"""### Performance report.

Joins the prediction log with the labels that have arrived since, and stores accuracy, macro F1 and the confusion matrix of each
model version in a table of the feature store: for each of the 31 days, and each of the 5 whole weeks, before the run's base
date. A prediction is compared with the first label of its group dated from the day of the prediction to 31 days later; so the
row of a day is rewritten, and becomes more complete, as labels arrive.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.dates import BASE_DT, BASE_DT_PARAM
from ctcd.airflow.defaults import DAGS, NAME, ZONE
from ctcd.airflow.stage import StageOperator

with DAG(
    f"{NAME}_performance_report",
    schedule=CronTriggerTimetable(dag_settings().report_cron, timezone=str(ZONE)),
    description=f"Predictions against the labels that arrived since; at {dag_settings().report_cron} in {ZONE}",
    params=BASE_DT_PARAM,
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "monitoring"],
    **DAGS,
) as dag:
    for period in ("daily", "weekly"):
        StageOperator(task_id=period, command=["performance"], arguments=["--base-dt", BASE_DT, "--period", period])

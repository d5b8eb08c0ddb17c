"""### Performance report.

Joins the prediction log with the labels that arrived since, and keeps accuracy, macro F1 and the confusion matrix of each model
version in a table of the store: for each of the 31 days, and each of the 5 whole weeks, before the day of the run. A label
counts for a prediction if it is the group's first one dated from that day to 31 days after it; so a day's row is written
again, and gets fuller, as labels come in.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.dates import BASE_DT
from ctcd.airflow.defaults import DAGS, NAME, ZONE
from ctcd.airflow.stage import StageOperator

with DAG(
    f"{NAME}_performance_report",
    schedule=CronTriggerTimetable(dag_settings().report_cron, timezone=str(ZONE)),
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "monitoring"],
    **DAGS,
) as dag:
    for period in ("daily", "weekly"):
        StageOperator(task_id=period, command=["performance"], arguments=["--base-dt", BASE_DT, "--period", period])

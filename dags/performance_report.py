"""### Performance and drift.

`daily` and `weekly` join the prediction log with the labels that have arrived since, and store accuracy, macro F1 and the confusion matrix of each
model version in a table of the feature store: for each of the 31 days, and each of the 5 whole weeks, before the run's base
date. A prediction is compared with the first label of its group dated from the day of the prediction to 31 days later; so the
row of a day is rewritten, and becomes more complete, as labels arrive.

`drift_daily` and `drift_weekly` compare the day, and the whole week, before the base date with what the models were trained on,
and store how far each column has moved. The numbers are in the log and in the return value of each task. A run can be repeated
and backfilled: it replaces the rows of its days.

`report` then writes all of it as a site of pages, into the folder of reports.
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
    description=f"Predictions against the labels that arrived since, and drift; at {dag_settings().report_cron} in {ZONE}",
    params=BASE_DT_PARAM,
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "monitoring"],
    **DAGS,
) as dag:
    for period in ("daily", "weekly"):
        arguments = ["--base-dt", BASE_DT, "--period", period]
        StageOperator(task_id=period, command=["performance"], arguments=arguments)
        StageOperator(task_id=f"drift_{period}", command=["drift"], arguments=arguments)
    measured = list(dag.tasks)
    measured >> StageOperator(task_id="report", command=["report"])

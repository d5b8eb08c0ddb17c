"""### Batch scoring.

Scores the newest features of each group of the contract that the champion has not scored yet, in chunks, into a table of the
feature store. A run that follows a killed one continues with what is missing. Without a champion there is nothing to do.

The schedule is the setting `CTCD_BATCH_CRON` of the DAG processor: every 30 minutes by default.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.defaults import DAGS, NAME, ZONE
from ctcd.airflow.stage import StageOperator

with DAG(
    f"{NAME}_batch_scoring",
    schedule=CronTriggerTimetable(dag_settings().batch_cron, timezone=str(ZONE)),
    description=f"The newest features that the champion has not scored yet; at {dag_settings().batch_cron} in {ZONE}",
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "scoring"],
    **DAGS,
) as dag:
    StageOperator(task_id="score", command=["predict", "--new"])

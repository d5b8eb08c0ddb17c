"""### Batch scoring.

Scores, in chunks and into a table of the store, the newest features of each group that the champion has not scored yet. Run
again, or killed and run again, it goes on with what is missing. Without a champion it has nothing to do.

How often is the setting `CTCD_BATCH_CRON` of the DAG processor, every 30 minutes by default.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.defaults import DAGS, NAME, ZONE
from ctcd.airflow.stage import StageOperator

with DAG(
    f"{NAME}_batch_scoring",
    schedule=CronTriggerTimetable(dag_settings().batch_cron, timezone=str(ZONE)),
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=[NAME, "scoring"],
    **DAGS,
) as dag:
    StageOperator(task_id="score", command=["predict", "--new"])

"""### Batch scoring.

Scores, in chunks and into a table of the store, the newest features of each customer that the champion has not scored yet. Run
again, or killed and run again, it goes on with what is missing. Without a champion it has nothing to do.

How often is the setting `CREDIT_SCORE_BATCH_CRON` of the DAG processor, every 30 minutes by default.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from credit_score.airflow.defaults import DAGS, ZONE
from credit_score.airflow.plan import plan
from credit_score.airflow.stage import StageOperator

with DAG(
    "credit_score_batch_scoring",
    schedule=CronTriggerTimetable(plan().batch_cron, timezone=str(ZONE)),
    dagrun_timeout=timedelta(hours=4),
    doc_md=__doc__,
    tags=["credit-score", "scoring"],
    **DAGS,
) as dag:
    StageOperator(task_id="score", verb=["score"])

"""### Continuous deployment.

Runs whenever there is a new champion (asset `<name>_champion`), and by hand.

| task | what it does |
|---|---|
| `check` | compares the version that the service has with the champion; deploys if it is another one, or if no service answers |
| `deploy` | builds the champion's Bento and replaces what is deployed; if it does not become ready, the old one is restored |
| `smoke` | sends probes through the API and compares the answers with those of the model itself |
| `is_broken` | continues if `deploy` or `smoke` failed |
| `rollback` | rolls the champion back and deploys the one before it |
| `failed` | fails the run with the reason |
| `up_to_date` | there was nothing to deploy, or there is no champion yet |

The commands run on the worker, whatever the stage runner is: the champion is deployed to a process of the worker's machine.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from ctcd.airflow.defaults import CHAMPION, DAGS, NAME
from ctcd.airflow.pools import PROMOTION_POOL
from ctcd.airflow.stage import ERROR, StageOperator

logger = logging.getLogger(__name__)


def broken(ti: Any) -> str:
    """Return why the deployment failed: the error message of the failed task."""
    errors = ti.xcom_pull(task_ids=["smoke", "deploy"], key=ERROR)
    return next((str(error) for error in errors or () if error), "the deployment failed")


with DAG(
    f"{NAME}_classification_cd",
    schedule=[CHAMPION],
    description="Deployment of the champion, with probes, and rollback if it is broken; for each new champion",
    dagrun_timeout=timedelta(hours=1),
    doc_md=__doc__,
    tags=[NAME, "deployment"],
    **DAGS | {"user_defined_macros": DAGS["user_defined_macros"] | {"broken": broken}},
) as dag:
    check = StageOperator(task_id="check", command=["deploy", "--check"], on_worker=True)

    @task.branch
    def decide(plan: dict[str, Any]) -> str:
        """Choose the path."""
        return "deploy" if plan["action"] == "deploy" else "up_to_date"

    @task
    def up_to_date(plan: dict[str, Any]) -> str:
        """Show why nothing is deployed."""
        logger.info("%s", plan["reason"])
        return str(plan["reason"])

    deploy = StageOperator(
        task_id="deploy",
        command=["deploy", "--no-probe"],
        arguments=["--reason", "DAG run {{ run_id }}"],
        pool=PROMOTION_POOL,
        on_worker=True,
    )
    smoke = StageOperator(task_id="smoke", command=["smoke"], pool=PROMOTION_POOL, on_worker=True)

    @task.short_circuit(trigger_rule=TriggerRule.ALL_DONE)
    def is_broken() -> bool:
        """Continue only if the deployment failed; not if there was none, or if a task before it failed."""
        context = get_current_context()
        run = context["dag_run"]
        states = context["ti"].get_task_states(dag_id=run.dag_id, task_ids=["deploy", "smoke"], run_ids=[run.run_id])
        return "failed" in states[run.run_id].values()

    rollback = StageOperator(
        task_id="rollback",
        command=["rollback", "--target", "process"],
        arguments=["--failed", "{{ ti.xcom_pull(task_ids='check')['champion'] }}", "--reason", "{{ broken(ti) }}"],
        pool=PROMOTION_POOL,
        on_worker=True,
    )

    @task
    def failed(moved: dict[str, Any]) -> None:
        """Fail with the reason.

        Raises:
            AirflowFailException: always.
        """
        now = f"version {moved['champion']} is back" if moved["champion"] else "nothing is deployed"
        raise AirflowFailException(f"version {moved['rolled_back']}: {moved['reason']}; {now}")

    choice = decide(check.output)  # type: ignore[arg-type] # Airflow passes on the future output
    choice >> deploy >> smoke
    choice >> up_to_date(check.output)  # type: ignore[arg-type] # as above
    [deploy, smoke] >> is_broken() >> rollback
    failed(rollback.output)  # type: ignore[arg-type] # as above

"""### Continuous training.

Takes the training snapshot of a day, checks it against the contract, trains, and applies the promotion gate. It runs on its
schedule, and when findings ask for a training (asset `<name>_finding`), which they do only if `CTCD_TRAIN_ON_FINDINGS` is set.

| task | what it does | fails if |
|---|---|---|
| `extract` | takes the snapshot, in one transaction | there are no rows for the day |
| `validate`, `monitor` | check it against the contract, and against the last accepted snapshot | a rule is broken |
| `prepare` | splits by group, fits the preprocessing | there is too little data |
| `trial` | fits one set of parameters; one mapped task for each set of the profile | |
| `finish` | selects the best trial, evaluates it on the holdout, logs it to MLflow | |
| `gate` | compares it with the champion | |
| `promote` | makes it the champion, which triggers the deployment | |
| `not_promoted` | shows the reasons; a refused model does not fail the run | |

**Base date**: the parameter `base_dt`, else the day of the run's logical date, else the day of its `run_after`.

**Profile**: the parameter `profile`, else the variable `model_version`, which is no version of a model but names a
profile of the instance's `training.toml`; its values `v1` for `baseline` and `v2` (the default) for `fast` are kept for
Airflows that have set it.

A run in which the gate refuses the model succeeds too: `not_promoted` has run and `promote` is skipped. The log of `gate` has
every rule.
"""

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import DAG, AssetOrTimeSchedule, Context, CronTriggerTimetable, Param, TaskGroup, task

from ctcd.airflow.dag_settings import dag_settings
from ctcd.airflow.dates import BASE_DT, BASE_DT_PARAM, base_dt
from ctcd.airflow.defaults import CHAMPION, DAGS, FINDING, NAME, ZONE
from ctcd.airflow.hook import FEATURE_STORE, rows_required
from ctcd.airflow.pools import PROMOTION_POOL, TRAINING_POOL
from ctcd.airflow.stage import StageOperator

VARIANTS = {"v1": "baseline", "v2": "fast"}
"""Aliases of profiles as values of the variable `model_version`, kept for Airflows that have set it."""

logger = logging.getLogger(__name__)


def profile(model_version: str) -> str:
    """Return the training profile of a value of the variable `model_version`."""
    return VARIANTS.get(model_version, model_version)


def champion_event(move: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the extra of the asset event of a new champion."""
    outcome = context["ti"].xcom_pull(task_ids="gate")
    return {
        "version": move["version"],
        "run_id": outcome["run_id"],
        "base_dt": base_dt(context["dag_run"]).isoformat(),
        "changed": move["changed"],
        "before": move["before"],
        "metrics": outcome["candidate"],
        "metrics_before": outcome["champion"],
    }


with DAG(
    f"{NAME}_classification_ct",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(dag_settings().training_cron, timezone=str(ZONE)), assets=[FINDING]
    ),
    description=f"Snapshot, training, gate and promotion; at {dag_settings().training_cron} in {ZONE}",
    params={
        **BASE_DT_PARAM,
        "profile": Param(
            None,
            type=["null", "string"],
            maxLength=100,
            title="Profile",
            description="A profile of training.toml; empty: that of the variable model_version.",
        ),
    },
    dagrun_timeout=timedelta(hours=6),
    doc_md=__doc__,
    tags=[NAME, "training"],
    **DAGS | {"user_defined_macros": DAGS["user_defined_macros"] | {"profile": profile}},
) as dag:
    with TaskGroup("data", prefix_group_id=False, tooltip="Snapshot and checks"):
        extract = SQLExecuteQueryOperator(
            task_id="extract",
            conn_id=FEATURE_STORE,
            # Derived from the contract, and what `ctcd snapshot` runs too.
            sql="snapshot.mariadb.sql",
            parameters={
                name: f"{{{{ snapshot_days(dag_run)['{name}'] }}}}"
                for name in ("snapshot_day", "first_label_day", "last_expired_day")
            },
            split_statements=True,
            handler=rows_required,
        )
        validate = StageOperator(task_id="validate", command=["validate"], arguments=["--base-dt", BASE_DT])
        monitor = StageOperator(task_id="monitor", command=["monitor"], arguments=["--base-dt", BASE_DT])

    with TaskGroup("training", prefix_group_id=False, tooltip="Trials and the best of them"):
        prepare = StageOperator(
            task_id="prepare",
            command=["training", "prepare"],
            arguments=[
                "--base-dt",
                BASE_DT,
                "--profile",
                "{{ params.profile or profile(var.value.get('model_version', 'v2')) }}",
            ],
        )

        @task
        def trials(prepared: dict[str, Any]) -> list[dict[str, Any]]:
            """Return the arguments of one task for each trial."""
            return [
                {"arguments": [prepared["training"], "--index", str(index)], "map_label": label}
                for index, label in enumerate(prepared["labels"])
            ]

        trial = StageOperator.partial(
            task_id="trial",
            command=["training", "trial"],
            map_index_template="{{ task.map_label }}",
            pool=TRAINING_POOL,
        ).expand_kwargs(trials(prepare.output))  # type: ignore[arg-type] # Airflow passes on the future output
        finish = StageOperator(
            task_id="finish",
            command=["training", "finish"],
            arguments=["{{ ti.xcom_pull(task_ids='prepare')['training'] }}"],
        )

    with TaskGroup("promotion", prefix_group_id=False, tooltip="Gate and champion"):
        gate = StageOperator(
            task_id="gate",
            command=["gate"],
            arguments=["--run-id", "{{ ti.xcom_pull(task_ids='finish')['run_id'] }}"],
            success_codes=(0, 4),  # a refusal is a result
            pool=PROMOTION_POOL,
        )

        @task.branch
        def decide(outcome: dict[str, Any]) -> str:
            """Choose the path: a refused model is not promoted."""
            return "not_promoted" if outcome["reasons"] else "promote"

        promote = StageOperator(
            task_id="promote",
            command=["promote"],
            arguments=[
                "--version",
                "{{ ti.xcom_pull(task_ids='gate')['version'] }}",
                "--reason",
                "DAG run {{ run_id }}",
            ],
            pool=PROMOTION_POOL,
            outlets=[CHAMPION],
            asset_event=champion_event,
        )

        @task
        def not_promoted(outcome: dict[str, Any]) -> list[str]:
            """Show why the champion stays."""
            for reason in outcome["reasons"]:
                logger.info("version %s: %s", outcome["version"], reason)
            return list(outcome["reasons"])

    extract >> validate >> monitor >> prepare
    trial >> finish >> gate
    decide(gate.output) >> [promote, not_promoted(gate.output)]  # type: ignore[arg-type] # as above

"""### The tutorial.

Three tasks to copy from: print the date, sleep, and run a command that is rendered from a template with a loop.

`{{ ds }}` is undefined in runs without a logical date, such as those that the REST API or an asset triggers; so the day comes
from `base_dt(dag_run)`, as in the other DAGs.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

from ctcd.airflow.dates import BASE_DT_PARAM
from ctcd.airflow.defaults import DAGS

COMMAND = """
{% for number in range(5) %}
    echo "{{ base_dt(dag_run) + macros.timedelta(days=number) }}"
{% endfor %}
"""

with DAG(
    "simple_dag",
    schedule="@daily",
    description="Tutorial: three tasks to copy from; daily",
    params={
        **BASE_DT_PARAM,
        "seconds": Param(
            1, type="integer", minimum=0, maximum=60, title="Seconds", description="How long the task sleep takes."
        ),
    },
    doc_md=__doc__,
    tags=["tutorial"],
    **DAGS,
) as dag:
    print_date = BashOperator(task_id="print_date", bash_command="date", doc_md="Prints the date of the worker.")
    sleep = BashOperator(task_id="sleep", bash_command="sleep {{ params.seconds }}", doc_md="Waits.")
    templated = BashOperator(task_id="templated", bash_command=COMMAND, doc_md="Prints the next five days.")

    print_date >> [sleep, templated]

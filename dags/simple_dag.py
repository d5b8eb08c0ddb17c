"""### The tutorial.

Three tasks to copy from: print the date, sleep, and run a command that a template with a loop makes.

`{{ ds }}` is not defined in runs that have no logical date, such as those triggered by the REST API or an asset; so days come
from `base_dt(dag_run)`, as in our other DAGs.
"""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

from ctcd.airflow.defaults import DAGS

COMMAND = """
{% for number in range(5) %}
    echo "{{ base_dt(dag_run) + macros.timedelta(days=number) }}"
{% endfor %}
"""

with DAG(
    "simple_dag",
    schedule="@daily",
    doc_md=__doc__,
    tags=["tutorial"],
    **DAGS,
) as dag:
    print_date = BashOperator(task_id="print_date", bash_command="date", doc_md="Prints the date of the worker.")
    sleep = BashOperator(task_id="sleep", bash_command="sleep {{ params.seconds }}", params={"seconds": 1})
    templated = BashOperator(task_id="templated", bash_command=COMMAND, doc_md="Prints the next five days.")

    print_date >> [sleep, templated]

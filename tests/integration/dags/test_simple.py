"""The tutorial DAG."""

import pytest
from support.dag_runs import run_dag

pytestmark = pytest.mark.integration


def test_the_tutorial_runs_without_a_logical_date() -> None:
    """All tasks of the tutorial succeed in a run that has no logical date, and the loop ends four days later."""
    done = run_dag("simple_dag", conf={"base_dt": "2025-12-29"})
    assert done.state == "success"
    assert done.tasks == dict.fromkeys(("print_date", "sleep", "templated"), "success")
    assert done.values["templated"] == "2026-01-02"

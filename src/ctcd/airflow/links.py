"""Links from a task to MLflow: to the run and to the registered version that its command reports."""

from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.types import TaskInstanceKey

from ctcd.airflow.defaults import NAME


def links(ui: str, report: Any) -> dict[str, str]:
    """Return the addresses of what a command's report names in MLflow, by the name of the link; none without a UI."""
    if not ui or not isinstance(report, dict):
        return {}
    pages = {
        "run_id": (RunLink.name, "/#/runs/{}"),
        "version": (VersionLink.name, f"/#/models/{quote(NAME)}/versions/{{}}"),
    }
    return {
        title: ui + page.format(quote(str(report[field]), safe=""))
        for field, (title, page) in pages.items()
        if report.get(field)
    }


class RunLink(BaseOperatorLink):
    """Leads to the training run, with its metrics, its evidence and, as artifacts, the gate's decisions."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, or nothing if the report names no run."""
        del ti_key
        return str(getattr(operator, "links", {}).get(self.name, ""))


class VersionLink(RunLink):
    """Leads to the registered version, with the gate's verdict and reasons."""

    name = "Version and verdict"

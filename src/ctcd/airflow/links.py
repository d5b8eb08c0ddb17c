"""Links from a task to MLflow: to the run and to the registered version that its command reports."""

from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.types import TaskInstanceKey

from ctcd.airflow.defaults import NAME
from ctcd.urls import run_page, version_page


def links(ui: str, report: Any) -> dict[str, str]:
    """Return the addresses of what a command's report names in MLflow, by the name of the link; none without a UI."""
    if not ui or not isinstance(report, dict):
        return {}
    pages = {
        RunLink.name: report.get("run_id") and run_page(ui, str(report["run_id"])),
        VersionLink.name: report.get("version") and version_page(ui, NAME, str(report["version"])),
    }
    return {title: page for title, page in pages.items() if page}


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

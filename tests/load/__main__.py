"""Load a service with one of the load shapes of the service levels, and compare the measurement with its limits.

Run from the repository's root: PYTHONPATH=tests python -m load SHAPE [--url URL]
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from load.payloads import write_payloads
from load.service_levels import Finding, Measured, compare, judge
from pydantic import SecretStr
from support.mariadb import database, own_server
from support.network import free_port
from support.serving import model_info, pinned, save_model, small_scorer

from ctcd.cli.output import out, table
from ctcd.contract.instance import load_instance
from ctcd.contract.service_levels import load_service_levels
from ctcd.deployment import bento
from ctcd.errors import CtcdError, UsageError
from ctcd.serving.launch import running
from ctcd.settings import load_settings
from ctcd.store.migrations import upgrade

HERE = Path(__file__).parent
INSTANCE = load_instance(load_settings().contracts)
"""The instance that the settings name: its contract is what a service is loaded with."""
REFUSED = 1
"""Exit code when a limit is exceeded."""


def main(
    shape: Annotated[str, typer.Argument(help="Load shape, one of those in contracts/service.toml.")] = "reference",
    url: Annotated[str, typer.Option(help="URL of a running service; default: start one, with MariaDB.")] = "",
    key: Annotated[str, typer.Option(envvar="LOAD_KEY", help="API key of that service.")] = "",
    reports: Annotated[Path, typer.Option(help="Folder of the reports.")] = Path("build/reports/load"),
    keep: Annotated[bool, typer.Option("--keep", help="Save this run as the baseline, if it passes.")] = False,
) -> None:
    """Load a service and judge it; exit code 1 if it exceeds a limit."""
    promise = load_service_levels(INSTANCE)
    try:
        limits = promise.shape(shape).limits
        reports.mkdir(parents=True, exist_ok=True)
        if url:
            measured = run_locust(shape, url, key, reports)
        else:
            with own_service() as started:
                measured = run_locust(shape, started, key, reports)
    except CtcdError as error:
        out.print(str(error))
        raise typer.Exit(error.exit_code) from error
    findings = judge(measured, limits)
    kept = reports / f"baseline-{shape}-{machine()}.json"
    if kept.exists():
        findings += compare(measured, Measured.model_validate_json(kept.read_text()), promise.baseline)
    passed = all(finding.kept for finding in findings)
    show(measured, findings)
    verdict = {
        "passed": passed,
        "measured": measured.model_dump(),
        "findings": [each.model_dump() for each in findings],
    }
    (reports / f"{shape}.json").write_text(json.dumps(verdict, indent=2) + "\n", encoding="utf-8")
    if passed and (keep or not kept.exists()):
        kept.write_text(measured.model_dump_json(indent=2) + "\n", encoding="utf-8")
    out.print(f"reports: {reports / shape}.html, {reports / shape}.json")
    raise typer.Exit(0 if passed else REFUSED)


def run_locust(shape: str, url: str, key: str, reports: Path) -> Measured:
    """Run Locust in a process of its own and return what it measured.

    Raises:
        UsageError: Locust failed; shows the last line of its output.
    """
    summary = reports / f"{shape}.measured.json"
    summary.unlink(missing_ok=True)
    payloads = reports / "payloads.jsonl"
    write_payloads(payloads, INSTANCE.contract)
    command = [
        sys.executable,
        "-m",
        "locust",
        "--headless",
        "--only-summary",
        "--locustfile",
        str(HERE / "locustfile.py"),
    ]
    command += ["--host", url, "--html", str(reports / f"{shape}.html"), "--exit-code-on-error", "0"]
    command += ["--shape", shape, "--payloads", str(payloads), "--summary", str(summary)]
    # The key goes through the environment: every user of the machine can read a command line.
    environment = {**os.environ, "LOAD_KEY": key}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode or not summary.exists():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise UsageError(f"locust ended with code {done.returncode}: {lines[-1] if lines else ''}", where="load test")
    return Measured.model_validate_json(summary.read_text())


@contextmanager
def own_service() -> Iterator[str]:
    """Start a database server and the service with a small model, and give its URL."""
    with (
        TemporaryDirectory(prefix="ctcd-load-") as folder,
        own_server() as server,
        database(server.url) as store,
    ):
        home = Path(folder)
        text = store.render_as_string(hide_password=False)
        upgrade(text, INSTANCE.migrations)
        settings = pinned(home, port=free_port(), feature_store_url=SecretStr(text))
        contract = INSTANCE.contract
        info = model_info(contract)
        model = save_model(small_scorer(300, contract), home / "model", info, contract)
        tag = bento.build(info, model, settings, INSTANCE).tag
        with running(tag, settings) as service:
            yield service.url


def machine() -> str:
    """Return a hash that identifies this machine without naming it."""
    facts = [platform.node(), platform.machine(), platform.python_version(), str(os.cpu_count())]
    return hashlib.sha256("|".join(facts).encode()).hexdigest()[:12]


def show(measured: Measured, findings: list[Finding]) -> None:
    """Print what was measured, and every limit."""
    table(
        f"Load: {measured.shape}, {measured.requests} requests",
        ("limit", "measured", "allowed", "verdict"),
        [
            (
                each.rule,
                round(each.value, 2),
                f"{'at most' if each.better == 'lower' else 'at least'} {each.limit:g}",
                "met" if each.kept else "NOT MET",
            )
            for each in findings
        ],
    )
    for problem, count in measured.errors.items():
        out.print(f"{count} times: {problem}")


if __name__ == "__main__":
    typer.run(main)

"""Verbs of a deployment."""

from enum import StrEnum
from typing import Annotated

import typer

from credit_score import stages
from credit_score.cli.options import JsonOutput
from credit_score.cli.output import emit, out, shown_progress
from credit_score.settings import load_settings

app = typer.Typer(help="Bring the champion to where it is served, probe it there, and back.", no_args_is_help=True)


class TargetName(StrEnum):
    """Kinds of targets."""

    PROCESS = "process"


TargetOption = Annotated[TargetName, typer.Option("--target", help="Where to: a process of this machine.")]


@app.command()
def check(json: JsonOutput = False) -> None:
    """Compare the version that answers with the champion, and say whether there is anything to deploy."""
    report = stages.check_deployment(load_settings())
    if json:
        emit(report)
    else:
        out.print(f"{report.action.value}: {report.reason}")


@app.command()
def deploy(target: TargetOption = TargetName.PROCESS, json: JsonOutput = False) -> None:
    """Build the champion's Bento and replace what is deployed; what was there is put back if it does not get ready."""
    with shown_progress() as progress:
        report = stages.deploy(load_settings(), target=target.value, progress=progress)
    if json:
        emit(report)
    else:
        out.print(f"{report.tag} on {report.url}{'' if report.changed else ' (it was already)'}", highlight=False)


@app.command()
def smoke(json: JsonOutput = False) -> None:
    """Probe the deployment through its API; ends in exit code 7 if it does not answer as the champion does."""
    report = stages.smoke(load_settings())
    if json:
        emit(report)
    report.require_passed()
    if not json:
        out.print(f"{report.url}: {report.probes} probes, median {report.median_ms:.1f} ms")


@app.command()
def revert(
    version: Annotated[str, typer.Option("--version", help="Version that does not work.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept beside the version.")] = "its deployment failed",
    target: TargetOption = TargetName.PROCESS,
    json: JsonOutput = False,
) -> None:
    """Roll back a version that does not work where it is served, and deploy the one before it."""
    with shown_progress() as progress:
        report = stages.revert(load_settings(), version=version, reason=reason, target=target.value, progress=progress)
    if json:
        emit(report)
    else:
        after = f"version {report.champion} is deployed" if report.champion else "nothing is deployed"
        out.print(f"version {report.rolled_back or version} is rolled back: {after}")


@app.command()
def stop(target: TargetOption = TargetName.PROCESS, json: JsonOutput = False) -> None:
    """End what is deployed."""
    stopped = stages.stop_deployment(load_settings(), target=target.value)
    if json:
        emit({"stopped": stopped})
    else:
        out.print("stopped" if stopped else "nothing was deployed")

"""Verbs of a deployment."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.options import JsonOutput
from ctcd.cli.output import emit, out, shown_progress
from ctcd.settings import load_settings
from ctcd.stages import deployment as stages

if TYPE_CHECKING:
    from ctcd.deployment.target import Deployment

CHAMPION = "champion"

app = typer.Typer(help="Bring the champion to where it is served, probe it there, and back.", no_args_is_help=True)


class TargetName(StrEnum):
    """Kinds of targets."""

    PROCESS = "process"
    COMPOSE = "compose"
    KUBERNETES = "kubernetes"


TargetOption = Annotated[
    TargetName,
    typer.Option(
        "--target",
        help="Where to: a process of this machine, a Docker host (the setting deploy_host), or kubectl's cluster.",
    ),
]
ImageOption = Annotated[
    str,
    typer.Option(
        "--image", help="Image by digest, for compose and kubernetes.", show_default="the one released of the champion"
    ),
]


@app.command()
def check(json: JsonOutput = False) -> None:
    """Compare the version that answers with the champion, and say whether there is anything to deploy."""
    report = stages.check_deployment(load_settings())
    if json:
        emit(report)
    else:
        out.print(f"{report.action.value}: {report.reason}")


@app.command()
def deploy(
    target: TargetOption = TargetName.PROCESS,
    image: ImageOption = "",
    probe: Annotated[bool, typer.Option("--probe", help="Give the old one up only once the new one answers.")] = False,
    json: JsonOutput = False,
) -> None:
    """Replace what is deployed by the champion; what was there is put back if the new one does not get ready."""
    with shown_progress() as progress:
        report = stages.deploy(load_settings(), target=target.value, image=image, probed=probe, progress=progress)
    if json:
        emit(report)
    else:
        show(report)


def deploy_and_probe(
    target: TargetOption = TargetName.PROCESS,
    image: ImageOption = "",
    version: Annotated[str, typer.Option("--version", help="Version that the image holds.")] = CHAMPION,
    json: JsonOutput = False,
) -> None:
    """Deploy the champion, or the image of a version, and probe it; whatever fails, what was there before is put back."""
    settings = load_settings()
    with shown_progress() as progress:
        if version == CHAMPION:
            report = stages.deploy(settings, target=target.value, image=image, probed=True, progress=progress)
        else:
            report = stages.deploy_version(settings, version, target=target.value, image=image, progress=progress)
    if json:
        emit(report)
    else:
        show(report)


def show(report: "Deployment") -> None:
    """Print what is deployed."""
    before = f" (before: version {report.before})" if report.before else ""
    told = before if report.changed else " (it was already)"
    out.print(f"version {report.version}, {report.tag} on {report.url}{told}", highlight=False, soft_wrap=True)


@app.command()
def render(
    image: Annotated[str, typer.Option("--image", help="Image by digest.", show_default=False)],
    version: Annotated[str, typer.Option("--version", help="Version that the image holds.", show_default=False)],
) -> None:
    """Print the Kubernetes manifests of an image, for the environment of the settings."""
    sys.stdout.write(stages.render_manifests(load_settings(), image=image, version=version) + "\n")


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

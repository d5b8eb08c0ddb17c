"""Commands about releases: build, deploy, probe, roll back."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ctcd.cli.options import JsonOutput, Reason, Summary
from ctcd.cli.output import append, emit, out, present, shown_progress
from ctcd.deployment.target import TargetName
from ctcd.errors import UsageError, number_of
from ctcd.registry import NOT_GIVEN
from ctcd.settings import load_settings
from ctcd.stages import deployment as stages

if TYPE_CHECKING:
    from ctcd.deployment.target import Deployment

VersionOption = Annotated[
    str | None, typer.Option("--version", help="Version of the model.", show_default="the champion")
]
TargetOption = Annotated[
    TargetName,
    typer.Option("--target", help="A process of this machine, the Docker host CTCD_DEPLOY_HOST, or kubectl's cluster."),
]


def build(version: VersionOption = None, json: JsonOutput = False) -> None:
    """Build the Bento of the champion, or of another version."""
    report = stages.build(load_settings(), version=version)
    present(report, f"{report.tag}{' (unchanged)' if report.reused else ''}: {report.path}", json=json)


def image(version: VersionOption = None, json: JsonOutput = False) -> None:
    """Print the image that was released for a version, by default for the champion."""
    found = stages.released_image(load_settings(), version=version)
    present({"image": found}, found, json=json)


def deploy(
    target: TargetOption = TargetName.PROCESS,
    version: VersionOption = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            help="The version's image, by digest, for compose and kubernetes.",
            show_default="the one that was released for it",
        ),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the version the champion; undone if the deployment fails.")
    ] = False,
    reason: Reason = NOT_GIVEN,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Accept the new deployment once it is ready, without probing it.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the champion has to be deployed, and why.")
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Only print the Kubernetes manifests for the configured environment.")
    ] = False,
    summary: Summary = None,
    json: JsonOutput = False,
) -> None:
    """Deploy the champion, or another version that passed the gate, and probe it.

    If the new deployment is not ready in time or fails its probes, what was deployed before is restored.
    """
    settings = load_settings()
    if check and (version is not None or image is not None or promote or render):
        raise UsageError("--check only compares the champion: leave out the options that deploy", where="deploy")
    if render and (target is not TargetName.KUBERNETES or promote):
        raise UsageError("--render needs --target kubernetes, and promotes nothing", where="deploy")
    if check:
        found = stages.check(settings)
        present(found, f"{found.action.value}: {found.reason}", json=json)
        return
    if render:
        sys.stdout.write(stages.render_manifests(settings, image=image, version=version) + "\n")
        return
    with shown_progress() as progress:
        report = stages.deploy(
            settings,
            target=target,
            version=version,
            image=image,
            promote=promote,
            reason=reason,
            probed=not no_probe,
            progress=progress,
        )
    if summary:
        append(summary, f"Version {report.version} answers on {report.url}: `{report.tag}`\n")
    present(report, _show, json=json)


def smoke(
    image: Annotated[
        str | None,
        typer.Option("--image", help="Image to run on this machine and probe.", show_default="what is deployed"),
    ] = None,
    version: VersionOption = None,
    json: JsonOutput = False,
) -> None:
    """Probe the deployment, or an image, through its API.

    Ends in exit code 7 if it does not answer as the version's model does.
    """
    settings = load_settings()
    if image is not None:
        report = stages.smoke_image(settings, image, version=version)
    else:
        report = stages.smoke(settings, version=version)
    if json:
        emit(report)
    report.require_passed()
    if not json:
        out.print(f"{image or report.url}: {number_of(report.probes, 'probe')}, median {report.median_ms:.1f} ms")


def rollback(
    to: Annotated[str, typer.Option("--to", help="Version to go back to.", show_default="the previous champion")] = "",
    failed: Annotated[
        str | None,
        typer.Option(
            "--failed", help="Roll this version back if it is the champion; safe to run twice.", show_default=False
        ),
    ] = None,
    reason: Reason = NOT_GIVEN,
    target: Annotated[
        TargetName | None,
        typer.Option("--target", help="Also deploy that version to this target.", show_default="nothing is deployed"),
    ] = None,
    image_only: Annotated[
        bool, typer.Option("--image-only", help="Only deploy that version; leave the champion as it is.")
    ] = False,
    summary: Summary = None,
    json: JsonOutput = False,
) -> None:
    """Make the previous champion the champion again, and with --target deploy it again.

    The version that is rolled back is never promoted again.

    With --target, the deployment is probed before the champion changes; if it fails, nothing is changed.

    With --failed, the champion changes first; if there was none before it, there is none then, and the deployment
    stops.
    """
    if failed is not None and (to or image_only):
        raise UsageError("--failed cannot be combined with --to or --image-only", where="rollback")
    if image_only and target is None:
        raise UsageError("--image-only needs a --target", where="rollback")
    with shown_progress() as progress:
        if failed is not None:
            report = stages.roll_back_failed(load_settings(), failed, reason=reason, target=target, progress=progress)
        else:
            report = stages.roll_back(
                load_settings(), to=to or None, reason=reason, target=target, image_only=image_only, progress=progress
            )
    if summary and report.deployment:
        append(summary, f"Back to version {report.deployment.version}: `{report.deployment.tag}`\n")
    if json:
        emit(report)
        return
    if report.deployment:
        _show(report.deployment)
    if report.champion is None:
        out.print(f"there was no champion before version {report.rolled_back} to go back to")
    else:
        rolled_back = f"rolled back: version {report.rolled_back}" if report.rolled_back else "unchanged"
        out.print(f"champion: version {report.champion} ({rolled_back})")


def stop(target: TargetOption = TargetName.PROCESS, reason: Reason = NOT_GIVEN, json: JsonOutput = False) -> None:
    """Stop what is deployed."""
    found = stages.stop(load_settings(), target=target, reason=reason)
    unrecorded = f", but that is not in the history: {found.unrecorded}" if found.unrecorded else ""
    present(found, f"stopped{unrecorded}" if found.stopped else "nothing was deployed", json=json)


def _show(report: "Deployment") -> None:
    before = f" (before: version {report.before})" if report.before else ""
    note = before if report.changed else " (unchanged)"
    out.print(f"version {report.version}, {report.tag} on {report.url}{note}")

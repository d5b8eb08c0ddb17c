"""Verbs of a release: what the workflows call, and a person can."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from ctcd.cli.deployment import TargetName, show
from ctcd.cli.options import JsonOutput
from ctcd.cli.output import emit, out, shown_progress
from ctcd.cli.views import show_decision
from ctcd.errors import GateRefused
from ctcd.settings import load_settings
from ctcd.stages import deployment as stages
from ctcd.stages import promotion

app = typer.Typer(help="Judge a version, ship its image, and take it back.", no_args_is_help=True)

VersionOption = Annotated[str, typer.Option("--version", help="Version of the model.", show_default=False)]
ImageTarget = Annotated[
    TargetName, typer.Option("--target", help="Where to: compose (a Docker host) or kubernetes (kubectl's cluster).")
]


@app.command()
def judge(
    version: Annotated[
        str, typer.Option("--version", help="Version to judge.", show_default="that of the newest finished training")
    ] = "",
    summary: Annotated[
        Path | None, typer.Option(help="File that the decision is appended to, as a page.", show_default=False)
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(help="File that `version=` is appended to if it may ship.", show_default=False)
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Let the gate decide whether a version may ship; ends in exit code 4 if not. Nothing is promoted."""
    with shown_progress() as progress:
        outcome = promotion.judge(load_settings(), version=version or None, progress=progress)
    if summary:
        _append(summary, Path(outcome.markdown_file).read_text(encoding="utf-8"))
    if json:
        emit(outcome)
    else:
        show_decision(outcome.decision)
    # A version that is the champion already is not refused: it may be released again.
    if outcome.reasons:
        raise GateRefused("; ".join(outcome.reasons), where=f"version {outcome.version}")
    if outputs:
        _append(outputs, f"version={outcome.version}\n")


@app.command("try")
def try_image(
    version: VersionOption,
    image: Annotated[str, typer.Option("--image", help="An image that Docker has here.", show_default=False)],
    json: JsonOutput = False,
) -> None:
    """Run an image here, hardened, and let it answer its probes; ends in exit code 7 if it does not as the version does."""
    report = stages.try_image(load_settings(), version, image)
    if json:
        emit(report)
    else:
        out.print(f"{image}: {report.probes} probes, median {report.median_ms:.1f} ms", highlight=False)


@app.command()
def ship(
    version: VersionOption,
    image: Annotated[str, typer.Option("--image", help="Its image, by digest.", show_default=False)],
    target: ImageTarget = TargetName.COMPOSE,
    promote: Annotated[bool, typer.Option("--promote", help="Make it the champion, as in production.")] = False,
    summary: Annotated[Path | None, typer.Option(help="File that a line is appended to.", show_default=False)] = None,
    json: JsonOutput = False,
) -> None:
    """Deploy the image of a version that passed the gate and probe it; if it fails, all is as it was before."""
    with shown_progress() as progress:
        report = stages.ship(
            load_settings(), version, image=image, target=target.value, promoted=promote, progress=progress
        )
    if summary:
        _append(summary, f"Version {version} answers on {report.deployment.url}: `{image}`\n")
    if json:
        emit(report)
    else:
        show(report.deployment)


@app.command()
def rollback(
    to: Annotated[str, typer.Option("--to", help="Version to go back to.", show_default="the previous champion")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept beside the version.")] = "not given",
    target: ImageTarget = TargetName.COMPOSE,
    image_only: Annotated[bool, typer.Option("--image-only", help="Leave the champion as it is.")] = False,
    summary: Annotated[Path | None, typer.Option(help="File that a line is appended to.", show_default=False)] = None,
    json: JsonOutput = False,
) -> None:
    """Deploy the image of the previous release, probe it, and make its version the champion again."""
    with shown_progress() as progress:
        report = stages.unship(
            load_settings(),
            to=to or None,
            reason=reason,
            target=target.value,
            demoted=not image_only,
            progress=progress,
        )
    if summary:
        _append(summary, f"Back to version {report.deployment.version}: `{report.deployment.tag}`\n")
    if json:
        emit(report)
    else:
        show(report.deployment)
        if report.rolled_back:
            out.print(f"champion: version {report.deployment.version} (rolled back: version {report.rolled_back})")


@app.command()
def image(
    version: Annotated[str, typer.Option("--version", help="Version of the model.")] = "",
    json: JsonOutput = False,
) -> None:
    """Print the image that was released of a version, by default of the champion."""
    found = stages.released_image(load_settings(), version=version or None)
    out.print(json_module.dumps({"image": found}) if json else found, highlight=False, soft_wrap=True)


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)

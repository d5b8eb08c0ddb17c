"""Verbs of a training whose trials run in processes of their own."""

from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay, ProfileName
from ctcd.cli.output import emit, out, shown_progress
from ctcd.cli.views import show_training
from ctcd.settings import load_settings
from ctcd.stages import training as stages
from ctcd.stages.connections import instance

app = typer.Typer(help="Train in steps, so that trials can run on several machines.", no_args_is_help=True)

Training = Annotated[str, typer.Argument(help="Which training, as `prepare` said.", show_default=False)]


@app.command()
def prepare(base_dt: KnownDay = None, profile: ProfileName = "fast", json: JsonOutput = False) -> None:
    """Split a snapshot and fit its preprocessing, once for all trials."""
    settings = load_settings()
    report = stages.prepare_training(settings, base_dt, profile=profile)
    if json:
        emit(report)
    else:
        out.print(f"{report.training}: {len(report.trials)} trials", soft_wrap=True, highlight=False)


@app.command()
def trial(
    training: Training,
    index: Annotated[int, typer.Option("--index", min=0, help="Which trial, counted from 0.", show_default=False)],
    json: JsonOutput = False,
) -> None:
    """Fit one trial; one that is there already is not fitted again."""
    with shown_progress() as progress:
        report = stages.run_trial(load_settings(), training, index, progress=progress)
    if json:
        emit(report)
    else:
        out.print(f"trial {index}: macro F1 {report.trial.validation.macro_f1:.4f} on the validation part")


@app.command()
def finish(training: Training, json: JsonOutput = False) -> None:
    """Choose the best trial; it becomes a candidate in MLflow, with all trials and its evidence."""
    settings = load_settings()
    report = stages.finish_training(settings, training)
    if json:
        emit(report)
    else:
        show_training(report, instance(settings).contract.group.name)

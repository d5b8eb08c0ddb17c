"""Commands of a training whose trials run in separate processes."""

from typing import Annotated

import typer

from ctcd.cli.options import JsonOutput, KnownDay, ProfileName, epilog, group
from ctcd.cli.output import present, shown_progress
from ctcd.cli.views import show_training
from ctcd.errors import number_of
from ctcd.settings import load_settings
from ctcd.stages import training as stages
from ctcd.stages.connections import instance

training = group("Train in steps, so that trials can run on several machines.")

TrainingId = Annotated[
    str, typer.Argument(metavar="TRAINING", help="The training, as `prepare` printed it.", show_default=False)
]


@training.command(epilog=epilog("ctcd training prepare --profile full"))
def prepare(base_dt: KnownDay = None, profile: ProfileName = "fast", json: JsonOutput = False) -> None:
    """Split a snapshot and fit its preprocessing, once for all trials."""
    report = stages.prepare_training(load_settings(), base_dt, profile=profile)
    present(report, f"{report.training}: {number_of(len(report.trials), 'trial')}", json=json)


@training.command(epilog=epilog("ctcd training trial 1f0c2e --index 0"))
def trial(
    training_id: TrainingId,
    index: Annotated[
        int, typer.Option("--index", min=0, max=9_999, help="Index of the trial, from 0.", show_default=False)
    ],
    json: JsonOutput = False,
) -> None:
    """Fit one trial; a trial that exists already is not fitted again."""
    with shown_progress() as progress:
        report = stages.run_trial(load_settings(), training_id, index, progress=progress)
    macro_f1 = report.trial.validation.macro_f1
    present(report, f"trial {index}: macro F1 {macro_f1:.4f} on the validation set", json=json)


@training.command(epilog=epilog("ctcd training finish 1f0c2e"))
def finish(training_id: TrainingId, json: JsonOutput = False) -> None:
    """Choose the best trial, which becomes a candidate in MLflow with its evidence."""
    settings = load_settings()
    report = stages.finish_training(settings, training_id)
    present(report, lambda trained: show_training(trained, instance(settings).contract.group.name), json=json)

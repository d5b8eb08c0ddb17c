"""The experiment that runs: the alias `challenger` names its version, a tag of the registered model says the rest."""

import json

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ctcd.contract.traffic import Experiment
from ctcd.errors import UsageError
from ctcd.registry.tracking import NOT_FOUND

CHALLENGER = "challenger"
"""Alias of the version that an experiment is about."""
TAG = "traffic"
"""Tag of the registered model: the `Experiment` as JSON. One tag, because a change of several is not atomic."""


def read(client: MlflowClient, model: str) -> Experiment | None:
    """Return the experiment of a registered model; None if there is none.

    Raises:
        UsageError: the tag is none of ours, or the alias names another version, which somebody has set by hand.
    """
    try:
        found = client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None
    text, version = found.tags.get(TAG), found.aliases.get(CHALLENGER)
    if text is None or version is None:  # it is being started or ended
        return None
    try:
        experiment = Experiment.of(json.loads(text))
    except (UsageError, ValueError) as error:
        raise UsageError(f"its tag {TAG!r} is not an experiment", where=f"registered model {model}") from error
    if str(version) != experiment.version:
        raise UsageError(
            f"the alias {CHALLENGER} names version {version}, the experiment is about version {experiment.version}",
            where=f"registered model {model}",
            hint="end the experiment, and start another one",
        )
    return experiment


def write(client: MlflowClient, model: str, experiment: Experiment) -> None:
    """Start an experiment, or change the one that runs; a process killed in between has changed nothing that is seen.

    Raises:
        MlflowException: the version does not exist, or MLflow does not answer.
    """
    found = client.get_registered_model(model)
    if str(found.aliases.get(CHALLENGER)) != experiment.version:
        clear(client, model)
        client.set_registered_model_alias(model, CHALLENGER, experiment.version)
    client.set_registered_model_tag(model, TAG, json.dumps(vars(experiment)))


def clear(client: MlflowClient, model: str) -> None:
    """End the experiment, if there is one: the champion answers everything again."""
    found = client.get_registered_model(model)
    if TAG in found.tags:
        client.delete_registered_model_tag(model, TAG)
    if CHALLENGER in found.aliases:
        client.delete_registered_model_alias(model, CHALLENGER)

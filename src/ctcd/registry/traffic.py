"""The running experiment in the registry: the alias `challenger` names its version, a tag of the model holds the rest."""

import json

from mlflow import MlflowClient

from ctcd.contract.traffic import Experiment
from ctcd.errors import UsageError
from ctcd.registry.tracking import unless_missing

CHALLENGER = "challenger"
"""Alias of the version that an experiment is about."""
TAG = "traffic"
"""Tag of the registered model: the `Experiment` as JSON. It is one tag, because changing several is not atomic."""
ENDS = "it is ended by: ctcd traffic stop"


def read(client: MlflowClient, model: str) -> Experiment | None:
    """Return the experiment of a registered model; None if there is none.

    Raises:
        UsageError: the tag is not an experiment, or the alias names another version, because one was changed by hand.
    """
    text, version = named(client, model)
    if text is None or version is None:  # it is being started or ended
        return None
    try:
        experiment = Experiment.of(json.loads(text))
    except (UsageError, ValueError) as error:
        raise UsageError(
            f"its tag {TAG!r} is not an experiment", where=f"registered model {model}", hint=ENDS
        ) from error
    if version != experiment.version:
        raise UsageError(
            f"the alias {CHALLENGER} names version {version}, the experiment is about version {experiment.version}",
            where=f"registered model {model}",
            hint=ENDS,
        )
    return experiment


def named(client: MlflowClient, model: str) -> tuple[str | None, str | None]:
    """Return the text of the tag, and the version that the alias names; None for what is missing."""
    found = unless_missing(client.get_registered_model, model)
    if found is None:
        return None, None
    version = found.aliases.get(CHALLENGER)
    return found.tags.get(TAG), None if version is None else str(version)


def write(client: MlflowClient, model: str, experiment: Experiment) -> None:
    """Start or change the experiment; if the process is killed in between, no change is visible.

    Raises:
        MlflowException: the version does not exist, or MLflow does not answer.
    """
    if named(client, model)[1] != experiment.version:
        clear(client, model)
        client.set_registered_model_alias(model, CHALLENGER, experiment.version)
    client.set_registered_model_tag(model, TAG, json.dumps(vars(experiment)))


def clear(client: MlflowClient, model: str) -> None:
    """End the experiment, if there is one: the champion answers all requests again."""
    text, version = named(client, model)
    if text is not None:
        client.delete_registered_model_tag(model, TAG)
    if version is not None:
        client.delete_registered_model_alias(model, CHALLENGER)

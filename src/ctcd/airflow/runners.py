"""Where a stage runs: beside Airflow, or in a container or a pod of the image for training."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow.sdk.exceptions import AirflowFailException

from ctcd.airflow import pod
from ctcd.settings import PREFIX, Settings, StageRunner

URLS = ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI")


def runner(arguments: Sequence[str], settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs a verb, and its environment.

    Airflow's own variables, some of which are secret, are not handed on.

    Raises:
        AirflowFailException: it is to run in a container, and no image is named, or a volume without the home.
    """
    environment = {
        name: value
        for name, value in settings.child_environment().items()
        if not name.startswith(("AIRFLOW", "_AIRFLOW"))
    }
    match settings.stage_runner:
        case StageRunner.DOCKER:
            return _docker(arguments, settings, environment), environment
        case StageRunner.KUBERNETES:
            return [sys.executable, "-m", pod.__name__, *arguments], environment
        case StageRunner.SUBPROCESS:
            return [str(Path(sys.executable).with_name("ctcd")), *arguments], environment


def _docker(arguments: Sequence[str], settings: Settings, environment: dict[str, str]) -> list[str]:
    """Return the command for a container that has the same settings, and the home at the same path.

    Docker knows the folders of its own machine only. To a worker in a container that is another one: there Docker would
    mount an empty folder in the home's place and say nothing, so the home's volume has to be named.

    It names variables only: Docker's client takes their values from its environment, so that no list of processes shows
    a secret.
    """
    if not settings.stage_image:
        raise AirflowFailException(f"{PREFIX}STAGE_IMAGE: name the image that stages run in")
    home = settings.home.resolve()
    volume = settings.stage_volume or f"{home}:{home}"
    if not home.is_relative_to(volume.partition(":")[2] or "-"):
        raise AirflowFailException(f"{PREFIX}STAGE_VOLUME: {volume!r} is not NAME:PATH with {home} below PATH")
    variables = sorted(name for name in environment if name.startswith(PREFIX) or name in URLS)
    return [
        "docker",
        "run",
        "--rm",
        "--init",
        # What it writes in the home belongs to the worker.
        f"--user={os.getuid()}:{os.getgid()}",
        "--read-only",
        "--tmpfs=/tmp",
        f"--network={settings.stage_network}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--volume={volume}",
        *(f"--env={name}" for name in variables),
        settings.stage_image,
        "ctcd",
        *arguments,
    ]

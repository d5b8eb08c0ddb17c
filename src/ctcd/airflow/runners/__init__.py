"""Where a stage's command runs: in a process of the worker, in a container, or in a pod."""

from ctcd.airflow.runners.outcome import Runner
from ctcd.settings import Settings, StageRunner


def runner(settings: Settings) -> Runner:
    """Return the runner that the settings choose; a provider is imported only where it is used.

    Raises:
        AirflowFailException: a setting that the runner needs is missing or cannot be used.
    """
    match settings.stage_runner:
        case StageRunner.DOCKER:
            from ctcd.airflow.runners.container import ContainerRunner

            return ContainerRunner(settings)
        case StageRunner.KUBERNETES:
            from ctcd.airflow.runners.pod import PodRunner

            return PodRunner(settings)
        case StageRunner.SUBPROCESS:
            from ctcd.airflow.runners.process import ProcessRunner

            return ProcessRunner(settings)

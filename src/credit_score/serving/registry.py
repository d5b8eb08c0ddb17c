"""The model registry as the source of champions; importing this imports MLflow."""

from pathlib import Path

from credit_score import tracking
from credit_score.contract.spec import Contract
from credit_score.promotion.registry import CHAMPION, Registry
from credit_score.serving.model import ModelInfo
from credit_score.settings import Settings


class RegistrySource:
    """The versions of the contract's model in the MLflow registry.

    Args:
        settings: where the registry is.
        contract: names the model.

    Raises:
        Unreachable: the registry does not answer.
    """

    def __init__(self, settings: Settings, contract: Contract) -> None:
        self._settings = settings
        self._registry = Registry(tracking.connect(settings), contract)

    def champion(self) -> ModelInfo:
        """Return the version in service.

        Raises:
            NotFound: no version was promoted yet.
            Unreachable: the registry does not answer.
        """
        with tracking.answering(self._settings):
            found = self._registry.champion()
        return ModelInfo(
            model_name=found.model_name,
            version=found.version,
            alias=CHAMPION,
            run_id=found.run_id,
            model_uri=found.uri,
            creation_time=found.created_at,
        )

    def fetch(self, version: str, into: Path) -> None:
        """Put the scorer's files of a version into a folder.

        Raises:
            NotFound: the model holds no scorer.
            Unreachable: the registry does not answer.
        """
        with tracking.answering(self._settings):
            self._registry.scorer_folder(version, into)

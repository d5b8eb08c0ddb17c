"""The model registry as the source of champions; importing this imports MLflow."""

from pathlib import Path

from ctcd.contract.spec import Contract
from ctcd.model.served import ModelInfo
from ctcd.registry.versions import Registry
from ctcd.settings import Settings


class RegistrySource:
    """The versions of the contract's model in the MLflow registry.

    Args:
        settings: where the registry is.
        contract: names the model.

    Raises:
        Unreachable: the registry does not answer.
    """

    def __init__(self, settings: Settings, contract: Contract) -> None:
        self._registry = Registry.open(settings, contract)

    def champion(self) -> ModelInfo:
        """Return the version in service.

        Raises:
            NotFound: no version was promoted yet.
            Unreachable: the registry does not answer.
        """
        return self._registry.champion().model_info()

    def fetch(self, version: str, into: Path) -> None:
        """Put the scorer's files of a version into a folder.

        Raises:
            NotFound: the model holds no scorer.
            Unreachable: the registry does not answer.
        """
        self._registry.fetch_scorer(version, into)

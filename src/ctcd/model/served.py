"""The model that a service serves: a scorer, and what is known about where it came from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ctcd.contract.spec import Contract, names
from ctcd.errors import NotFound, UsageError
from ctcd.model.probes import verify_probes
from ctcd.model.scorer import Scorer

MODEL_FOLDER = "model"
"""In a Bento, beside our packages: the scorer's files and what is known about it."""
INFO_FILE = "version.json"
"""Stands beside the scorer's files."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Which registered model it is.

    Args:
        model_name: name of the registered model.
        version: version in the registry.
        alias: alias that it was taken by.
        run_id: the training run.
        model_uri: where the registry has it.
        creation_time: when the version was made, ISO 8601.
    """

    model_name: str
    version: str
    alias: str
    run_id: str
    model_uri: str
    creation_time: str

    def save(self, folder: Path) -> None:
        """Write it beside a scorer."""
        (folder / INFO_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote.

        Raises:
            NotFound: there is none.
            UsageError: the file is not readable as one.
        """
        path = folder / INFO_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise NotFound("no model to serve", where=str(path), hint="run: ctcd build") from error
        except (ValueError, TypeError) as error:
            raise UsageError("does not say which model this is", where=str(path)) from error


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that answers requests."""

    scorer: Scorer
    info: ModelInfo

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.info.version


def load(folder: Path, contract: Contract) -> Served:
    """Return the model of a folder, ready to answer; for what it raises see `ModelInfo.load` and `load_scorer`."""
    return Served(info=ModelInfo.load(folder), scorer=load_scorer(folder, contract))


def load_scorer(folder: Path, contract: Contract) -> Scorer:
    """Return the scorer of a folder, once it is known to fit the contract and to answer as when it was made.

    Answering its probes has warmed it, too.

    Raises:
        NotFound: there is none, or it has no probes.
        UsageError: it was made for another contract, or answers otherwise than when it was made.
    """
    scorer = Scorer.load(folder)
    _require(folder, "contract", (scorer.name, scorer.contract_version), (contract.name, contract.version))
    _require(folder, "classes", scorer.classes, contract.classes)
    _require(folder, "inputs", scorer.inputs, tuple(names(contract.model_inputs)))
    verify_probes(scorer, folder)
    return scorer


def _require(folder: Path, what: str, found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    if found != wanted:
        raise UsageError(
            f"the model's {what} are {', '.join(found)} instead of {', '.join(wanted)}",
            where=str(folder),
            hint="train and promote a model on this contract",
        )

"""The model that a service serves: a scorer, and the registered version that it is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ctcd.contract.spec import Contract, names
from ctcd.contract.traffic import Variant
from ctcd.errors import UsageError
from ctcd.model.artifact import reading
from ctcd.model.probes import verify_probes
from ctcd.model.scorer import Scorer

MODEL_FOLDER = "model"
"""Folder in a Bento: the files of the scorer, and of its version."""
INFO_FILE = "version.json"
"""File with the version, in the folder of the scorer's files."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A version of a registered model.

    Args:
        alias: alias by which it was found.
        creation_time: when the version was registered, ISO 8601.
    """

    model_name: str
    version: str
    alias: str
    run_id: str
    model_uri: str
    creation_time: str

    def save(self, folder: Path) -> None:
        """Write it to the folder of a scorer."""
        (folder / INFO_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote.

        Raises:
            NotFound: the file is missing.
            Unreachable: the file cannot be read now.
            UsageError: the file has other content.
        """
        path = folder / INFO_FILE
        wrong = "does not describe a version of a model"
        with reading(path, wrong, missing="no model to serve", hint="run: ctcd build"):
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not all(isinstance(value, str) for value in asdict(found).values()):
                raise UsageError(f"{wrong}: a value is not text", where=str(path), hint="run: ctcd build")
            return found


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a prediction comes from: what is recorded with each one.

    Args:
        run_id: training run, which tells the model from another one that had the same version number.
        contract_version: version of the contract that the model was made for.
        served_by: what computed it: an image by digest or the tag of a Bento, in batch scoring the revision of the
            source; None if nobody knows.
        variant: the model's part in the deployment, one of `Variant`.
    """

    model_version: str
    run_id: str
    contract_version: str
    served_by: str | None
    variant: str


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that answers requests, and its part in the deployment."""

    scorer: Scorer
    info: ModelInfo
    variant: Variant = Variant.CHAMPION

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.info.version

    def origin(self, served_by: str | None) -> Origin:
        """Return what is recorded with its predictions."""
        return Origin(
            model_version=self.info.version,
            run_id=self.info.run_id,
            contract_version=self.scorer.contract_version,
            served_by=served_by,
            variant=self.variant,
        )


def load(folder: Path, contract: Contract) -> Served:
    """Return the model of a folder, verified and ready to answer.

    Whatever is wrong with its files, the error is one of these, and its text says what is wrong and may be shown.

    Raises:
        NotFound: a file is missing.
        Unreachable: a file cannot be read now; trying again may help.
        UsageError: the files are no such model, or it does not fit the contract.
    """
    with reading(folder, "cannot be served"):
        return Served(info=ModelInfo.load(folder), scorer=load_scorer(folder, contract))


def load_scorer(folder: Path, contract: Contract) -> Scorer:
    """Return a folder's scorer once it is known to fit the contract and to reproduce its probes, which also warms it.

    Raises:
        NotFound: a file of the scorer or its probes are missing.
        Unreachable: a file cannot be read now.
        UsageError: it was trained for another contract, or its answers differ from those recorded after training.
    """
    scorer = Scorer.load(folder)
    _require(folder, "contract is", (scorer.name, scorer.contract_version), (contract.name, contract.version))
    _require(folder, "classes are", scorer.classes, contract.classes)
    _require(folder, "inputs are", scorer.inputs, tuple(names(contract.model_inputs)))
    verify_probes(scorer, folder)
    return scorer


def _require(folder: Path, what: str, found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    if found != wanted:
        raise UsageError(
            f"the model's {what} {', '.join(found)} instead of {', '.join(wanted)}",
            where=str(folder),
            hint="start the service with the contract of the model, or train and promote a model for this one",
        )

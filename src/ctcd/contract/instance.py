"""The instance: everything that one team writes, loaded from its folder here and passed on from here."""

import importlib
import os
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from ctcd.contract.payload import Payload
from ctcd.contract.policy_file import in_one_line
from ctcd.contract.rules import require_sound
from ctcd.contract.spec import Contract
from ctcd.contract.traffic import TrafficPolicy, load_traffic
from ctcd.errors import UsageError
from ctcd.files import PathIn

T = TypeVar("T")

_PACKAGE = "ctcd_instance_"
"""Prefix of the package name that a folder is imported under; it ends in a hash of the path, so folders never clash."""


_LOADED: dict[Path, str] = {}
"""Package name of each folder that was loaded."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A contract with its payload and its policies.

    Args:
        folder: absolute path of the instance's folder.
        contract: `CONTRACT` of `features.py`.
        payload: request and response bodies of the API, `PAYLOAD` of `payload.py`.
    """

    folder: Path
    contract: Contract
    payload: Payload

    promotion_policy = PathIn("folder", "promotion.toml")
    """File with the criteria for promoting a model."""
    training_profiles = PathIn("folder", "training.toml")
    """File with the profiles of the hyperparameter search."""
    service_levels = PathIn("folder", "service.toml")
    """File with the service levels that a load test checks."""
    monitoring_policy = PathIn("folder", "monitoring.toml")
    """File with the tolerances between a snapshot and the last accepted one."""
    traffic_policy = PathIn("folder", "traffic.toml")
    """File with the kinds of traffic that a challenger may get; it need not exist."""
    lock = PathIn("folder", "lock")
    """Folder of the committed files that are derived from the contract and the policies."""
    migrations = PathIn("folder", "migrations/versions")
    """Folder of the revisions of the store's schema."""

    @property
    def policies(self) -> tuple[Path, ...]:
        """The files of the policies."""
        known = self.promotion_policy, self.training_profiles, self.service_levels, self.monitoring_policy
        return (*known, self.traffic_policy) if os.path.lexists(self.traffic_policy) else known

    @cached_property
    def traffic(self) -> TrafficPolicy | None:
        """The kinds of traffic that a challenger may get; None: none.

        Raises:
            UsageError: the file is invalid, or does not fit the contract.
        """
        return load_traffic(self.traffic_policy, self.contract)


def load_instance(folder: Path) -> Instance:
    """Return the instance in a folder; the same folder gives the same object.

    Raises:
        UsageError: the folder or one of its modules does not exist, a module cannot be imported, or it does not define
            its object, or the contract breaks one of its rules.
    """
    return _load(folder.resolve())


@cache  # as sys.modules keeps what it has imported anyway
def _load(folder: Path) -> Instance:
    if not folder.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(folder),
            hint="run in the folder that holds contracts/, or set CTCD_CONTRACTS",
        )
    package = f"{_PACKAGE}{sha256(str(folder).encode()).hexdigest()[:12]}"
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[package] = module_from_spec(spec)
    _LOADED[folder] = package
    contract = _defined(_import(package, folder, "features"), "CONTRACT", Contract)
    require_sound(contract, str(folder / "features.py"))
    return Instance(
        folder=folder, contract=contract, payload=_defined(_import(package, folder, "payload"), "PAYLOAD", Payload)
    )


def own_module(name: str, digest: str) -> ModuleType:
    """Return a module with estimators of an instance that is loaded.

    Args:
        name: the module, such as `model` for `model.py`.
        digest: SHA-256 of its file.

    Raises:
        UsageError: no loaded instance has such a file, or it cannot be imported.
    """
    files = [folder / f"{name}.py" for folder in _LOADED if (folder / f"{name}.py").is_file()]
    for file in files:
        if code_digest(file) == digest:
            return _import(_LOADED[file.parent], file.parent, name)
    raise UsageError(
        f"is not the code that the model was made with (SHA-256 {digest[:12]}...)"
        if files
        else "there is no such file",
        where=str(files[0] if files else f"{name}.py of the instance"),
        hint="take the code of the model's revision, or train again with this one",
    )


@cache  # as the module that was imported stays the same, whatever becomes of the file
def code_digest(file: Path) -> str:
    """Return the SHA-256 of a module as it was when this process first asked; the path is absolute.

    Raises:
        UsageError: there is no such file.
    """
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(file), hint="see docs/estimators.md") from error


def _import(package: str, folder: Path, name: str) -> ModuleType:
    file = folder / f"{name}.py"
    if not file.is_file():
        raise UsageError("there is no such file", where=str(file), hint="an instance needs features.py and payload.py")
    try:
        return importlib.import_module(f"{package}.{name}")
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(file)]
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines = [error.lineno]
        where = f"{file}:{lines[-1]}" if lines else str(file)
        if isinstance(error, ValidationError):
            raise UsageError(in_one_line(error), where=where) from error
        raise UsageError(f"cannot be imported: {type(error).__name__}: {error}", where=where) from error


def _defined(module: ModuleType, name: str, kind: type[T]) -> T:
    found: Any = getattr(module, name, None)
    if not isinstance(found, kind):
        raise UsageError(f"defines no {name}", where=str(module.__file__), hint=f"{name} has to be a {kind.__name__}")
    return found

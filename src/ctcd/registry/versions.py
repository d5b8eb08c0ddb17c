"""Which version of the model is in service: MLflow's registry and its aliases.

Every change is a few calls, each of them atomic, in an order that leaves a usable registry if the process dies between
two of them, and that comes to its end when it is run again. MLflow has no compare-and-set: two promotions or rollbacks at
the same time could mix. Run one at a time, as the workflows and the DAG do (a concurrency group, `max_active_runs=1`).
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)

from ctcd.contract.spec import Contract
from ctcd.errors import GateRefused, NotFound
from ctcd.model.pyfunc import SCORER_FOLDER
from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo
from ctcd.registry.tracking import answering, connect
from ctcd.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases: the version in service, and the one that was before it."""
GATE, REASONS, AGAINST = "gate", "gate_reasons", "gate_champion"
"""Tags of a version: verdict, reasons as a JSON list, and the champion that it was compared with."""
PASSED, REFUSED, PENDING = "passed", "refused", "pending"
"""Verdicts; pending is one that is just being written."""
NOBODY = "none"
"""Stands for the champion when there was none."""
PROMOTED_AT = "promoted_at"
ROLLED_BACK, ROLLED_BACK_TO, ROLLBACK_REASON = "rolled_back", "rolled_back_to", "rolled_back_reason"
"""Tags of a version that was taken out of service: when, for which other one, and why."""
IMAGE = "image"
"""Tag of a version: the image that was released of it, by digest."""
COPIED_TAGS = ("base_dt", "profile", "contract_version", "data_hash", "git_revision")
"""Tags of the training run that its version carries too."""

_NOT_THERE = {ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE)}


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A registered version.

    Args:
        model_name: name of the registered model.
        version: number of the version.
        run_id: training run that made it.
        aliases: aliases that point to it.
        created_at: when it was registered, ISO 8601, UTC.
        tags: its tags.
        uri: where MLflow has the model.
    """

    model_name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    created_at: str
    tags: dict[str, str]
    uri: str

    def model_info(self) -> ModelInfo:
        """Return what a service tells of the version."""
        return ModelInfo(
            model_name=self.model_name,
            version=self.version,
            alias=CHAMPION,
            run_id=self.run_id,
            model_uri=self.uri,
            creation_time=self.created_at,
        )


@dataclass(frozen=True, kw_only=True)
class Move:
    """What became of the champion alias.

    Args:
        version: the champion now.
        before: the champion before, if there was one.
        changed: whether anything was changed.
    """

    version: str
    before: str | None
    changed: bool


def _translated(method: Callable[P, T]) -> Callable[P, T]:
    """Turn what MLflow raises within a method of the registry into our own errors."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        registry = args[0]
        assert isinstance(registry, Registry)  # noqa: S101 - only methods of the class below are decorated
        with answering(registry.client.tracking_uri):
            return method(*args, **kwargs)

    return call


class Registry:
    """The versions of one contract's model.

    Every method raises `Unreachable` if MLflow does not answer or refuses us.

    Args:
        client: MLflow, connected.
        contract: names the registered model.
    """

    def __init__(self, client: MlflowClient, contract: Contract) -> None:
        self.client, self._name = client, contract.name

    @classmethod
    def open(cls, settings: Settings, contract: Contract) -> Self:
        """Connect to the registry that the settings name.

        Raises:
            Unreachable: it does not answer.
            UsageError: the URI is of no kind that MLflow knows.
        """
        return cls(connect(settings), contract)

    @_translated
    def register(self, run_id: str) -> str:
        """Return the version of a training run's model, which is registered if it is not yet.

        Raises:
            NotFound: there is no such run, it is not finished, or it logged no model.
        """
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            raise NotFound(f"there is no run {run_id}", where="MLflow", hint="run: ctcd train") from error
        if run.info.status != "FINISHED" or not (run.outputs and run.outputs.model_outputs):
            raise NotFound(
                f"run {run_id} is {run.info.status.lower()} and has "
                f"{'a' if run.outputs and run.outputs.model_outputs else 'no'} model",
                where="MLflow",
                hint="run: ctcd train",
            )
        try:
            self.client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        known = self.client.search_model_versions(f"name = '{self._name}' and run_id = '{run_id}'")
        if known:
            return str(min(int(version.version) for version in known))
        model_id = run.outputs.model_outputs[0].model_id
        made = self.client.create_model_version(
            self._name,
            f"models:/{model_id}",
            run_id=run_id,
            tags={name: run.data.tags[name] for name in COPIED_TAGS if name in run.data.tags},
            model_id=model_id,
        )
        return str(made.version)

    @_translated
    def info(self, version: str) -> RegisteredVersion:
        """Return what is known of a version.

        Raises:
            NotFound: there is none of that number.
        """
        try:
            return self._info(self.client.get_model_version(self._name, version))
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            raise NotFound(
                f"there is no version {version}", where=f"registered model {self._name}", hint="run: ctcd gate"
            ) from error

    @_translated
    def find(self, alias: str) -> RegisteredVersion | None:
        """Return the version that an alias points to, or None if there is none."""
        try:
            return self._info(self.client.get_model_version_by_alias(self._name, alias))
        except MlflowException as error:
            if error.error_code not in _NOT_THERE:
                raise
            return None

    @_translated
    def champion(self) -> RegisteredVersion:
        """Return the version in service.

        Raises:
            NotFound: no version was promoted yet.
        """
        found = self.find(CHAMPION)
        if found is None:
            raise NotFound(
                "no champion yet",
                where=f"registered model {self._name}",
                hint="run: ctcd gate, then ctcd promote",
            )
        return found

    @_translated
    def newest_passed(self) -> str:
        """Return the newest version that the gate has passed and no rollback took out.

        Raises:
            NotFound: there is none.
        """
        versions = self.client.search_model_versions(f"name = '{self._name}'")
        passed = [v for v in versions if v.tags.get(GATE) == PASSED and ROLLED_BACK not in v.tags]
        if not passed:
            raise NotFound(
                "the gate has passed no version yet",
                where=f"registered model {self._name}",
                hint="run: ctcd gate",
            )
        return str(max(int(version.version) for version in passed))

    @_translated
    def record_decision(
        self, version: str, *, passed: bool, reasons: Sequence[str], champion: str | None, files: Mapping[str, str]
    ) -> None:
        """Keep a decision of the gate: as files of the training run, and as tags of the version.

        Args:
            version: the version that was judged.
            passed: the verdict.
            reasons: why it was refused.
            champion: version that it was compared with, if there was one.
            files: texts of the decision by the file's name.

        Raises:
            NotFound: there is no such version.
        """
        info = self.info(version)
        # Until all of it is written, no half of it can be taken for a pass.
        self._tag(version, GATE, PENDING)
        for name, text in files.items():
            self.client.log_text(info.run_id, text, f"gate/{name}")
        self._tag(version, AGAINST, champion or NOBODY)
        self._tag(version, REASONS, json.dumps(reasons))
        self._tag(version, GATE, PASSED if passed else REFUSED)

    @_translated
    def record_image(self, version: str, image: str) -> None:
        """Keep which image was released of a version, so that it can be deployed again later.

        Raises:
            NotFound: there is no such version.
        """
        self._tag(self.info(version).version, IMAGE, image)

    @_translated
    def promote(self, version: str) -> Move:
        """Make a version the champion; the champion of today becomes `previous`. Nothing changes if it is one already.

        `previous` is set first: if the process dies in between, both aliases name the old champion, which stays in
        service, and running it again comes to the same end.

        Raises:
            GateRefused: the gate did not pass the version, passed it against a champion that has changed since, or a
                rollback was interrupted.
            NotFound: there is no such version.
        """
        info, before = self.info(version), self.find(CHAMPION)
        if before is not None and before.version == info.version:
            # Perhaps it died just before this tag.
            if PROMOTED_AT not in info.tags:
                self._tag(info.version, PROMOTED_AT, _now())
            return Move(version=info.version, before=before.version, changed=False)
        self._require_pass(info, before)
        if before is not None:
            self.client.set_registered_model_alias(self._name, PREVIOUS, before.version)
        self.client.set_registered_model_alias(self._name, CHAMPION, info.version)
        self._tag(info.version, PROMOTED_AT, _now())
        return Move(version=info.version, before=before.version if before else None, changed=True)

    @_translated
    def require_pass(self, version: str) -> None:
        """Raise unless a version is the champion, or may become it.

        Raises:
            GateRefused: as `promote` does.
            NotFound: there is no such version.
        """
        info, champion = self.info(version), self.find(CHAMPION)
        if champion is None or champion.version != info.version:
            self._require_pass(info, champion)

    def _require_pass(self, info: RegisteredVersion, champion: RegisteredVersion | None) -> None:
        where = f"version {info.version} of {self._name}"
        if champion is not None and ROLLED_BACK_TO in champion.tags:
            raise GateRefused("a rollback was interrupted", where=where, hint="run: ctcd rollback")
        verdict = info.tags.get(GATE)
        if verdict == REFUSED:
            reasons = "; ".join(json.loads(info.tags.get(REASONS, "[]")))
            raise GateRefused(f"the gate refused it: {reasons}", where=where, hint="train a better model")
        if verdict != PASSED or ROLLED_BACK in info.tags:
            raise GateRefused("the gate has not passed it", where=where, hint="run: ctcd gate")
        now = champion.version if champion else NOBODY
        if info.tags.get(AGAINST) != now:
            raise GateRefused(
                f"it was compared with champion {info.tags.get(AGAINST)}, but the champion is {now} now",
                where=where,
                hint="run: ctcd gate",
            )

    @_translated
    def rollback(self, to: str | None = None, *, reason: str = "") -> Move:
        """Put the previous champion, or a given version that was champion once, back into service.

        The version taken out is marked with time and reason, and the gate refuses it from then on. `previous` is
        removed: one rollback does not undo another. The mark is written first and names where to go, so that a rollback
        that was killed finds its way when it is run again.

        Args:
            to: version to go to; without it, the previous champion.
            reason: why, for the record.

        Raises:
            NotFound: there is no champion, no previous one, or no such version; nothing is changed.
            GateRefused: the version given was neither champion before nor passed by the gate; nothing is changed.
        """
        champion, target = self.champion(), self.rollback_target(to)
        if target.version == champion.version:
            return Move(version=champion.version, before=champion.version, changed=False)
        for tag in (ROLLED_BACK_TO, ROLLED_BACK, ROLLBACK_REASON):
            if tag in target.tags:
                self.client.delete_model_version_tag(self._name, target.version, tag)
        self._tag(champion.version, ROLLED_BACK, _now())
        self._tag(champion.version, ROLLBACK_REASON, reason or "not given")
        self._tag(champion.version, ROLLED_BACK_TO, target.version)
        if self.find(PREVIOUS) is not None:
            self.client.delete_registered_model_alias(self._name, PREVIOUS)
        self.client.set_registered_model_alias(self._name, CHAMPION, target.version)
        self._tag(target.version, PROMOTED_AT, _now())
        return Move(version=target.version, before=champion.version, changed=True)

    @_translated
    def rollback_target(self, to: str | None = None) -> RegisteredVersion:
        """Return the version that `rollback` would go back to; for arguments and what it raises see there."""
        champion = self.champion()
        target = self.info(to) if to is not None else self._rollback_target(champion)
        if target.version != champion.version and PROMOTED_AT not in target.tags and target.tags.get(GATE) != PASSED:
            raise GateRefused(
                "the gate never passed it",
                where=f"version {target.version} of {self._name}",
                hint="name a version that was champion before",
            )
        return target

    def _rollback_target(self, champion: RegisteredVersion) -> RegisteredVersion:
        if ROLLED_BACK_TO in champion.tags:
            return self.info(champion.tags[ROLLED_BACK_TO])
        previous = self.find(PREVIOUS)
        # A promotion that was killed half-way leaves both aliases on one version.
        if previous is None or previous.version == champion.version:
            raise NotFound(
                "no previous champion to go back to",
                where=f"registered model {self._name}",
                hint="name a version: ctcd rollback --to VERSION",
            )
        return previous

    @_translated
    def scorer(self, info: RegisteredVersion, cache: Path) -> Scorer:
        """Return the scorer of a version; see `scorer_folder`."""
        return Scorer.load(self.scorer_folder(info, cache))

    @_translated
    def model_folder(self, version: str, into: Path) -> Path:
        """Download all files of a version's model below a folder, and return where they are.

        Raises:
            NotFound: there is no such version.
            OSError: its files are gone.
        """
        uri = self.info(version).uri
        into.mkdir(parents=True, exist_ok=True)
        return Path(
            download_artifacts(
                artifact_uri=uri,
                dst_path=str(into),
                tracking_uri=self.client.tracking_uri,
                registry_uri=self.client.tracking_uri,
            )
        )

    @_translated
    def scorer_folder(self, info: RegisteredVersion, cache: Path) -> Path:
        """Fetch the scorer's files of a version into a folder of its own below `cache`, and return that folder.

        What an earlier call left there is replaced in one step.

        Raises:
            NotFound: its model holds no scorer.
        """
        # The run tells it from a version of the same number in another registry.
        return self.fetch_scorer(info.version, cache / f"{info.version}-{info.run_id}")

    @_translated
    def fetch_scorer(self, version: str, into: Path) -> Path:
        """Put the scorer's files of a version into a folder, replacing what is there in one step; return the folder.

        Raises:
            NotFound: there is no such version, or its model holds no scorer.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as scratch:
            try:
                found = self.model_folder(version, Path(scratch) / "model") / SCORER_FOLDER
            except OSError as error:
                raise self._no_scorer(version) from error
            if not found.is_dir():
                raise self._no_scorer(version)
            if into.exists():
                into.rename(Path(scratch) / "old")
            shutil.move(found, into)
        return into

    def _no_scorer(self, version: str) -> NotFound:
        return NotFound("its files are gone", where=f"version {version} of {self._name}", hint="train another one")

    def _tag(self, version: str, name: str, value: str) -> None:
        self.client.set_model_version_tag(self._name, version, name, value)

    def _info(self, found: ModelVersion) -> RegisteredVersion:
        return RegisteredVersion(
            model_name=self._name,
            version=str(found.version),
            run_id=str(found.run_id),
            aliases=tuple(sorted(str(alias) for alias in found.aliases)),
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(),
            tags={str(name): str(value) for name, value in found.tags.items()},
            uri=f"models:/{self._name}/{found.version}",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""The versions of the model in MLflow's registry, and the aliases that say which one is in service.

Every change is a few atomic calls, ordered so that a process killed between two of them leaves a usable registry, and
so that running it again completes the change. MLflow has no compare-and-set, so concurrent promotions or rollbacks
could interleave: run one at a time, as the workflows (concurrency group) and the DAG (`max_active_runs=1`) do.
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion

from ctcd.contract.spec import Contract
from ctcd.contract.traffic import Experiment
from ctcd.errors import GateRefused, NotFound
from ctcd.files import replacing_folder
from ctcd.registry import NOT_GIVEN, traffic
from ctcd.registry.history import Change, History, What
from ctcd.registry.tracking import connect, require_artifacts, translate_mlflow_errors, unless_exists, unless_missing
from ctcd.settings import Settings
from ctcd.times import moment

if TYPE_CHECKING:
    from ctcd.model.scorer import Scorer
    from ctcd.model.served import ModelInfo

SCORER_FOLDER = "artifacts/scorer"
"""Folder of the scorer's files within a logged model: MLflow keeps a pyfunc model's artifacts in `artifacts`."""
CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases: the version in service, and the one that was in service before it."""
GATE, REASONS, AGAINST = "gate", "gate_reasons", "gate_champion"
"""Tags of a version: the gate's verdict, its reasons as a JSON list, and the champion that it was compared with."""
PASSED, REFUSED, PENDING = "passed", "refused", "pending"
"""Verdicts; pending while a decision is being written."""
NO_CHAMPION = "none"
"""Value of the tag when there was no champion."""
DECISION, PROMOTED_BY, PROMOTED_AT = "gate_decision", "promoted_by", "promoted_at"
"""Tags of a version: numbers of the newest decision about it and of the one that promoted it, and when it was."""
DECISIONS = "gate"
"""Folder of a run with the decisions about its model: `<number>.html`, `.md` and `.json`, and its plots."""
ROLLED_BACK, ROLLED_BACK_TO, ROLLBACK_REASON = "rolled_back", "rolled_back_to", "rolled_back_reason"
"""Tags of a version that was rolled back: when, to which version, and why."""
UNKNOWN = "unknown"
"""Recorded version and run of a challenger that was not started by a command."""
IMAGE = "image"
"""Tag of a version: digest of the image that was released with it."""
DESCRIBED = "Gate: "
"""Beginning of a version's description that the gate wrote, not a person."""
DESCRIPTION_LENGTH = 5_000
"""Characters of a description that MLflow's databases keep; a longer one is refused by all but SQLite."""
COPIED_TAGS = ("base_dt", "profile", "estimator", "contract_version", "data_hash", "git_revision")
"""Tags of the training run that are copied to its version."""

_NUMBER, _LAST_VERSION = re.compile("[1-9][0-9]{0,9}"), 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A registered version.

    Args:
        version: version number, as text.
        run_id: MLflow run of the training that produced it.
        aliases: aliases that point to it, sorted.
        created_at: time of registration, ISO 8601, UTC.
        tags: MLflow tags by name.
        uri: model URI, `models:/<name>/<version>`.
    """

    model_name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    created_at: str
    tags: dict[str, str]
    uri: str

    def model_info(self, alias: str = CHAMPION) -> "ModelInfo":
        """Return what a service reports about the version, which it has found by an alias."""
        from ctcd.model.served import ModelInfo

        return ModelInfo(
            model_name=self.model_name,
            version=self.version,
            alias=alias,
            run_id=self.run_id,
            model_uri=self.uri,
            creation_time=self.created_at,
        )


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of the champion alias.

    Args:
        version: the champion afterwards.
        before: the champion beforehand, if there was one.
        changed: False if that version was the champion already.
    """

    version: str
    before: str | None
    changed: bool


@translate_mlflow_errors
class Registry:
    """The versions of one contract's model.

    Every method raises `Unreachable` if MLflow does not answer or denies access.

    Args:
        client: a client from `tracking.connect`.
        contract: its name is the name of the registered model.
        settings: say who makes changes, and where artifacts are stored without a server; by default, missing artifacts
            are not explained.
    """

    def __init__(self, client: MlflowClient, contract: Contract, settings: Settings | None = None) -> None:
        self.client, self._name, self._settings = client, contract.name, settings
        self._where = f"registered model {contract.name}"
        self._description = _cut(
            f"Predicts `{contract.label.name}` ({contract.label.meaning}). The alias `{CHAMPION}` is in service. Each "
            f"version's description says what the gate decided about it. Classes: {', '.join(contract.classes)}.",
            DESCRIPTION_LENGTH,
        )
        self._history = History(client, contract.name, settings or Settings())

    @classmethod
    def open(cls, settings: Settings, contract: Contract) -> Self:
        """Connect to the registry that the settings name.

        Raises:
            Unreachable: it does not answer.
            UsageError: MLflow does not support this kind of URI.
        """
        return cls(connect(settings), contract, settings)

    def register(self, run_id: str) -> str:
        """Register a training run's model, unless it already is, and return its version.

        Raises:
            NotFound: the run does not exist, is not finished, or has logged no model.
        """
        run = unless_missing(self.client.get_run, run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id}", where="MLflow", hint="run: ctcd train")
        if run.info.status != "FINISHED" or not (run.outputs and run.outputs.model_outputs):
            raise NotFound(
                f"run {run_id} is {run.info.status.lower()} and has "
                f"{'a' if run.outputs and run.outputs.model_outputs else 'no'} model",
                where="MLflow",
                hint="run: ctcd train",
            )
        with unless_exists():
            self.client.create_registered_model(self._name, description=self._description)
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

    def info(self, version: str) -> RegisteredVersion:
        """Return a version.

        Raises:
            NotFound: it does not exist.
        """
        found = None
        # A number that its database cannot hold is an internal error to MLflow.
        if _NUMBER.fullmatch(version) and int(version) <= _LAST_VERSION:
            found = unless_missing(self.client.get_model_version, self._name, version)
        if found is None:
            raise NotFound(
                f"there is no version {version or repr(version)}", where=self._where, hint="see: ctcd models"
            )
        return self._info(found)

    def find(self, alias: str) -> RegisteredVersion | None:
        """Return the version that an alias points to, or None if the alias is not set."""
        found = unless_missing(self.client.get_model_version_by_alias, self._name, alias)
        return None if found is None else self._info(found)

    def champion(self) -> RegisteredVersion:
        """Return the version in service.

        Raises:
            NotFound: no version has been promoted yet.
        """
        found = self.find(CHAMPION)
        if found is None:
            raise NotFound("no champion yet", where=self._where, hint="run: ctcd gate, then ctcd promote")
        return found

    def challenger(self) -> tuple[RegisteredVersion, Experiment] | None:
        """Return the version that an experiment is about, with the experiment; None if none runs.

        Raises:
            NotFound: the version does not exist any more.
            UsageError: see `traffic.read`.
        """
        experiment = traffic.read(self.client, self._name)
        return None if experiment is None else (self.info(experiment.version), experiment)

    def versions(self) -> list[RegisteredVersion]:
        """Return all versions, the newest first; empty if there is none."""
        model = unless_missing(self.client.get_registered_model, self._name)
        if model is None:
            return []
        found = map(self._info, self.client.search_model_versions(f"name = '{self._name}'"))
        # A search over HTTP does not return the aliases.
        named = (
            replace(
                each,
                aliases=tuple(
                    sorted(alias for alias, version in model.aliases.items() if str(version) == each.version)
                ),
            )
            for each in found
        )
        return sorted(named, key=lambda each: int(each.version), reverse=True)

    def newest_passed(self) -> str:
        """Return the newest version that the gate has passed and that was not rolled back.

        Raises:
            NotFound: there is none.
        """
        for each in self.versions():
            if each.tags.get(GATE) == PASSED and ROLLED_BACK not in each.tags:
                return each.version
        raise NotFound("the gate has passed no version yet", where=self._where, hint="run: ctcd gate")

    def next_decision(self, version: str) -> int:
        """Return the number of the next decision about a version, from 1; no number is given twice.

        Raises:
            NotFound: the version does not exist.
        """
        files = self.client.list_artifacts(self.info(version).run_id, DECISIONS)
        numbers = [PurePosixPath(file.path).name.partition(".")[0] for file in files]
        return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)

    def record_decision(
        self,
        version: str,
        number: int,
        *,
        passed: bool | None,
        reasons: Sequence[str],
        champion: str | None,
        files: Mapping[str, str],
        description: str = "",
    ) -> None:
        """Record a decision of the gate: as files of the training run, and as tags of the version.

        Args:
            version: the version that was evaluated.
            number: from `next_decision`.
            passed: whether it may be promoted; None if nothing was decided, because it is the champion: its tags stay.
            reasons: reasons for a refusal.
            champion: version of the champion that it was compared with, if there was one.
            files: content by file name, stored in the run's folder of decisions, in this order.
            description: Markdown that MLflow shows of the version; one that a person wrote stays.

        Raises:
            NotFound: the version does not exist.
        """
        info = self.info(version)
        # Pending until everything is written, so that an incomplete record is never read as a pass.
        if passed is not None:
            self._tag(version, GATE, PENDING)
        for name, text in files.items():
            self.client.log_text(info.run_id, text, f"{DECISIONS}/{name}")
        if passed is None:
            return
        self._tag(version, DECISION, str(number))
        self._tag(version, AGAINST, champion or NO_CHAMPION)
        self._tag(version, REASONS, json.dumps(reasons))
        self._describe(version, info.run_id, number, description)
        # So that runs can be filtered by it too.
        self.client.set_tag(info.run_id, GATE, PASSED if passed else REFUSED)
        self._tag(version, GATE, PASSED if passed else REFUSED)

    def _describe(self, version: str, run_id: str, number: int, text: str) -> None:
        found = self.client.get_model_version(self._name, version).description or ""
        if found and not found.startswith(DESCRIBED):
            return
        # Relative to the page of MLflow's UI that shows it, whatever its address is.
        experiment = self.client.get_run(run_id).info.experiment_id
        page = f"#/experiments/{experiment}/runs/{run_id}/artifacts/{DECISIONS}/{number}.html"
        text, link = f"{DESCRIBED}{text}", f"\n\n[Decision {number} with its evidence]({page})"
        text = _cut(text, DESCRIPTION_LENGTH - len(link))  # the evidence has all of it
        self.client.update_model_version(self._name, version, f"{text}{link}")

    def decisions(self, version: str) -> list[str]:
        """Return the recorded decisions about a version as JSON texts, the oldest first.

        Raises:
            NotFound: the version does not exist, the gate has not judged it, or what it decided is not on record.
        """
        info, last = self.info(version), self.next_decision(version)
        with tempfile.TemporaryDirectory() as folder:
            texts = []
            if last > 1:
                files = Path(self.client.download_artifacts(info.run_id, DECISIONS, folder))
                known = (files / f"{number}.json" for number in range(1, last))
                texts = [file.read_text(encoding="utf-8") for file in known if file.exists()]
        if not texts and GATE in info.tags:
            # Deleted from the run, or made when decisions had no numbers: there is no installation with such records.
            raise NotFound(
                f"the verdict on version {version} is {info.tags[GATE]!r}, but its decision is not on record",
                where=self._where,
                hint=f"look at the artifacts of run {info.run_id}, or judge it again: ctcd gate --version {version}",
            )
        if not texts:
            raise NotFound(f"the gate has not judged version {version}", where=self._where, hint="run: ctcd gate")
        return texts

    def decision_pages(self, version: str) -> dict[str, str]:
        """Return the pages about the decisions about a version, by their file names; empty if there are none.

        Raises:
            NotFound: the version does not exist.
        """
        if self.next_decision(version) == 1:
            return {}
        with tempfile.TemporaryDirectory() as folder:
            files = Path(self.client.download_artifacts(self.info(version).run_id, DECISIONS, folder))
            return {file.name: file.read_text(encoding="utf-8") for file in sorted(files.glob("*.html"))}

    def record_image(self, version: str, image: str) -> None:
        """Record the image that a version was released with, so that it can be deployed again later.

        Raises:
            NotFound: the version does not exist.
        """
        self._tag(self.info(version).version, IMAGE, image)

    def record_deployment(
        self, info: RegisteredVersion, *, before: str | None, reason: str, target: str, artifact: str
    ) -> None:
        """Record that a version was deployed; see `Change`."""
        self._history.record(
            What.DEPLOYED, info.version, info.run_id, before=before, why=reason, target=target, artifact=artifact
        )

    def record_stop(self, *, reason: str, target: str) -> None:
        """Record that nothing runs at a target any more, if the last change there on record is a deployment."""
        there = [each for each in self._history.changes() if each.target == target]
        if there and there[-1].what == What.DEPLOYED:
            last = there[-1]
            self._history.record(
                What.STOPPED, last.version, last.run_id, why=reason, target=target, artifact=last.artifact
            )

    def changes(self) -> list[Change]:
        """Return who promoted, rolled back, deployed and stopped what, when and why, the oldest first.

        Of versions that became champion before this was recorded, only the last promotion is known.
        """
        found = self._history.changes()
        # They wrote this tag again; deployments and withdrawals did not.
        known = {each.run_id for each in found if each.what in {What.PROMOTED, What.ROLLED_BACK}}
        older = [
            Change(at=each.tags[PROMOTED_AT], what=What.PROMOTED, version=each.version, run_id=each.run_id)
            for each in self.versions()
            if PROMOTED_AT in each.tags and each.run_id not in known
        ]
        return sorted([*older, *found], key=lambda each: each.at)

    def promote(self, version: str, *, reason: str = "") -> Move:
        """Make a version the champion, and the current champion `previous`; nothing changes if it is the champion.

        `previous` is set first: if the process is killed in between, both aliases point to the old champion, which
        stays in service, and running it again completes the promotion.

        Raises:
            GateRefused: the gate has not passed the version, the champion has changed since it did, or a rollback was
                interrupted.
            NotFound: the version does not exist.
        """
        info, before = self.info(version), self.find(CHAMPION)
        if before is not None and before.version == info.version:
            # A promotion may have been killed just before it set this tag.
            if PROMOTED_AT not in info.tags:
                self._tag(info.version, PROMOTED_AT, _now())
            return Move(version=info.version, before=before.version, changed=False)
        self._require_pass(info, before)
        self._history.record(
            What.PROMOTED, info.version, info.run_id, before=before.version if before else None, why=reason
        )
        self._tag(info.version, PROMOTED_BY, info.tags.get(DECISION, ""))
        if before is not None:
            self.client.set_registered_model_alias(self._name, PREVIOUS, before.version)
        self.client.set_registered_model_alias(self._name, CHAMPION, info.version)
        self._tag(info.version, PROMOTED_AT, _now())
        return Move(version=info.version, before=before.version if before else None, changed=True)

    def require_pass(self, version: str) -> None:
        """Check that a version is the champion or could be promoted now.

        Raises:
            GateRefused: it could not be promoted; see `promote`.
            NotFound: the version does not exist.
        """
        info, champion = self.info(version), self.find(CHAMPION)
        if champion is None or champion.version != info.version:
            self._require_pass(info, champion)

    def _require_pass(self, info: RegisteredVersion, champion: RegisteredVersion | None) -> None:
        where = f"version {info.version} of {self._name}"
        if champion is not None and ROLLED_BACK_TO in champion.tags:
            raise GateRefused("a rollback was interrupted", where=where, hint="run: ctcd rollback")
        if ROLLED_BACK in info.tags:
            when, why = moment(info.tags[ROLLED_BACK]), info.tags.get(ROLLBACK_REASON, NOT_GIVEN)
            raise GateRefused(f"it was rolled back at {when}, reason: {why}", where=where, hint="train another model")
        verdict = info.tags.get(GATE)
        if verdict == REFUSED:
            reasons = "; ".join(json.loads(info.tags.get(REASONS, "[]")))
            raise GateRefused(f"the gate refused it: {reasons}", where=where, hint="train a better model")
        if verdict != PASSED:
            raise GateRefused("the gate has not passed it", where=where, hint="run: ctcd gate")
        now = champion.version if champion else NO_CHAMPION
        if info.tags.get(AGAINST) != now:
            raise GateRefused(
                f"it was compared with champion {info.tags.get(AGAINST)}, but the champion is {now} now",
                where=where,
                hint="run: ctcd gate",
            )

    def rollback(self, to: str | None = None, *, reason: str = "") -> Move:
        """Make the previous champion, or a given earlier one, the champion again.

        The version rolled back is tagged with time, reason and target, and the gate refuses it from then on. `previous`
        is removed, so that a second rollback does not undo the first. The tags are written first, so that a rollback
        that was killed continues to the same target when it is run again.

        Args:
            to: version to roll back to; by default the previous champion.
            reason: recorded as a tag.

        Raises:
            NotFound: there is no such version; or, without one, no champion or none before it; nothing is changed.
            GateRefused: the given version was never champion and the gate has not passed it; nothing is changed.
        """
        champion, target = self.find(CHAMPION), self.rollback_target(to)
        if champion is not None and target.version == champion.version:
            return Move(version=champion.version, before=champion.version, changed=False)
        for tag in (ROLLED_BACK_TO, ROLLED_BACK, ROLLBACK_REASON):
            if tag in target.tags:
                self.client.delete_model_version_tag(self._name, target.version, tag)
        if champion is not None:
            self._mark_rolled_back(champion.version, reason)
            self._tag(champion.version, ROLLED_BACK_TO, target.version)
        if self.find(PREVIOUS) is not None:
            self.client.delete_registered_model_alias(self._name, PREVIOUS)
        self._history.record(
            What.ROLLED_BACK, target.version, target.run_id, before=champion.version if champion else None, why=reason
        )
        self.client.set_registered_model_alias(self._name, CHAMPION, target.version)
        self._tag(target.version, PROMOTED_AT, _now())
        return Move(version=target.version, before=champion.version if champion else None, changed=True)

    def withdraw(self, version: str, *, reason: str) -> None:
        """Take the champion out of service if there is no version to roll back to; there is no champion then.

        It is marked as rolled back; only `rollback` with its number makes it the champion again.
        """
        self._history.record(What.WITHDRAWN, version, self.info(version).run_id, why=reason)
        self._mark_rolled_back(version, reason)
        # A promotion that was killed halfway has left it.
        if self.find(PREVIOUS) is not None:
            self.client.delete_registered_model_alias(self._name, PREVIOUS)
        self.client.delete_registered_model_alias(self._name, CHAMPION)

    def challenge(self, experiment: Experiment, *, reason: str) -> None:
        """Make a version the challenger in an experiment, or change the running one, and record it.

        Raises:
            GateRefused: the version could not be promoted now; see `promote`.
            NotFound: it does not exist.
        """
        self.require_pass(experiment.version)
        info, champion = self.info(experiment.version), self.champion()
        step = f", step {experiment.step}" if experiment.step else ""
        self._history.record(
            What.CHALLENGES,
            info.version,
            info.run_id,
            before=champion.version,
            why=reason,
            target=f"{experiment.mode}{step}, {experiment.share:.0%}",
        )
        traffic.write(self.client, self._name, experiment)

    def end_challenge(self, version: str, *, reason: str, lost: bool = False) -> None:
        """End the experiment of a version and record it: the champion answers all requests again.

        A version that has lost is marked as rolled back, so it can be promoted only by a rollback to it. That is done
        first: if the process is killed in between, the version no longer passes the gate, and the next judgement ends
        the experiment.
        """
        info = self.info(version)
        self._history.record(
            What.CHALLENGE_LOST if lost else What.CHALLENGE_ENDED, info.version, info.run_id, why=reason
        )
        if lost:
            self._mark_rolled_back(info.version, reason)
        traffic.clear(self.client, self._name)

    def clear_challenge(self, *, reason: str) -> bool:
        """End and record the experiment even if its alias, tag or version was changed by hand.

        The record names the version that was started last. Returns False if there is neither alias nor tag.
        """
        text, version = traffic.named(self.client, self._name)
        if text is None and version is None:
            return False
        known = [(each.version, each.run_id) for each in self._history.changes() if each.what == What.CHALLENGES]
        ended, run_id = known[-1] if known else (version or UNKNOWN, UNKNOWN)
        self._history.record(What.CHALLENGE_ENDED, ended, run_id, why=reason)
        traffic.clear(self.client, self._name)
        return True

    def _mark_rolled_back(self, version: str, reason: str) -> None:
        self._tag(version, ROLLED_BACK, _now())
        self._tag(version, ROLLBACK_REASON, reason or NOT_GIVEN)

    def rollback_target(self, to: str | None = None) -> RegisteredVersion:
        """Return the version that `rollback` would make the champion; same arguments and errors."""
        champion = self.find(CHAMPION)
        target = self._rollback_target(champion or self.champion()) if to is None else self.info(to)
        known = champion is not None and champion.version == target.version
        if not known and PROMOTED_AT not in target.tags and target.tags.get(GATE) != PASSED:
            raise GateRefused(
                "the gate never passed it",
                where=f"version {target.version} of {self._name}",
                hint="give a version that was champion before",
            )
        return target

    def _rollback_target(self, champion: RegisteredVersion) -> RegisteredVersion:
        if ROLLED_BACK_TO in champion.tags:
            return self.info(champion.tags[ROLLED_BACK_TO])
        previous = self.find(PREVIOUS)
        # A promotion that was killed halfway leaves both aliases on the same version.
        if previous is None or previous.version == champion.version:
            raise NotFound(
                "no previous champion to roll back to",
                where=self._where,
                hint="give a version: ctcd rollback --to VERSION",
            )
        return previous

    def scorer(self, info: RegisteredVersion, cache: Path) -> "Scorer":
        """Return the scorer of a version; see `scorer_folder` and `Scorer.load`."""
        from ctcd.model.scorer import Scorer

        return Scorer.load(self.scorer_folder(info, cache))

    def model_folder(self, version: str, into: Path) -> Path:
        """Download all files of a version's model into a folder, and return the path of the model in it.

        Raises:
            NotFound: the version does not exist, or the home was moved.
            OSError: its files are missing.
        """
        uri = self.info(version).uri
        experiment = self.client.get_experiment_by_name(self._name)
        if experiment is not None and self._settings is not None:
            # First, because MLflow makes the folder that it does not find.
            require_artifacts(experiment, self._settings)
        into.mkdir(parents=True, exist_ok=True)
        return Path(
            download_artifacts(
                artifact_uri=uri,
                dst_path=str(into),
                tracking_uri=self.client.tracking_uri,
                registry_uri=self.client.tracking_uri,
            )
        )

    def scorer_folder(self, info: RegisteredVersion, cache: Path) -> Path:
        """Download the files of a version's scorer into a folder of its own in `cache`, and return that folder.

        They are always downloaded, since they may have been repaired in the registry. Those of an earlier call stay if
        they are the same, so that whoever reads them meanwhile misses none; otherwise see `replacing_folder`.

        Raises:
            NotFound: its model has no scorer.
        """
        # The run distinguishes it from a version with the same number in another registry.
        folder = cache / f"{info.version}-{info.run_id}"
        with replacing_folder(folder) as new:
            self.fetch_scorer(info.version, new)
        return folder

    def fetch_scorer(self, version: str, into: Path) -> Path:
        """Download the files of a version's scorer into a new folder, which is complete once it exists; return it.

        Raises:
            NotFound: the version does not exist, its model has no scorer, or the home was moved.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as scratch:
            try:
                found = self.model_folder(version, Path(scratch) / "model") / SCORER_FOLDER
            except OSError as error:
                raise self._no_scorer(version) from error
            if not found.is_dir():
                raise self._no_scorer(version)
            found.rename(into)
        return into

    def _no_scorer(self, version: str) -> NotFound:
        return NotFound("its files are missing", where=f"version {version} of {self._name}", hint="train another one")

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


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

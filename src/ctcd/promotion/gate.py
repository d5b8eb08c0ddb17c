"""The gate as a stage: from a training run to a recorded decision."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

import mlflow.pyfunc
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.files import write_text
from ctcd.model.metrics import Scores
from ctcd.progress import Progress, silent
from ctcd.promotion.decision import Decision, Status, decide, to_json, to_markdown
from ctcd.promotion.evaluation import Model, Report, evaluate
from ctcd.promotion.policy import Policy, Slices
from ctcd.registry import tracking
from ctcd.registry.versions import CHAMPION, ROLLED_BACK, RegisteredVersion, Registry
from ctcd.settings import Settings
from ctcd.training import runs


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """What the gate decided about a training run.

    Args:
        version: the version that the run's model is registered as.
        run_id: the run.
        status: the verdict.
        promote: whether the version may be promoted.
        reasons: why it may not; empty if it may.
        decision: every rule with value, limit and verdict.
        candidate: scores of the candidate on its holdout; None if it could not be scored.
        champion: scores of the champion on the same rows; None if there is none or it could not be scored.
        json_file: the decision for programs.
        markdown_file: the decision for people.
    """

    version: str
    run_id: str
    status: Status
    promote: bool
    reasons: tuple[str, ...]
    decision: Decision
    candidate: Scores | None
    champion: Scores | None
    json_file: str
    markdown_file: str


def gate(
    registry: Registry,
    settings: Settings,
    contract: Contract,
    policy: Policy,
    *,
    run_id: str | None = None,
    base_dt: date | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> GateOutcome:
    """Decide whether the model of a training run may become the champion, and keep the decision.

    The run's model is registered, also if it is refused. Candidate and champion are scored on the candidate's holdout
    through the same predict call. The decision goes to the registry, to the run, and as `<version>.json` and
    `<version>.md` to the folder `decisions` of the reports. Nothing is promoted. Run again, it decides again.

    Args:
        registry: where versions are.
        settings: where reports go.
        contract: contract in force.
        policy: what a model must reach.
        run_id: training run of the candidate; without it, the newest finished one.
        base_dt: takes the newest of that day's.
        today: day to which the days since the training data are counted; without it, today in the configured time zone.
            Give another one only to judge as of that day, as a run on the data of a day long past does.
        progress: told of the models that are scored.

    Raises:
        NotFound: there is no such run, or its evidence is gone.
        UsageError: the policy's classes or slices are not those of the contract.
        Unreachable: MLflow does not answer.
    """
    policy.require_contract(contract)
    client, today = registry.client, today or settings.today()
    with tracking.answering(client.tracking_uri):
        run_id = run_id or newest_run(client, settings, contract, base_dt)
        version = registry.register(run_id)
        champion = registry.find(CHAMPION)
        holdout = _evidence(client, run_id, runs.HOLDOUT_FILE)
        competes = champion is not None and champion.run_id != run_id
        total = 1 + competes
        progress("models scored", 0, total)
        report = _report(client, registry, registry.info(version), holdout, contract, policy=policy, today=today)
        progress("models scored", 1, total)
        other = report if champion is not None else None
        if champion is not None and competes:
            other = _report(client, registry, champion, holdout, contract, policy=policy, today=today)
            progress("models scored", 2, total)
        decision = decide(report, other, policy)
        texts = {".json": json.dumps(to_json(decision), indent=2) + "\n", ".md": to_markdown(decision)}
        # That a version is the champion already is no verdict: the decision that made it so stays.
        if decision.status is not Status.ALREADY_CHAMPION:
            registry.record_decision(
                version,
                passed=decision.promote,
                reasons=decision.reasons,
                champion=decision.champion,
                files={f"decision{suffix}": text for suffix, text in texts.items()},
            )
    json_file, markdown_file = _write(settings.reports / "decisions", decision, texts)
    return GateOutcome(
        version=version,
        run_id=run_id,
        status=decision.status,
        promote=decision.promote,
        reasons=decision.reasons,
        decision=decision,
        candidate=report.scores,
        champion=other.scores if other else None,
        json_file=str(json_file),
        markdown_file=str(markdown_file),
    )


def newest_run(client: MlflowClient, settings: Settings, contract: Contract, base_dt: date | None) -> str:
    """Return the newest finished training run, of a day if one is given.

    Raises:
        NotFound: there is none.
    """
    condition = f"tags.{runs.KIND} = '{runs.TRAINING}' and attributes.status = 'FINISHED'"
    if base_dt is not None:
        condition += f" and tags.base_dt = '{base_dt.isoformat()}'"
    experiment = tracking.experiment_id(client, contract, settings)
    found = client.search_runs([experiment], condition, order_by=["attributes.start_time DESC"], max_results=1)
    if not found:
        day = f" for {base_dt.isoformat()}" if base_dt else ""
        raise NotFound(f"no finished training{day}", where=f"experiment {contract.name}", hint="run: ctcd train")
    return str(found[0].info.run_id)


def _report(
    client: MlflowClient,
    registry: Registry,
    info: RegisteredVersion,
    holdout: pd.DataFrame,
    contract: Contract,
    *,
    policy: Policy,
    today: date,
) -> Report:
    """Load a version and score it on the holdout."""
    seen = _evidence(client, info.run_id, runs.SEEN_GROUPS_FILE)[contract.group.name]
    with tempfile.TemporaryDirectory() as folder, _path_kept():
        model, size = _load(registry, info.version, Path(folder))
        return evaluate(
            model,
            holdout,
            contract,
            version=info.version,
            run_id=info.run_id,
            contract_version=info.tags.get("contract_version", "unknown"),
            trained_on=_day(info.tags.get("base_dt", "")),
            judged_on=today,
            seen_groups=frozenset(seen),
            artifact_bytes=size,
            slices=policy.slices.by if isinstance(policy.slices, Slices) else {},
            rolled_back=ROLLED_BACK in info.tags,
        )


def _day(text: str) -> date | None:
    """Return the day that a tag names, or None: a version whose tag is missing or spoiled has none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


class _Unloadable:
    """Stands for a model that could not be loaded."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Raise what loading raised."""
        del data
        raise self._error


def _load(registry: Registry, version: str, into: Path) -> tuple[Model, int]:
    """Return a version's model and the size of its files in bytes."""
    try:
        folder = registry.model_folder(version, into)
    except OSError as error:
        return _Unloadable(error), 0
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        return cast("Model", mlflow.pyfunc.load_model(str(folder))), size
    except Exception as error:  # noqa: BLE001 - the model is foreign code: whatever it raises is a reason to refuse it
        return _Unloadable(error), size


@contextmanager
def _path_kept() -> Iterator[None]:
    """Take back what loading a model puts on the module path: its folder will be gone."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _evidence(client: MlflowClient, run_id: str, name: str) -> pd.DataFrame:
    """Return a table that training kept beside the model.

    Raises:
        NotFound: it is gone.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = download_artifacts(
                run_id=run_id,
                artifact_path=f"{runs.EVIDENCE}/{name}",
                dst_path=folder,
                tracking_uri=client.tracking_uri,
            )
            return pd.read_parquet(path)
        except OSError as error:
            raise NotFound(
                f"{name} is gone", where=f"evidence of run {run_id}", hint="train again: ctcd train --force"
            ) from error


def _write(folder: Path, decision: Decision, texts: Mapping[str, str]) -> tuple[Path, Path]:
    """Write the decision's files, each in one step; that of the champion stays the one that made it so."""
    for suffix, text in texts.items():
        path = folder / f"{decision.candidate}{suffix}"
        if decision.status is Status.ALREADY_CHAMPION and path.exists():
            continue
        write_text(path, text)
    return folder / f"{decision.candidate}.json", folder / f"{decision.candidate}.md"

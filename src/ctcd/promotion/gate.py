"""The gate as a stage: from a training run to a recorded decision."""

import json
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import mlflow.pyfunc
import pandas as pd
from pydantic import BaseModel

from ctcd.contract.spec import Contract
from ctcd.errors import NotFound
from ctcd.files import write_text
from ctcd.model.metrics import Scores
from ctcd.progress import Progress, silent
from ctcd.promotion.decision import Decision, Status, decide, to_json, to_markdown
from ctcd.promotion.evaluation import Evaluation, Model, evaluate
from ctcd.promotion.policy import Disabled, Policy, Slices
from ctcd.registry.versions import CHAMPION, RegisteredVersion, Registry
from ctcd.settings import Environment, Settings
from ctcd.training.runs import HOLDOUT_FILE, SEEN_GROUPS_FILE, TrainingRuns


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """The gate's decision about a training run.

    Args:
        version: registered version of the run's model.
        status: promote, refuse, or already champion.
        promote: whether the version may be promoted.
        reasons: why it may not; empty if it may.
        decision: every rule with value, limit and verdict.
        candidate: scores of the candidate on its holdout; None if it could not be scored.
        champion: scores of the champion on the same rows; None if there is none or it could not be scored.
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
    request: type[BaseModel],
    run_id: str | None = None,
    today: date | None = None,
    without_champion: str | None = None,
    progress: Progress = silent,
) -> GateOutcome:
    """Decide whether the model of a training run may become the champion, and record the decision.

    The run's model is registered, even if it is refused. Candidate and champion are scored on the candidate's holdout
    through the same predict call. The decision is recorded in the registry and in the run, and written to the reports as
    `decisions/<version>-<run>/<number>.json` and `.md`. Nothing is promoted. Another call decides again, and the earlier
    decisions stay on record.

    Args:
        registry: registers the run's model, and has the champion that it is compared with.
        settings: say where MLflow and the folder of reports are.
        contract: the contract in force.
        policy: the limits that a model must keep.
        request: body of a request to the service, which has to accept each row of the holdout.
        run_id: training run of the candidate; by default the newest finished one.
        today: day from which the age of the training data is counted; by default today in the configured time zone.
            Another day is for runs on old data.
        without_champion: why the floors alone may decide if the champion can no longer be compared, as when its run
            was deleted; becomes part of the decision. A champion that can be compared is compared all the same.
        progress: called with the number of models scored.

    Raises:
        NotFound: the run does not exist, or its evidence or that of the champion is missing.
        UsageError: classes or slices of the policy do not match the contract.
        Unreachable: MLflow does not answer.
    """
    policy.require_contract(contract)
    runs, today = TrainingRuns(registry.client, contract, settings), today or settings.today()
    run_id = run_id or runs.newest()
    version = registry.register(run_id)
    champion = registry.find(CHAMPION)
    holdout = runs.evidence(run_id, HOLDOUT_FILE)

    def measured(info: RegisteredVersion, model: Model, seen: Collection[object], size: int) -> Evaluation:
        return evaluate(
            model,
            holdout,
            contract,
            info,
            judged_on=today,
            seen_groups=frozenset(seen),
            artifact_bytes=size,
            slices=policy.slices.by if isinstance(policy.slices, Slices) else {},
            drafts_allowed=settings.environment is not Environment.PRODUCTION,
            threshold=policy.threshold,
            request=request if info.version == version else None,  # the rows are the same for the champion
        )

    def evaluated(info: RegisteredVersion) -> Evaluation:
        seen = runs.evidence(info.run_id, SEEN_GROUPS_FILE)[contract.group.name]
        with tempfile.TemporaryDirectory() as folder, _restored_path():
            model, size = _load(registry, info.version, Path(folder))
            return measured(info, model, seen, size)

    total = 1 + (champion is not None and champion.run_id != run_id)
    progress("models scored", 0, total)
    candidate = evaluated(registry.info(version))
    progress("models scored", 1, total)
    other = None
    if champion is not None:
        try:
            other = candidate if champion.run_id == run_id else evaluated(champion)
        except NotFound as error:
            if not without_champion:
                raise NotFound(
                    f"champion {champion.version} cannot be compared: {error.what}",
                    where=error.where,
                    hint="restore it; or ctcd rollback --to VERSION; or let the floors decide: --without-champion REASON",
                ) from error
            other = measured(champion, _Unloadable(error), (), 0)
        if other.scores is None and without_champion:
            reason = f"{without_champion} (the champion cannot be compared: {other.problem})"
            policy = policy.model_copy(update={"comparison": Disabled(disabled=True, reason=reason)})
        progress("models scored", total, total)
    decision = decide(candidate, other, policy)
    number, decided_at = registry.next_decision(version), datetime.now(UTC).isoformat(timespec="seconds")
    content = {"number": number, "decided_at": decided_at, **to_json(decision)}
    texts = {
        f"{number}.json": json.dumps(content, indent=2) + "\n",
        f"{number}.md": f"{to_markdown(decision)}\nDecision {number} about this version, {decided_at}.\n",
    }
    # About the champion nothing is decided: the verdict that promoted it stays in its tags.
    registry.record_decision(
        version,
        number,
        passed=None if decision.status is Status.ALREADY_CHAMPION else decision.promote,
        reasons=decision.reasons,
        champion=decision.champion,
        files=texts,
    )
    folder = settings.reports / "decisions" / f"{version}-{run_id}"
    for name, text in texts.items():
        write_text(folder / name, text)
    json_file, markdown_file = (folder / name for name in texts)
    return GateOutcome(
        version=version,
        run_id=run_id,
        status=decision.status,
        promote=decision.promote,
        reasons=decision.reasons,
        decision=decision,
        candidate=candidate.scores,
        champion=other.scores if other else None,
        json_file=str(json_file),
        markdown_file=str(markdown_file),
    )


class _Unloadable:
    """Takes the place of a model that could not be loaded."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """Raise the exception that loading raised."""
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
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model raises is a reason to refuse it
        return _Unloadable(error), size


@contextmanager
def _restored_path() -> Iterator[None]:
    """Restore `sys.path`: loading a model adds its folder, which is deleted afterwards."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before

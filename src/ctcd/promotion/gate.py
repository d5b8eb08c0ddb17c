"""The gate as a stage: from a training run to a recorded decision."""

import json
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

import mlflow.pyfunc
import pandas as pd
from pydantic import BaseModel

from ctcd.contract.spec import Contract
from ctcd.errors import CtcdError, NotFound, shown
from ctcd.files import writing_to
from ctcd.html_report import render
from ctcd.model.metrics import Scores
from ctcd.progress import Progress, silent
from ctcd.promotion.decision import Decision, Status, decide, to_json
from ctcd.promotion.evaluation import Evaluation, Model, evaluate
from ctcd.promotion.evidence import EVIDENCE, About, DriftSince, Evidence, collect, look_into
from ctcd.promotion.page import Judged, description, evidence_page, short_form
from ctcd.promotion.plots import draw
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
        page_file: the evidence as a page.
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
    page_file: str


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
    drift: Callable[[RegisteredVersion, pd.DataFrame], DriftSince] | None = None,
    progress: Progress = silent,
) -> GateOutcome:
    """Decide whether the model of a training run may become the champion, and record the decision.

    The run's model is registered, even if it is refused. Candidate and champion are scored on the candidate's holdout
    through the same predict call. The decision is recorded in the registry and in the run, and written to the reports
    as `decisions/<version>-<run>/<number>.json`, `.md` and `.html`. Nothing is promoted. Another call decides again,
    and the earlier decisions stay on record.

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
        drift: compares the holdout with what the champion was trained on, for the evidence.
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
    holdout, report = runs.evidence(run_id, HOLDOUT_FILE), runs.report(run_id)

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

    def evaluated(info: RegisteredVersion) -> tuple[Evaluation, About]:
        seen = runs.evidence(info.run_id, SEEN_GROUPS_FILE)[contract.group.name]
        with tempfile.TemporaryDirectory() as folder, _restored_path():
            model, size = _load(registry, info.version, Path(folder))
            evaluation = measured(info, model, seen, size)
            # Only of the candidate, and after its latency was measured.
            about = look_into(model, Path(folder), holdout) if info.version == version else About(environment={})
            return evaluation, about

    total = 1 + (champion is not None and champion.run_id != run_id)
    progress("models scored", 0, total)
    candidate, about = evaluated(registry.info(version))
    progress("models scored", 1, total)
    other = None
    if champion is not None:
        try:
            other = candidate if champion.run_id == run_id else evaluated(champion)[0]
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
    info = registry.info(version)
    with _written(version):
        since = DriftSince(unknown="there is no other champion")
        if drift is not None and champion is not None and champion.run_id != run_id:
            since = drift(champion, holdout)
        changes = registry.changes()
        evidence = collect(
            candidate,
            other,
            holdout=holdout,
            about=about,
            drift=since,
            report=report,
            policy=policy,
            contract=contract,
            version=info,
            deployed=tuple(dict.fromkeys(each.artifact for each in changes if each.artifact and each.run_id == run_id)),
        )
        judged = Judged(number=number, decided_at=decided_at, decision=decision, evidence=evidence)
        texts, plots = _files(judged, evidence, contract)
    folder = settings.reports / "decisions" / f"{version}-{run_id}"
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as scratch:
        with writing_to(folder):
            for name, text in texts.items():
                (Path(scratch) / name).write_text(text, encoding="utf-8")
        # About the champion nothing is decided: the verdict that promoted it stays in its tags.
        registry.record_decision(
            version,
            number,
            passed=None if decision.status is Status.ALREADY_CHAMPION else decision.promote,
            reasons=decision.reasons,
            champion=decision.champion,
            files=plots | texts,
            description=description(decision, evidence),
        )
        for name in texts:
            (Path(scratch) / name).replace(folder / name)
    page_file, markdown_file, json_file = (folder / name for name in texts)
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
        page_file=str(page_file),
    )


@contextmanager
def _written(version: str) -> Iterator[None]:
    """Translate whatever goes wrong while the evidence is written down: a page that fails is no verdict on a model.

    Raises:
        CtcdError: names the reason.
    """
    try:
        yield
    except Exception as error:
        raise CtcdError(
            f"the evidence of the decision cannot be written: {shown(error)}",
            where=f"version {version}",
            hint="nothing was decided; run the gate again",
        ) from error


def _files(judged: Judged, evidence: Evidence, contract: Contract) -> tuple[dict[str, str], dict[str, str]]:
    """Return the content of a decision's files, and of those of its plots, by name.

    The JSON document is last: it puts the decision on record, and by then the page exists.
    """
    head = {"number": judged.number, "decided_at": judged.decided_at}
    content = {**head, **to_json(judged.decision), "evidence": EVIDENCE.dump_python(evidence, mode="json")}
    plots = draw(evidence)
    texts = {
        f"{judged.number}.html": render(evidence_page(judged, evidence, plots, contract.name)),
        f"{judged.number}.md": short_form(judged, evidence),
        f"{judged.number}.json": json.dumps(content, indent=2, allow_nan=False) + "\n",
    }
    return texts, {f"{judged.number}/{name.replace(' ', '_')}.svg": svg for name, svg in plots.items()}


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

"""The decision whether a model may be promoted: a pure function of two evaluations and the policy."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctcd import markdown
from ctcd.errors import number_of
from ctcd.promotion.bootstrap import paired_difference
from ctcd.promotion.evaluation import Evaluation
from ctcd.promotion.policy import Comparison, Disabled, Policy, Slices
from ctcd.promotion.slices import Slicing

SCHEMA_VERSION = 1
"""Version of the schema that `to_json` writes."""


class Status(StrEnum):
    """Verdict on a candidate."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    ALREADY_CHAMPION = "already champion"


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """Result of one rule of the policy.

    Args:
        value: measured value, an integer if it is a count; None if there is none, text if it is not a finite number.
        limit: required value; None if the rule is switched off or has no limit.
    """

    name: str
    value: float | str | None = None
    limit: float | str | None = None
    passed: bool
    explanation: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision, with the result of every rule.

    Args:
        champion: version of the champion that it was compared with, if there was one.
        holdout: fingerprint of the rows that both were scored on.
        rules: results of all rules, in the order of the policy.
    """

    status: Status
    candidate: str
    candidate_run: str
    champion: str | None
    champion_run: str | None
    holdout: str
    rules: tuple[RuleResult, ...]

    @property
    def promote(self) -> bool:
        """Whether the candidate may become the champion."""
        return self.status is Status.PROMOTE

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons for a refusal; empty if it was not refused."""
        return tuple(f"{rule.name}: {rule.explanation}" for rule in self.rules if not rule.passed)


def decide(candidate: Evaluation, champion: Evaluation | None, policy: Policy) -> Decision:
    """Return whether a candidate may become the champion.

    Every rule about the candidate itself must pass. If there is a champion, both evaluations must be of the same rows.
    On the rows of groups that neither model was trained on, the candidate must have the better point estimate (the
    policy decides an exact tie), the lower end of the paired bootstrap interval of the difference must not be below
    minus the margin, and in no slice may the candidate lose more accuracy than the policy allows. A value that is
    missing or not finite fails its rule. The champion itself is neither promoted nor refused.

    The decision is deterministic.
    """
    if champion is not None and candidate.run_id == champion.run_id:
        explanation = "this model is the champion already: nothing is compared with itself"
        found = RuleResult(name="champion", value=champion.version, passed=True, explanation=explanation)
        return _decision(Status.ALREADY_CHAMPION, candidate, champion, (found,))
    rules = [result for rule in MODEL_RULES for result in rule(candidate, policy)]
    rules += _comparison(candidate, champion, policy)
    status = Status.PROMOTE if all(rule.passed for rule in rules) else Status.REFUSE
    return _decision(status, candidate, champion, tuple(rules))


def _decision(
    status: Status, candidate: Evaluation, champion: Evaluation | None, rules: tuple[RuleResult, ...]
) -> Decision:
    return Decision(
        status=status,
        candidate=candidate.version,
        candidate_run=candidate.run_id,
        champion=champion.version if champion else None,
        champion_run=champion.run_id if champion else None,
        holdout=candidate.holdout,
        rules=rules,
    )


# Rules about one model: each yields a result even if there is nothing to measure.


def _not_rolled_back(evaluation: Evaluation, _: Policy) -> Iterator[RuleResult]:
    found = "rolled back" if evaluation.rolled_back else "never rolled back"
    explanation = f"this version was {found}" + (": train another one" if evaluation.rolled_back else "")
    yield RuleResult(name="rollback", value=found, passed=not evaluation.rolled_back, explanation=explanation)


def _scored(evaluation: Evaluation, _: Policy) -> Iterator[RuleResult]:
    passed = _is_scored(evaluation)
    explanation = "every row of the holdout was scored" if passed else f"it could not be scored: {evaluation.problem}"
    rows, limit = len(evaluation.predicted), len(evaluation.truth)
    yield RuleResult(name="rows scored", value=rows, limit=limit, passed=passed, explanation=explanation)


def _is_scored(evaluation: Evaluation) -> bool:
    return evaluation.scores is not None and len(evaluation.predicted) == len(evaluation.truth) > 0


def _accepted(evaluation: Evaluation, _: Policy) -> Iterator[RuleResult]:
    rows, refused = len(evaluation.truth), evaluation.refused
    explanation = "the API accepts every row of the holdout"
    if refused is None:
        explanation = "the API was not asked, which takes the request model of the instance's payload.py"
    elif refused:
        rows_refused = number_of(refused, "row")
        explanation = f"the API would refuse {rows_refused} of the holdout, the first because of {evaluation.refusal}"
    yield RuleResult(
        name="rows that the API accepts",
        value=None if refused is None else rows - refused,
        limit=rows,
        passed=refused == 0,
        explanation=explanation,
    )


def _contract(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    rule, limit = policy.contract.version_must_match, evaluation.contract_in_force
    if isinstance(rule, Disabled):
        yield _off("contract version", evaluation.contract_version, rule)
        return
    passed = evaluation.contract_version == limit
    explanation = "trained for the contract in force" if passed else "trained for another contract: train again"
    yield RuleResult(
        name="contract version", value=evaluation.contract_version, limit=limit, passed=passed, explanation=explanation
    )


def _drafts(evaluation: Evaluation, _: Policy) -> Iterator[RuleResult]:
    found, allowed = evaluation.drafts, evaluation.drafts_allowed
    if not found:
        explanation = "nothing in the contract is a draft"
    else:
        explanation = "allowed outside production" if allowed else "confirm them, ctcd contract check lists them"
    yield RuleResult(
        name="drafts in the contract",
        value=found,
        limit=None if allowed else 0,
        passed=allowed or not found,
        explanation=explanation,
    )


def _floors(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    scores, floors = evaluation.scores, policy.floors
    yield _at_least("accuracy", scores.accuracy if scores else None, floors.accuracy)
    yield _at_least("macro F1", scores.macro_f1 if scores else None, floors.macro_f1)
    for name in evaluation.classes:
        yield _at_least(f"recall of {name}", scores.recall.get(name) if scores else None, floors.recall.get(name))


def _binary(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    rule, scores, rows = policy.binary, evaluation.scores, len(evaluation.predicted)
    if rule is None and not evaluation.threshold_mismatches:
        return
    by = f"by the policy's threshold, {policy.threshold}" if rule else "for the most probable class"
    explanation = (
        f"{number_of(evaluation.threshold_mismatches, 'row')} not decided {by}: train again"
        if evaluation.threshold_mismatches
        else f"decided {by}"
    )
    yield RuleResult(
        name="rows decided as the policy says",
        value=rows - evaluation.threshold_mismatches,
        limit=rows,
        passed=not evaluation.threshold_mismatches,
        explanation=explanation,
    )
    if rule is not None:
        yield _at_least("ROC AUC", scores.roc_auc if scores else None, rule.roc_auc)
        yield _at_least("average precision", scores.average_precision if scores else None, rule.average_precision)


def _slices(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    rule = policy.slices
    if isinstance(rule, Disabled):
        yield _off("slices", None, rule)
        return
    slicings = {slicing.column: slicing for slicing in evaluation.slices}
    for column in rule.by:
        found: list[_Slice] = []
        if column in slicings and _is_scored(evaluation):
            hits = (evaluation.predicted == evaluation.truth).astype(np.float64)
            found = _means(slicings[column], hits, np.ones(len(hits), dtype=bool), rule)
        worst = min(found, key=lambda one: one.mean, default=None)
        result = _at_least(f"accuracy of the worst {column}", worst.mean if worst else None, rule.accuracy)
        yield _name_slice(result, worst, found, rule, rule.accuracy)


@dataclass(frozen=True)
class _Slice:
    """A slice with enough rows, and the mean of some value over them."""

    name: str
    rows: int
    mean: float


def _means(slicing: Slicing, values: NDArray[np.float64], wanted: NDArray[np.bool_], rule: Slices) -> list[_Slice]:
    """Return the mean of each slice with enough wanted rows."""
    count = len(slicing.names)
    rows = np.bincount(slicing.place[wanted], minlength=count)
    sums = np.bincount(slicing.place[wanted], weights=values[wanted], minlength=count)
    return [
        _Slice(name, int(size), float(total / size))
        for name, size, total in zip(slicing.names, rows.tolist(), sums.tolist(), strict=True)
        if size >= rule.min_rows
    ]


def _name_slice(
    result: RuleResult, worst: _Slice | None, found: list[_Slice], rule: Slices, limit: float | Disabled
) -> RuleResult:
    if worst is None and isinstance(limit, Disabled):  # too few rows may be why
        return _off(result.name, None, limit)
    if worst is None:
        return replace(result, explanation=f"no slice was scored on the {rule.min_rows} rows that it takes")
    detail = f"{worst.name}, {number_of(worst.rows, 'row')}, of {len(found)} with {rule.min_rows} or more"
    return replace(result, explanation=f"{result.explanation}: {detail}")


def _calibration(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    found = evaluation.scores.ece if evaluation.scores else None
    yield _at_most("expected calibration error", found, policy.calibration.max_ece)


def _cost(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    yield _at_most("one row, p95 in ms", evaluation.row_p95_ms, policy.speed.max_row_p95_ms)
    yield _at_most("a row of a batch in ms", evaluation.batch_row_ms, policy.speed.max_batch_row_ms)
    yield _at_most("artifact in MB", evaluation.artifact_mb, policy.artifact.max_mb)


def _freshness(evaluation: Evaluation, policy: Policy) -> Iterator[RuleResult]:
    name, limit = "days since the training data", policy.freshness.max_age_days
    days = (evaluation.judged_on - evaluation.trained_on).days if evaluation.trained_on else None
    if days is not None and days < 0:
        explanation = (
            f"its snapshot is of {evaluation.trained_on}, after {evaluation.judged_on}: one of the two days is wrong"
        )
        shown = limit if isinstance(limit, float) else None
        yield RuleResult(name=name, value=days, limit=shown, passed=False, explanation=explanation)
        return
    result = _at_most(name, days, limit)
    judged = f"snapshot of {evaluation.trained_on or 'an unknown day'}, judged as of {evaluation.judged_on}"
    yield replace(result, explanation=f"{result.explanation}: {judged}")


ModelRule = Callable[[Evaluation, Policy], Iterable[RuleResult]]

MODEL_RULES: tuple[ModelRule, ...] = (
    _not_rolled_back,
    _scored,
    _accepted,
    _contract,
    _drafts,
    _freshness,
    _floors,
    _binary,
    _slices,
    _calibration,
    _cost,
)
"""Rules about a single model. A new rule is a function here and a limit in the policy."""


def _off(name: str, value: float | str | None, rule: Disabled) -> RuleResult:
    return RuleResult(name=name, value=value, passed=True, explanation=f"switched off: {rule.reason}")


def _bounded(
    name: str,
    value: float | None,
    limit: float | Disabled | None,
    keeps: Callable[[float, float], bool],
    phrases: tuple[str, str],
) -> RuleResult:
    """Compare a value with its limit; the phrases say that it keeps it, and that it does not."""
    # A value that is missing or not finite fails even if the rule is switched off: it shows that something is broken.
    if value is None or not math.isfinite(value):
        shown, bound = str(value) if value is not None else None, limit if isinstance(limit, float) else None
        return RuleResult(name=name, value=shown, limit=bound, passed=False, explanation="there is no such number")
    if limit is None:
        return RuleResult(name=name, value=value, passed=False, explanation="the policy gives no limit")
    if isinstance(limit, Disabled):
        return _off(name, value, limit)
    passed = keeps(value, limit)
    met, broken = phrases
    explanation = met if passed else _compared(value, broken, limit)
    return RuleResult(name=name, value=value, limit=limit, passed=passed, explanation=explanation)


def _compared(value: float, phrase: str, other: float) -> str:
    # Two numbers that look the same when rounded are shown with all their digits.
    shown, bound = shown_value(value), shown_value(other)
    return f"{shown} is {phrase} {bound}" if shown != bound else f"{value!r} is {phrase} {other!r}"


def _at_least(name: str, value: float | None, limit: float | Disabled | None) -> RuleResult:
    return _bounded(
        name, value, limit, lambda found, floor: found >= floor, ("at or above its floor", "below its floor")
    )


def _at_most(name: str, value: float | None, limit: float | Disabled | None) -> RuleResult:
    return _bounded(
        name, value, limit, lambda found, ceiling: found <= ceiling, ("at or below its limit", "above its limit")
    )


# Rules about candidate and champion.


def _comparison(candidate: Evaluation, champion: Evaluation | None, policy: Policy) -> Iterator[RuleResult]:
    rule = policy.comparison
    if champion is None:
        yield RuleResult(
            name="champion", value="none", passed=True, explanation="no champion yet: the floors decide alone"
        )
        return
    if isinstance(rule, Disabled):
        yield _off("comparison with the champion", None, rule)
        return
    same = (
        candidate.holdout == champion.holdout
        and candidate.classes == champion.classes
        and np.array_equal(candidate.truth, champion.truth)
        and np.array_equal(candidate.groups, champion.groups)
    )
    yield RuleResult(
        name="holdout",
        value=candidate.holdout[:12],
        limit=champion.holdout[:12],
        passed=same,
        explanation="both were scored on the same rows"
        if same
        else "scored on different rows: nothing can be compared",
    )
    if not _is_scored(champion):
        yield RuleResult(
            name="rows that the champion scored",
            passed=False,
            explanation=f"the champion could not be scored: {champion.problem}; roll it back",
        )
    elif same and _is_scored(candidate):
        yield from _difference(candidate, champion, rule, policy.slices)


def _difference(
    candidate: Evaluation, champion: Evaluation, rule: Comparison, slices: Slices | Disabled
) -> Iterator[RuleResult]:
    # Excluding the groups that either model has seen, not only the champion, keeps the comparison symmetric.
    unseen = ~(candidate.seen | champion.seen)
    rows = int(unseen.sum())
    enough = rows >= rule.min_rows
    yield RuleResult(
        name="rows compared",
        value=rows,
        limit=rule.min_rows,
        passed=enough,
        explanation=f"{len(unseen) - rows} left out because one of the two was trained on their groups"
        if enough
        else "too few rows that neither was trained on",
    )
    if not enough:
        return
    found = paired_difference(
        candidate.truth[unseen],
        candidate.predicted[unseen],
        champion.predicted[unseen],
        candidate.groups[unseen],
        classes=len(candidate.classes),
        metric=rule.metric,
        confidence=rule.confidence,
        resamples=rule.resamples,
        seed=rule.seed,
    )
    metric = rule.metric.replace("_", " ")
    better = found.point > 0 or (found.point == 0 and rule.tie == "replace")
    if found.point == 0:
        verdict = f"an exact tie, on which the policy says: {rule.tie} the champion"
    else:
        verdict = _compared(found.candidate, f"{'above' if better else 'below'} the champion's", found.champion)
    yield RuleResult(
        name=f"{metric} compared with the champion", value=found.point, limit=0.0, passed=better, explanation=verdict
    )
    yield RuleResult(
        name=f"{metric}, {rule.confidence:.0%} interval, lower end",
        value=found.lower,
        limit=-rule.margin,
        passed=found.lower >= -rule.margin,
        explanation=f"the interval of the difference is {found.lower:+.4f} to {found.upper:+.4f} "
        f"over {number_of(found.groups, 'resampled group')}"
        + ("" if found.lower >= -rule.margin else f"; its lower end is below the limit {-rule.margin:+.4f}"),
    )
    if isinstance(slices, Slices):
        yield from _drops(candidate, champion, unseen, slices)


def _drops(
    candidate: Evaluation, champion: Evaluation, unseen: NDArray[np.bool_], rule: Slices
) -> Iterator[RuleResult]:
    """Compare both models in every slice: an overall gain must not come at the expense of a slice."""
    slicings = {slicing.column: slicing for slicing in candidate.slices}
    right = [(evaluation.predicted == evaluation.truth).astype(np.float64) for evaluation in (champion, candidate)]
    for column in rule.by:
        found = _means(slicings[column], right[0] - right[1], unseen, rule) if column in slicings else []
        worst = max(found, key=lambda one: one.mean, default=None)
        result = _at_most(
            f"accuracy lost in the worst {column}, against the champion", worst.mean if worst else None, rule.max_drop
        )
        yield _name_slice(result, worst, found, rule, rule.max_drop)


def to_json(decision: Decision) -> dict[str, Any]:
    """Return the decision as JSON data, including `schema_version`, `promote` and `reasons`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "promote": decision.promote,
        **json.loads(json.dumps(asdict(decision), allow_nan=False)),
        "reasons": list(decision.reasons),
    }


def from_json(content: Mapping[str, Any]) -> Decision:
    """Return the decision that `to_json` wrote."""
    fields = {each.name: content[each.name] for each in dataclasses.fields(Decision)}
    rules = tuple(RuleResult(**rule) for rule in fields["rules"])
    return Decision(**fields | {"status": Status(fields["status"]), "rules": rules})


def to_markdown(decision: Decision) -> str:
    """Return the decision as Markdown: the verdict, then a table of all rules with value, limit and verdict."""
    against = f"champion version {decision.champion}" if decision.champion else "no champion"
    lines = [
        f"# Version {decision.candidate}: {decision.status}",
        "",
        f"Run `{decision.candidate_run}`, against {against}, on the holdout `{decision.holdout[:12]}`.",
        "",
        "| rule | value | limit | verdict | explanation |",
        "|---|---:|---:|---|---|",
    ]
    for rule in decision.rules:
        cells = [
            rule.name,
            shown_value(rule.value),
            shown_value(rule.limit),
            "pass" if rule.passed else "**fail**",
            rule.explanation,
        ]
        lines.append(markdown.row(cells))
    return "\n".join(lines) + "\n"


def shown_value(value: float | str | None) -> str:
    """Return a value or a limit of a rule as text."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    # A count of 0 is whole, but a score of 0 has the digits of a score.
    whole = isinstance(value, int) or (value == int(value) and abs(value) >= 1)
    return f"{value:.0f}" if whole else f"{value:.4f}"

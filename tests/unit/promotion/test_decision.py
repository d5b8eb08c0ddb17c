import json
import math
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.evaluations import CLASSES, COLUMNS, DAY, evaluation, evaluations, policy, truth_of, with_predictions
from support.examples import at_most

from ctcd.promotion.decision import Decision, RuleResult, Status, decide, to_json, to_markdown
from ctcd.promotion.evaluation import Evaluation
from ctcd.promotion.policy import Binary, Disabled, Policy, Slices

KEEP, REPLACE = policy(tie="keep", min_rows=30), policy(tie="replace", min_rows=30)
NUMBERS = ("accuracy", "macro_f1", "ece")
COSTS = ("row_p95_ms", "batch_row_ms", "artifact_mb")
assert isinstance(KEEP.slices, Slices)
SLICES = KEEP.slices
properties = settings(deadline=None, max_examples=at_most(60))


def failed(candidate: Evaluation, champion: Evaluation | None = None, rules: Policy = KEEP) -> list[str]:
    return [rule.name for rule in decide(candidate, champion, rules).rules if not rule.passed]


def spoil(made: Evaluation, field: str, value: float) -> Evaluation:
    """Return the evaluation with one number replaced."""
    assert made.scores is not None
    change: dict[str, Any] = {field: value}
    if field in COSTS:
        return replace(made, **change)
    if field in CLASSES:
        return replace(made, scores=replace(made.scores, recall=made.scores.recall | change))
    return replace(made, scores=replace(made.scores, **change))


def test_first_good_model_is_promoted() -> None:
    """Without a champion, a model that reaches every floor is promoted, and every rule is in the decision."""
    decision = decide(evaluation(), None, KEEP)
    assert decision.status is Status.PROMOTE
    assert decision.promote
    assert decision.reasons == ()
    assert [rule.name for rule in decision.rules] == [
        "rollback",
        "rows scored",
        "rows that the API accepts",
        "contract version",
        "drafts in the contract",
        "days since the training data",
        "accuracy",
        "macro F1",
        *(f"recall of {name}" for name in CLASSES),
        *(f"accuracy of the worst {name}" for name in COLUMNS),
        "expected calibration error",
        "one row, p95 in ms",
        "a row of a batch in ms",
        "artifact in MB",
        "champion",
    ]


def test_a_model_whose_rows_the_api_refuses_is_refused() -> None:
    """A single row of the holdout that a client could not send is enough, and the reason is in the decision."""
    decision = decide(evaluation(refused=1, refusal="grade: String should match pattern"), None, KEEP)
    assert decision.status is Status.REFUSE
    [reason] = decision.reasons
    assert "refuse 1 row of the holdout, the first because of grade: String" in reason


def test_a_model_is_refused_if_the_api_was_not_asked() -> None:
    """Evidence that is missing is a refusal, which says so; of the champion nothing is asked."""
    found = decide(evaluation(refused=None), None, KEEP)
    assert (found.status, found.reasons) == (
        Status.REFUSE,
        (
            "rows that the API accepts: the API was not asked, which takes the request model of the instance's payload.py",
        ),
    )
    assert decide(evaluation(hit=0.9), evaluation(run="b", refused=None), KEEP).status is Status.PROMOTE


def test_majority_class_is_refused() -> None:
    """A model that always answers the most frequent class fails accuracy, macro F1 and the recall of the others."""
    made = evaluation()
    majority = int(np.bincount(made.truth).argmax())
    given_up = with_predictions(made, np.full(len(made.truth), majority))
    assert decide(given_up, None, KEEP).status is Status.REFUSE
    names = failed(given_up)
    assert {"accuracy", "macro F1"} < set(names)
    assert sum(name.startswith("recall of") for name in names) == len(CLASSES) - 1


@pytest.mark.parametrize("given_up", range(len(CLASSES)))
def test_model_that_never_predicts_a_class_is_refused(given_up: int) -> None:
    """A model that never predicts one class is refused by that class's recall."""
    made = evaluation()
    other = (given_up + 1) % len(CLASSES)
    predicted = np.where(made.truth == given_up, other, made.truth)
    assert f"recall of {CLASSES[given_up]}" in failed(with_predictions(made, predicted))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"rolled_back": True}, "rollback"),
        ({"contract_version": "0.9.0"}, "contract version"),
        ({"drafts": 1, "drafts_allowed": False}, "drafts in the contract"),
        ({"row_p95_ms": 40.1}, "one row, p95 in ms"),
        ({"batch_row_ms": 0.51}, "a row of a batch in ms"),
        ({"artifact_mb": 100.1}, "artifact in MB"),
        ({"trained_on": DAY - timedelta(days=8)}, "days since the training data"),
        ({"trained_on": DAY + timedelta(days=1)}, "days since the training data"),
        ({"trained_on": None}, "days since the training data"),
    ],
)
def test_each_rule_refuses_by_itself(change: dict[str, Any], rule: str) -> None:
    """A single violation is refused and named."""
    assert failed(replace(evaluation(), **change)) == [rule]


def with_threshold(
    made: Evaluation, *, roc_auc: float | None = 0.8, average_precision: float | None = 0.6
) -> Evaluation:
    assert made.scores is not None
    return replace(made, scores=replace(made.scores, roc_auc=roc_auc, average_precision=average_precision))


BINARY = Binary(positive=CLASSES[0], threshold=0.3, roc_auc=0.7, average_precision=0.5)


@pytest.mark.parametrize(
    ("made", "rules"),
    [
        (with_threshold(evaluation()), []),
        (with_threshold(evaluation(), roc_auc=0.69), ["ROC AUC"]),
        (with_threshold(evaluation(), average_precision=0.49), ["average precision"]),
        (with_threshold(evaluation(), roc_auc=None, average_precision=math.nan), ["ROC AUC", "average precision"]),
        (with_threshold(evaluation(threshold_mismatches=1)), ["rows decided as the policy says"]),
    ],
)
def test_the_rules_of_two_classes_refuse_by_themselves(made: Evaluation, rules: list[str]) -> None:
    """A positive class that is ranked too badly, and rows decided by another threshold than the policy's, are refused."""
    assert failed(made, rules=KEEP.model_copy(update={"binary": BINARY})) == rules


def test_a_model_with_a_threshold_that_the_policy_no_longer_has_is_refused() -> None:
    """What a model was trained to decide by is what the policy says, also if that is the most probable class."""
    decision = decide(evaluation(threshold_mismatches=3), None, KEEP)
    [reason] = decision.reasons
    assert "3 rows not decided for the most probable class: train again" in reason


def test_drafts_are_allowed_outside_production() -> None:
    """A contract with drafts is no reason to refuse a model that nobody depends on yet, but the decision shows it."""
    decision = decide(evaluation(drafts=2), None, KEEP)
    assert decision.promote
    (found,) = [rule for rule in decision.rules if rule.name == "drafts in the contract"]
    assert (found.value, found.limit, found.explanation) == (2.0, None, "allowed outside production")


@pytest.mark.parametrize("field", [*NUMBERS[:2], *CLASSES])
def test_floor_is_reached_at_its_value_and_missed_just_below(field: str) -> None:
    """A floor is inclusive."""
    floors = KEEP.floors
    floor = floors.recall[field] if field in CLASSES else getattr(floors, field)
    assert isinstance(floor, float)
    assert failed(spoil(evaluation(), field, floor)) == []
    assert len(failed(spoil(evaluation(), field, math.nextafter(floor, 0)))) == 1


COMPARED = re.compile(r"(\S+) is (above|below) (its floor|its limit|the champion's) (\d\S*?)(?=:|$)")


@properties
@given(evaluations("a"), evaluations("b"))
def test_a_refusal_reads_as_what_it_is(candidate: Evaluation, champion: Evaluation) -> None:
    """Each reason says of two numbers which one is above the other, rightly, and no rule is called after its success."""
    decision = decide(candidate, replace(champion, truth=candidate.truth, groups=candidate.groups), KEEP)
    for rule in decision.rules:
        assert "above" not in rule.name
        assert "below" not in rule.name
        compared = COMPARED.search(rule.explanation)
        if compared:
            value, relation, bound, other = compared.groups()
            assert (relation == "above") is (float(value) > float(other))
            assert rule.passed is (bound == "the champion's" and relation == "above")
        elif isinstance(rule.value, float) and isinstance(rule.limit, float) and not rule.passed:
            assert "interval" in rule.name or "rows" in rule.name or "exact tie" in rule.explanation, rule


def test_overconfidence_is_refused() -> None:
    """Accuracy alone is not enough: confidence must be calibrated."""
    limit = KEEP.calibration.max_ece
    assert isinstance(limit, float)
    assert failed(spoil(evaluation(), "ece", limit)) == []
    assert failed(spoil(evaluation(), "ece", math.nextafter(limit, 1))) == ["expected calibration error"]


@properties
@given(st.data())
def test_no_champion_still_needs_every_floor(data: st.DataObject) -> None:
    """A model that is promoted without a champion has reached every floor and limit."""
    made = data.draw(evaluations("a"))
    decision = decide(made, None, KEEP)
    assert made.scores is not None
    floors = KEEP.floors
    reached = [
        made.scores.accuracy >= _limit(floors.accuracy),
        made.scores.macro_f1 >= _limit(floors.macro_f1),
        *(made.scores.recall[name] >= _limit(floors.recall[name]) for name in CLASSES),
        made.scores.ece <= _limit(KEEP.calibration.max_ece),
        made.row_p95_ms <= _limit(KEEP.speed.max_row_p95_ms),
        made.artifact_mb <= _limit(KEEP.artifact.max_mb),
        made.trained_on is not None and (DAY - made.trained_on).days <= _limit(KEEP.freshness.max_age_days),
        all(_accuracy_of(made, half) >= _limit(SLICES.accuracy) for half in (0, 1)),
        not made.rolled_back,
    ]
    assert decision.promote == all(reached)


def _accuracy_of(made: Evaluation, half: int) -> float:
    rows = made.slices[0].place == half
    return float((made.predicted == made.truth)[rows].mean())


def _limit(value: float | Disabled) -> float:
    assert isinstance(value, float)
    return value


@properties
@given(st.data())
def test_worse_model_never_promotes(data: st.DataObject) -> None:
    """A candidate whose metric is below the champion's on the rows compared is refused, whatever its other values."""
    candidate, champion = data.draw(evaluations("a")), data.draw(evaluations("b"))
    unseen = ~(candidate.seen | champion.seen)
    for rules in (KEEP, REPLACE, policy(metric="accuracy", min_rows=30)):
        if decide(candidate, champion, rules).promote:
            hits = [_score(made, unseen, rules) for made in (candidate, champion)]
            assert hits[0] >= hits[1]
            assert hits[0] > hits[1] or rules is REPLACE


def _score(made: Evaluation, rows: Any, rules: Policy) -> float:
    from sklearn.metrics import accuracy_score, f1_score

    assert not isinstance(rules.comparison, Disabled)
    if rules.comparison.metric == "accuracy":
        return float(accuracy_score(made.truth[rows], made.predicted[rows]))
    return float(
        f1_score(made.truth[rows], made.predicted[rows], average="macro", labels=range(len(CLASSES)), zero_division=0.0)
    )


@properties
@given(
    st.sampled_from([*NUMBERS, *CLASSES, *COSTS]),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.booleans(),
    st.booleans(),
)
def test_what_is_no_finite_number_never_promotes(field: str, value: float, against: bool, off: bool) -> None:
    """NaN or infinity in any metric is refused, on either side of its limit, even if the rule is switched off."""
    rules = _all_limits_off() if off else KEEP
    champion = evaluation(hit=0.75, run="b") if against else None
    good = evaluation(hit=0.9)
    assert decide(good, champion, rules).promote
    assert not decide(spoil(good, field, value), champion, rules).promote


def _all_limits_off() -> Policy:
    off = Disabled(disabled=True, reason="a test of what is left")
    return KEEP.model_copy(
        update={
            "floors": KEEP.floors.model_copy(
                update={"accuracy": off, "macro_f1": off, "recall": dict.fromkeys(CLASSES, off)}
            ),
            "calibration": KEEP.calibration.model_copy(update={"max_ece": off}),
            "speed": KEEP.speed.model_copy(update={"max_row_p95_ms": off, "max_batch_row_ms": off}),
            "artifact": KEEP.artifact.model_copy(update={"max_mb": off}),
        }
    )


def test_missing_metrics_never_promote() -> None:
    """Missing scores, a class without recall, and rows without predictions are refused."""
    good = evaluation()
    assert good.scores is not None
    without = {name: value for name, value in good.scores.recall.items() if name != CLASSES[1]}
    assert failed(replace(good, scores=replace(good.scores, recall=without))) == [f"recall of {CLASSES[1]}"]
    assert "rows scored" in failed(replace(good, scores=None, problem="it broke"))
    unscored = ["rows scored", *(_slice_rule(name) for name in COLUMNS)]
    assert failed(replace(good, predicted=good.predicted[:-1])) == unscored
    assert failed(replace(good, predicted=good.predicted[:0]), evaluation(hit=0.7, run="b")) == unscored


def test_class_that_the_policy_forgot_is_refused() -> None:
    """A class that has no floor in the policy makes every candidate fail."""
    floors = KEEP.floors.model_copy(update={"recall": {CLASSES[0]: 0.1}})
    rules = KEEP.model_copy(update={"floors": floors})
    assert failed(evaluation(), rules=rules) == [f"recall of {name}" for name in CLASSES[1:]]


@properties
@given(st.data())
def test_swapping_never_promotes_both(data: st.DataObject) -> None:
    """With ties kept, at most one of two models may replace the other."""
    a, b = data.draw(evaluations("a")), data.draw(evaluations("b"))
    assert not (decide(a, b, KEEP).promote and decide(b, a, KEEP).promote)


@pytest.mark.slow
@properties
@given(st.data())
def test_worsening_never_turns_refusal_into_promotion(data: st.DataObject) -> None:
    """If one correct prediction becomes wrong or one value gets worse, a refusal remains a refusal."""
    candidate = data.draw(evaluations("a"))
    champion = data.draw(st.none() | evaluations("b"))
    assert candidate.scores is not None
    field = data.draw(st.sampled_from(["predictions", *NUMBERS, *CLASSES, *COSTS, "rolled_back"]))
    if field == "predictions":
        hits = np.flatnonzero(candidate.predicted == candidate.truth)
        assume(len(hits) > 0)
        predicted = candidate.predicted.copy()
        for place in data.draw(st.lists(st.sampled_from(hits.tolist()), min_size=1, max_size=40)):
            predicted[place] = (candidate.truth[place] + data.draw(st.integers(1, 2))) % len(CLASSES)
        worse = with_predictions(candidate, predicted)
        # Calibration may gain from a miss; here it stays what it was.
        assert worse.scores is not None
        worse = replace(worse, scores=replace(worse.scores, ece=candidate.scores.ece))
    elif field == "rolled_back":
        worse = replace(candidate, rolled_back=True)
    elif field == "age":
        assert candidate.trained_on is not None
        worse = replace(candidate, trained_on=candidate.trained_on - timedelta(days=data.draw(st.integers(1, 900))))
    else:
        costly = field in (*COSTS, "ece")
        source: Any = candidate if field in COSTS else candidate.scores
        value = candidate.scores.recall[field] if field in CLASSES else getattr(source, field)
        worse = spoil(candidate, field, value * 3 if costly else value * data.draw(st.floats(0, 1)))
    for rules in (KEEP, REPLACE):
        if not decide(candidate, champion, rules).promote:
            assert not decide(worse, champion, rules).promote


@given(st.sampled_from([0.75, 0.9, 1.0]))
@properties
def test_ties_follow_the_policy(hit: float) -> None:
    """Two models with the same answers: the policy says which one stays."""
    a, b = evaluation(hit=hit), evaluation(hit=hit, run="b")
    assert decide(a, b, KEEP).status is Status.REFUSE
    assert failed(a, b) == ["macro f1 compared with the champion"]
    assert decide(a, b, REPLACE).promote


def test_an_interval_that_ends_at_the_margin_is_accepted() -> None:
    """Without a margin, equal answers differ by exactly nothing; the reason says that it is a tie."""
    decision = decide(evaluation(), evaluation(run="b"), policy(tie="replace", margin=0.0))
    assert decision.promote
    found = {rule.name: rule for rule in decision.rules}
    lower = found["macro f1, 95% interval, lower end"]
    assert (lower.value, lower.limit, lower.passed) == (0.0, 0.0, True)
    compared = found["macro f1 compared with the champion"].explanation
    assert compared == "an exact tie, on which the policy says: replace the champion"


def test_champion_itself_is_neither_promoted_nor_refused() -> None:
    """A model is never compared with itself."""
    made = evaluation()
    decision = decide(made, made, REPLACE)
    assert decision.status is Status.ALREADY_CHAMPION
    assert not decision.promote
    assert decision.reasons == ()


def test_better_model_replaces_the_champion() -> None:
    """Clearly better on the same rows: the decision names both, the difference and its interval."""
    decision = decide(evaluation(hit=0.85), evaluation(hit=0.75, run="b"), KEEP)
    assert decision.promote
    assert (decision.candidate, decision.champion) == ("a", "b")
    found = {rule.name: rule for rule in decision.rules}
    assert found["macro f1, 95% interval, lower end"].limit == -0.02
    assert "below" not in found["macro f1, 95% interval, lower end"].explanation


def test_lucky_difference_within_wide_noise_is_refused() -> None:
    """A slightly better point estimate with a wide interval is refused."""
    truth = truth_of(600)
    random = np.random.default_rng(5)
    champion = evaluation(hit=0.8, run="b")
    missed = np.flatnonzero(champion.predicted != truth)
    # The candidate is right where the champion is wrong, and wrong on nearly as many other rows.
    predicted = truth.copy()
    hits = random.choice(np.flatnonzero(champion.predicted == truth), size=len(missed) - 4, replace=False)
    predicted[hits] = (truth[hits] + 1) % len(CLASSES)
    candidate = with_predictions(replace(champion, run_id="run-a", version="a"), predicted)
    assert "macro f1, 95% interval, lower end" in failed(candidate, champion)
    [reason] = [each for each in decide(candidate, champion, KEEP).reasons if "interval" in each]
    assert reason.endswith("; its lower end is below the limit -0.0200")


def test_another_holdout_cannot_be_compared() -> None:
    """Evaluations of different rows cannot be compared."""
    good, champion = evaluation(hit=0.9), evaluation(hit=0.7, run="b")
    assert failed(replace(good, holdout="1" * 64), champion) == ["holdout"]
    assert failed(good, replace(champion, truth=np.roll(good.truth, 1))) == ["holdout"]
    assert failed(replace(good, groups=good.groups[::-1]), champion) == ["holdout"]
    assert failed(replace(champion, run_id="c"), replace(good, classes=CLASSES[::-1])) == ["holdout"]


def test_champion_gains_nothing_from_rows_it_was_trained_on() -> None:
    """Rows of groups that the champion saw are excluded: if it is right only on those, a better candidate wins."""
    candidate, champion = evaluation(hit=0.85), evaluation(hit=0.7, run="b")
    seen = np.arange(600) < 300
    learned = with_predictions(champion, np.where(seen, champion.truth, champion.predicted))
    assert not decide(candidate, learned, KEEP).promote
    assert decide(candidate, replace(learned, seen=seen), KEEP).promote


def test_candidate_gains_nothing_from_rows_it_was_trained_on() -> None:
    """The candidate has no advantage from rows that it saw itself, as a version that is evaluated again may have."""
    candidate, champion = evaluation(hit=0.7), evaluation(hit=0.7, seed=1, run="b")
    seen = np.arange(600) < 300
    learned = with_predictions(candidate, np.where(seen, candidate.truth, champion.predicted))
    assert decide(learned, champion, KEEP).promote
    assert failed(replace(learned, seen=seen), champion) == ["macro f1 compared with the champion"]


def test_too_few_rows_left_to_compare_is_refused() -> None:
    """A champion that saw nearly everything cannot be compared with."""
    champion = replace(evaluation(hit=0.7, run="b"), seen=np.arange(600) >= 29)
    assert failed(evaluation(hit=0.9), champion) == ["rows compared"]


def test_champion_that_cannot_be_scored_blocks_and_says_what_to_do() -> None:
    """Without rows that neither model has seen, no comparison is made."""
    broken = replace(evaluation(run="b"), scores=None, predicted=np.empty(0, dtype=np.intp), problem="it broke")
    decision = decide(evaluation(), broken, REPLACE)
    assert decision.reasons == (
        "rows that the champion scored: the champion could not be scored: it broke; roll it back",
    )


def _slice_rule(column: str) -> str:
    return f"accuracy of the worst {column}"


@pytest.mark.parametrize("column", COLUMNS)
def test_model_that_gives_up_one_slice_is_refused(column: str) -> None:
    """A model that is wrong in one slice only is refused by that slice's rule, which names it."""
    made = evaluation(hit=1.0)
    place = np.where(np.arange(600) < 100, 0, 1)
    slices = tuple(
        replace(each, names=("few", "many"), place=place) if each.column == column else each for each in made.slices
    )
    wrong = (made.truth + 1) % len(CLASSES)
    given_up = with_predictions(made, np.where(np.arange(600) < 60, wrong, made.truth))
    decision = decide(replace(given_up, slices=slices), None, KEEP)
    assert [rule.name for rule in decision.rules if not rule.passed] == [_slice_rule(column)]
    rule = next(rule for rule in decision.rules if not rule.passed)
    assert (rule.value, rule.limit) == (0.4, _limit(SLICES.accuracy))
    assert "few, 100 rows" in rule.explanation


@pytest.mark.parametrize("accuracy", [0.49, 0.5])
def test_floor_of_a_slice_is_inclusive(accuracy: float) -> None:
    """A slice at the floor passes, one just below does not."""
    made = evaluation(hit=1.0)
    wrong = (made.truth + 1) % len(CLASSES)
    rows = np.flatnonzero(made.slices[0].place == 0)
    predicted = made.truth.copy()
    missed = rows[: round(len(rows) * (1 - accuracy))]
    predicted[missed] = wrong[missed]
    assert bool(failed(with_predictions(made, predicted))) == (accuracy < 0.5)


def test_slice_with_too_few_rows_is_left_out() -> None:
    """A slice is evaluated from exactly the policy's number of rows on."""
    made = evaluation(hit=1.0)
    wrong = (made.truth + 1) % len(CLASSES)
    for rows in (SLICES.min_rows - 1, SLICES.min_rows):
        tiny = np.arange(600) < rows
        slices = tuple(replace(each, place=np.where(tiny, 0, 1)) for each in made.slices)
        missed = with_predictions(made, np.where(tiny, wrong, made.truth))
        names = failed(replace(missed, slices=slices))
        assert names == ([_slice_rule(name) for name in COLUMNS] if rows == SLICES.min_rows else [])


def test_slice_without_rows_changes_nothing() -> None:
    """A slice that no row of the holdout is in is left out, and the decision on the others is as without it."""
    candidate, champion = evaluation(hit=0.9), evaluation(hit=0.7, run="b")
    empty = tuple(replace(each, names=(*each.names, "nobody")) for each in candidate.slices)
    assert decide(replace(candidate, slices=empty), champion, KEEP) == decide(candidate, champion, KEEP)


@pytest.mark.parametrize(("rows", "refused"), [(0, True), (1, False)])
def test_a_single_row_counts_as_a_scored_holdout_and_none_does_not(rows: int, refused: bool) -> None:
    """Scores of no row at all are no evidence."""
    made = evaluation()
    few = replace(made, truth=made.truth[:rows], predicted=made.predicted[:rows], slices=())
    assert ("rows scored" in failed(few)) == refused


def test_column_that_is_not_or_cannot_be_cut_is_refused() -> None:
    """A column of the policy without slices in the evaluation, or without a slice of enough rows, fails its rule."""
    made = evaluation(hit=0.9)
    assert failed(replace(made, slices=made.slices[1:])) == [_slice_rule(COLUMNS[0])]
    alone = replace(made.slices[0], names=tuple(map(str, range(600))), place=np.arange(600))
    assert failed(replace(made, slices=(alone, *made.slices[1:]))) == [_slice_rule(COLUMNS[0])]
    champion = evaluation(hit=0.7, run="b")
    lost = f"accuracy lost in the worst {COLUMNS[0]}, against the champion"
    assert failed(replace(made, slices=made.slices[1:]), champion) == [_slice_rule(COLUMNS[0]), lost]


def test_gain_on_the_whole_is_not_paid_by_a_slice() -> None:
    """A candidate that is better overall but far worse in one half is refused, whichever half it is."""
    champion = evaluation(hit=0.75, run="b")
    for half in (0, 1):
        inside = champion.slices[0].place == half
        hits = np.flatnonzero(inside & (champion.predicted == champion.truth))
        for dropped in (0.11, 0.13):
            predicted = np.where(inside, champion.predicted, champion.truth)
            missed = hits[: round(inside.sum() * dropped)]
            predicted[missed] = (champion.truth[missed] + 1) % len(CLASSES)
            candidate = with_predictions(replace(champion, run_id="run-a", version="a"), predicted)
            expected = [f"accuracy lost in the worst {name}, against the champion" for name in COLUMNS]
            assert failed(candidate, champion) == (expected if dropped > 0.12 else [])


def test_slices_are_compared_on_rows_that_neither_was_trained_on() -> None:
    """In a slice too, rows that the champion was trained on do not count."""
    candidate, champion = evaluation(hit=0.8), evaluation(hit=0.7, run="b")
    seen = (np.arange(600) < 480) & (champion.slices[0].place == 0)
    learned = with_predictions(champion, np.where(seen, champion.truth, champion.predicted))
    lost = [f"accuracy lost in the worst {name}, against the champion" for name in COLUMNS]
    assert set(lost) <= set(failed(candidate, learned))
    assert failed(candidate, replace(learned, seen=seen)) == []


def test_age_is_counted_to_the_day_of_the_decision() -> None:
    """The same snapshot is fresh on one day and too old on another; the decision names both days."""
    made = evaluation()
    late = replace(made, judged_on=DAY + timedelta(days=8))
    assert failed(replace(made, judged_on=DAY + timedelta(days=7))) == []
    assert failed(late) == ["days since the training data"]
    reason = decide(late, None, KEEP).reasons[0]
    assert str(DAY) in reason
    assert str(DAY + timedelta(days=8)) in reason


def test_rules_that_are_switched_off_show_their_reason() -> None:
    """A comparison or a contract match that is switched off is in the decision, with its reason."""
    off = Disabled(disabled=True, reason="first model of the new contract")
    contract = KEEP.contract.model_copy(update={"version_must_match": off})
    freshness = KEEP.freshness.model_copy(update={"max_age_days": off})
    rules = KEEP.model_copy(update={"comparison": off, "contract": contract, "slices": off, "freshness": freshness})
    old = evaluation(hit=0.8, contract_version="0.1.0", trained_on=DAY - timedelta(days=900))
    decision = decide(old, evaluation(hit=0.9, run="b"), rules)
    assert decision.promote
    shown = [rule for rule in decision.rules if "first model of the new contract" in rule.explanation]
    assert [rule.name for rule in shown] == [
        "contract version",
        "days since the training data",
        "slices",
        "comparison with the champion",
    ]
    assert [(rule.value, rule.limit) for rule in shown] == [("0.1.0", None), (900.0, None), (None, None), (None, None)]
    assert not decide(replace(old, trained_on=None), None, rules).promote
    assert not decide(replace(old, trained_on=DAY + timedelta(days=1)), None, rules).promote


def test_a_limit_of_slices_that_is_switched_off_asks_for_no_rows() -> None:
    """With `max_drop` or `accuracy` off, slices of too few rows refuse nothing; with the limit on they do."""
    off = Disabled(disabled=True, reason="there are too few rows for slices")
    candidate, champion = evaluation(hit=0.85, run="a"), evaluation(hit=0.7, run="b")
    many = len(candidate.truth) + 1

    def rules(**changes: Any) -> Policy:
        return KEEP.model_copy(update={"slices": SLICES.model_copy(update={"min_rows": many} | changes)})

    on = failed(candidate, champion, rules())
    assert len(on) == 2 * len(COLUMNS)
    assert [name for name in on if "lost" in name] == failed(candidate, champion, rules(accuracy=off))
    assert failed(candidate, champion, rules(accuracy=off, max_drop=off)) == []


def test_slices_that_are_switched_off_are_not_compared_either() -> None:
    """Without slices, only the whole holdout is compared."""
    off = Disabled(disabled=True, reason="first model of the new contract")
    decision = decide(evaluation(hit=0.85), evaluation(hit=0.75, run="b"), KEEP.model_copy(update={"slices": off}))
    assert decision.promote
    assert not [rule for rule in decision.rules if "worst" in rule.name]


def test_same_arguments_same_decision() -> None:
    """Resampling is deterministic."""
    assert decide(evaluation(hit=0.8), evaluation(run="b"), KEEP) == decide(
        evaluation(hit=0.8), evaluation(run="b"), KEEP
    )


def shown(decision: Decision) -> dict[str, tuple[float | str | None, float | str | None]]:
    return {rule.name: (rule.value, rule.limit) for rule in decision.rules}


def test_every_rule_shows_what_was_found_and_what_was_demanded() -> None:
    """Value and limit of each rule are those of the evaluation and of the policy."""
    candidate, champion = evaluation(hit=0.9), evaluation(hit=0.7, run="b", seen=np.arange(600) < 12)
    decision = decide(candidate, champion, KEEP)
    scores = candidate.scores
    assert scores is not None
    found = shown(decision)
    alone = {
        "rollback": ("never rolled back", None),
        "rows scored": (600.0, 600.0),
        "rows that the API accepts": (600.0, 600.0),
        "contract version": (candidate.contract_version, candidate.contract_version),
        "drafts in the contract": (0.0, None),
        "days since the training data": (0.0, 7.0),
        "accuracy": (scores.accuracy, 0.66),
        "macro F1": (scores.macro_f1, 0.64),
        "expected calibration error": (scores.ece, 0.08),
        "one row, p95 in ms": (5.0, 40.0),
        "a row of a batch in ms": (0.02, 0.5),
        "artifact in MB": (2.0, 100.0),
    }
    assert alone.items() <= found.items()
    counted = [name for name, (value, _) in found.items() if repr(value).isdigit()]
    assert counted == [
        "rows scored",
        "rows that the API accepts",
        "drafts in the contract",
        "days since the training data",
        "rows compared",
    ]
    assert found["holdout"] == ("0" * 12, "0" * 12)
    assert found["rows compared"] == (588.0, 30.0)
    point, limit = found["macro f1 compared with the champion"]
    assert point == pytest.approx(_score(candidate, ~champion.seen, KEEP) - _score(champion, ~champion.seen, KEEP))
    assert limit == 0
    lower, margin = found["macro f1, 95% interval, lower end"]
    assert isinstance(lower, float)
    assert isinstance(point, float)
    assert 0 < lower < point
    assert margin == -0.02
    reported = {rule.name: rule.explanation for rule in decision.rules}
    assert reported["rollback"] == "this version was never rolled back"
    assert reported["rows compared"].startswith("12 left out")
    assert "is above the champion's" in reported["macro f1 compared with the champion"]
    worst = reported[f"accuracy lost in the worst {COLUMNS[0]}, against the champion"]
    assert any(f"{name}, 294 rows" in worst for name in ("left", "right"))
    assert (decision.candidate_run, decision.champion, decision.champion_run) == ("run-a", "b", "run-b")


def test_what_cannot_be_measured_shows_as_it_is() -> None:
    """A value that is not finite is shown as text, a missing one as None, each with its limit."""
    good = evaluation()
    assert good.scores is not None
    assert shown(decide(spoil(good, "accuracy", math.nan), None, KEEP))["accuracy"] == ("nan", 0.66)
    gone = replace(good, scores=None, predicted=good.predicted[:0])
    assert shown(decide(gone, None, KEEP))["accuracy"] == (None, 0.66)
    assert shown(decide(gone, None, KEEP))["rows scored"] == (0.0, 600.0)
    slices = [rule for rule in decide(gone, None, KEEP).rules if "worst" in rule.name]
    assert all("no slice was scored on the 30 rows" in rule.explanation for rule in slices)
    future = replace(good, trained_on=DAY + timedelta(days=1))
    assert shown(decide(future, None, KEEP))["days since the training data"] == (-1.0, 7.0)
    rolled_back = decide(replace(good, rolled_back=True), None, KEEP)
    assert shown(rolled_back)["rollback"] == ("rolled back", None)
    off = Disabled(disabled=True, reason="a test of what is shown")
    floors = KEEP.floors.model_copy(update={"accuracy": off, "recall": {CLASSES[0]: 0.1}})
    found = shown(decide(good, None, KEEP.model_copy(update={"floors": floors})))
    assert found["accuracy"] == (good.scores.accuracy, None)
    assert found[f"recall of {CLASSES[1]}"] == (good.scores.recall[CLASSES[1]], None)


def test_who_was_there_before_is_told() -> None:
    """No champion shows as none, and the champion itself by its version."""
    made = evaluation()
    first, again = decide(made, None, KEEP), decide(made, made, KEEP)
    assert shown(first)["champion"] == ("none", None)
    assert (first.champion, first.champion_run) == (None, None)
    assert shown(again) == {"champion": ("a", None)}
    assert (again.champion, again.champion_run) == ("a", "run-a")
    other = decide(replace(made, holdout="1" * 64), evaluation(run="b"), KEEP)
    assert shown(other)["holdout"] == ("1" * 12, "0" * 12)


def test_as_many_rows_as_the_policy_wants_are_enough() -> None:
    """The minimum number of rows to compare is inclusive."""
    candidate = evaluation(hit=1.0)
    for left in (30, 29):
        champion = replace(evaluation(hit=0.5, run="b"), seen=np.arange(600) >= left)
        names = failed(candidate, champion)
        assert ("rows compared" in names) == (left < 30)


def rule(name: str, value: float | str | None, limit: float | None, *, passed: bool = True) -> RuleResult:
    return RuleResult(name=name, value=value, limit=limit, passed=passed, explanation="a | b" if passed else "too low")


def test_page_is_readable() -> None:
    """Numbers are rounded, whole ones have no decimals, missing values are a dash, and pipes are escaped."""
    decision = Decision(
        status=Status.REFUSE,
        candidate="3",
        candidate_run="abc",
        champion="2",
        champion_run="def",
        holdout="0123456789abcdef",
        rules=(
            rule("share", 0.71234, 0.5),
            rule("one", 1.0, 2.0),
            rule("halves", 1.5, 0.0),
            rule("count", 0, 0),
            rule("version", "1.0.0", None),
            rule("missing", None, 0.64, passed=False),
        ),
    )
    assert (
        to_markdown(decision)
        == """\
# Version 3: refuse

Run `abc`, against champion version 2, on the holdout `0123456789ab`.

| rule | value | limit | verdict | explanation |
|---|---:|---:|---|---|
| share | 0.7123 | 0.5000 | pass | a \\| b |
| one | 1 | 2 | pass | a \\| b |
| halves | 1.5000 | 0.0000 | pass | a \\| b |
| count | 0 | 0 | pass | a \\| b |
| version | 1.0.0 | - | pass | a \\| b |
| missing | - | 0.6400 | **fail** | too low |
"""
    )
    assert ", against no champion, on" in to_markdown(replace(decision, champion=None))
    assert decision.reasons == ("missing: too low",)


def test_a_number_that_json_does_not_know_is_never_written() -> None:
    """A decision with NaN raises instead of writing invalid JSON."""
    decision = decide(evaluation(), None, KEEP)
    with pytest.raises(ValueError, match="JSON"):
        to_json(replace(decision, rules=(rule("broken", math.nan, None),)))


@properties
@given(st.data())
def test_decision_is_written_whole(data: st.DataObject) -> None:
    """The JSON has every rule and no NaN; the Markdown has a row for every rule and shows which failed."""
    made = data.draw(evaluations("a"))
    field = data.draw(st.sampled_from([*NUMBERS, *COSTS]))
    decision = decide(spoil(made, field, math.nan), data.draw(st.none() | evaluations("b")), KEEP)
    written = json.loads(json.dumps(to_json(decision), allow_nan=False))
    assert written["schema_version"] == 1
    assert written["promote"] is False
    assert written["status"] == "refuse"
    assert [rule["name"] for rule in written["rules"]] == [rule.name for rule in decision.rules]
    assert written["reasons"] == list(decision.reasons)
    page = to_markdown(decision)
    assert page.count("\n| ") == len(decision.rules) + 1
    assert page.count("**fail**") == len(decision.reasons)

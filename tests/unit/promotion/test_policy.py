import copy
import json
import os
import tomllib
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.spec import Contract, Kind
from ctcd.errors import UsageError
from ctcd.model.threshold import Threshold
from ctcd.promotion.policy import Disabled, Policy, load_policy, switches
from ctcd.training.grid import load_profile

COLUMN = CONTRACT.model_inputs[0].name
SHIPPED: dict[str, Any] = tomllib.loads(INSTANCE.promotion_policy.read_text(encoding="utf-8"))


BINARY = {"positive": "yes", "threshold": 0.3, "roc_auc": 0.6, "average_precision": 0.4}


def of_classes(*classes: str) -> Contract:
    """Return the contract with other classes."""
    contract = replace(CONTRACT)
    vars(contract)["classes"] = classes  # a cached property
    return contract


def changed(path: str, value: object, policy: dict[str, Any] = SHIPPED) -> dict[str, Any]:
    """Return a policy, by default the instance's, with one value changed, or removed if it is None."""
    data = copy.deepcopy(policy)
    *folders, name = path.split(".")
    place = data
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[name]
    else:
        place[name] = value
    return data


def toml(data: dict[str, Any], prefix: str = "") -> str:
    """Write plain nested tables as TOML."""
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{key}]", toml(value, f"{prefix}{key}.")]
        else:
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.insert(0, f"{json.dumps(key)} = {shown}")
    return "\n".join(lines)


def load(data: dict[str, Any], folder: Path, contract: Contract = CONTRACT) -> Policy:
    instance = replace(INSTANCE, folder=folder, contract=contract)
    instance.promotion_policy.write_text(toml(data))
    return load_policy(instance)


def test_shipped_policy_is_valid_and_covers_every_class() -> None:
    """The instance's policy loads, and has a floor for each class."""
    policy = load_policy(INSTANCE)
    assert all(isinstance(floor, float) for floor in policy.floors.recall.values())
    assert not isinstance(policy.comparison, Disabled)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("floors.accuracy", 0.0),
        ("floors.accuracy", 1.01),
        ("floors.accuracy", -0.1),
        ("floors.accuracy", True),
        ("floors.accuracy", "0.7"),
        ("floors.accuracy", float("nan")),
        ("floors.accuracy", None),
        ("floors.f1", 0.5),
        (f"floors.recall.{CONTRACT.classes[0]}", 0.0),
        ("comparison.margin", 1.0),
        ("comparison.margin", -0.1),
        ("comparison.confidence", 0.0),
        ("comparison.resamples", 1),
        ("comparison.tie", "maybe"),
        ("comparison.metric", "log_loss"),
        ("comparison.min_rows", 0),
        ("comparison.enabled", False),
        ("comparison", None),
        ("comparison", {"disabled": True}),
        ("comparison", {"disabled": True, "reason": ""}),
        ("comparison", {"disabled": False, "reason": "it is not switched off"}),
        ("calibration.max_ece", 0.0),
        ("calibration.max_ece", 2.0),
        ("speed.max_row_p95_ms", 0.0),
        ("speed.max_row_p95_ms", float("inf")),
        ("artifact.max_mb", -1.0),
        ("contract.version_must_match", False),
        ("slices", None),
        ("slices", {"disabled": True}),
        ("slices.by", {}),
        ("slices.by", {COLUMN: "all of it"}),
        ("slices.by", {COLUMN: []}),
        ("slices.by", {COLUMN: [30.0, 20.0]}),
        ("slices.by", {COLUMN: [30.0, 30.0]}),
        ("slices.min_rows", 1),
        ("slices.accuracy", 0.0),
        ("slices.max_drop", 0.0),
        ("slices.max_drop", 1.0),
        ("freshness", None),
        ("freshness.max_age_days", 0),
        ("freshness.max_age_days", 10_000),
        ("freshness.max_age_days", None),
        ("contract", None),
        ("fairness", {"max_gap": 0.1}),
    ],
)
def test_rule_that_is_missing_unknown_or_without_effect_is_refused(path: str, value: object, tmp_path: Path) -> None:
    """A policy cannot lose a rule silently; the message names the rule, not its internal representation."""
    with pytest.raises(UsageError) as refusal:
        load(changed(path, value), tmp_path)
    assert path in str(refusal.value) or path.rpartition(".")[0] in str(refusal.value)
    assert "switched off with { disabled = true" in str(refusal.value)
    assert "promotion.toml" in str(refusal.value)


@pytest.mark.parametrize("path", [path.replace("CLASS", "yes") for path in ("slices.max_drop", *switches(Policy))])
def test_rule_can_be_switched_off_with_a_reason(path: str, tmp_path: Path) -> None:
    """Every rule that the hint names can be switched off by replacing its limit with a reason."""
    value = {"disabled": True, "reason": "the first model of a new contract"}
    rules = changed("floors.recall", {"no": 0.1, "yes": 0.1}, SHIPPED | {"binary": BINARY})
    policy: Any = load(changed(path, value, rules), tmp_path, of_classes("no", "yes"))
    for name in path.split("."):
        policy = policy[name] if isinstance(policy, dict) else getattr(policy, name)
    assert isinstance(policy, Disabled)
    assert policy.reason == "the first model of a new contract"


def test_what_may_be_switched_off_is_listed() -> None:
    """Each of these has a value that can be a reason instead; nothing else can be switched off."""
    assert list(switches(Policy)) == [
        "floors.accuracy",
        "floors.macro_f1",
        "floors.recall.CLASS",
        "comparison",
        "slices",
        "slices.accuracy",
        "slices.max_drop",
        "calibration.max_ece",
        "speed.max_row_p95_ms",
        "speed.max_batch_row_ms",
        "artifact.max_mb",
        "contract.version_must_match",
        "freshness.max_age_days",
        "binary.roc_auc",
        "binary.average_precision",
    ]


def test_class_without_a_floor_or_of_another_contract_is_named(tmp_path: Path) -> None:
    """Recall floors are those of the contract's classes, no more and no fewer."""
    floors = SHIPPED["floors"]["recall"]
    with pytest.raises(UsageError, match=r"promotion policy, floors\.recall: Brilliant is not a class"):
        load(changed("floors.recall", floors | {"Brilliant": 0.5}), tmp_path)
    with pytest.raises(UsageError, match=f"no floor for class {CONTRACT.classes[-1]}"):
        load(changed(f"floors.recall.{CONTRACT.classes[-1]}", None), tmp_path)


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        (("no", "yes"), {}, ""),
        (("no", "yes"), {"positive": "maybe"}, r"binary\.positive: maybe is not a class of the contract: no, yes"),
        (
            ("no", "yes", "both"),
            {},
            r"binary: positive, threshold, .* for two classes: the contract has 3[^b]*remove the table \[binary\]",
        ),
    ],
)
def test_a_positive_class_is_one_of_two(
    classes: tuple[str, ...], changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """A policy for two classes names one of them; for more classes, or without it, there is no threshold."""
    rules = changed("floors.recall", dict.fromkeys(classes, 0.1), SHIPPED | {"binary": BINARY | changes})
    with pytest.raises(UsageError, match=message) if message else nullcontext():
        assert load(rules, tmp_path, of_classes(*classes)).threshold == Threshold(positive="yes", value=0.3)
    assert load(SHIPPED, tmp_path).threshold is None


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 0.0), ("threshold", 1.0), ("threshold", None), ("roc_auc", None), ("auc", 0.5)]
)
def test_the_rules_of_two_classes_are_complete_and_have_an_effect(name: str, value: object, tmp_path: Path) -> None:
    """A key that is missing, unknown or without effect is refused by name."""
    given = {key: each for key, each in (BINARY | {name: value}).items() if each is not None}
    with pytest.raises(UsageError, match=rf"binary\.{name}: "):
        load(SHIPPED | {"binary": given}, tmp_path)


def test_bands_that_do_not_ascend_are_named(tmp_path: Path) -> None:
    """The place is the one in the file, without what tells a number from a list."""
    with pytest.raises(UsageError) as refused:
        load(changed("slices.by.hours", [3.0, 1.0]), tmp_path)
    assert "slices.by.hours: band edges must be in ascending order" in str(refused.value)


def test_slices_that_cannot_be_cut_are_named(tmp_path: Path) -> None:
    """Slices are made of model inputs, of numbers by bands and of everything else by value."""
    number = next(column.name for column in CONTRACT.model_inputs if column.kind is Kind.NUMBER)
    text = next(column.name for column in CONTRACT.model_inputs if column.kind is Kind.CATEGORY)
    wrong = {CONTRACT.label.name: "each value", number: "each value", text: [1.0], "nothing": "each value"}
    with pytest.raises(UsageError) as refusal:
        load(changed("slices.by", wrong), tmp_path)
    for message in (
        f"{CONTRACT.label.name} is not an input",
        f"{number} is a number: give the edges",
        f"{text} is not a number: cut it by",
        "nothing is not an input",
        "promotion policy, slices.by: ",
    ):
        assert message in str(refusal.value)
    load(changed("slices.by", {number: [1.0], text: "each value"}), tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe in place of a file, policy or profiles, is refused at once: reading it would wait for a writer."""
    instance = replace(INSTANCE, folder=tmp_path)
    for pipe in (instance.promotion_policy, instance.training_profiles):
        os.mkfifo(pipe)
    for read in (load_policy, partial(load_profile, "fast")):
        with pytest.raises(UsageError, match=r"\.toml: cannot be read: it is not a regular file"):
            read(instance)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"a = ", "not TOML"),
        (b"\xff", "read"),
        (b"a = " + b"9" * 5000, "not TOML: Exceeds the limit"),
        (b"a = " + b"[" * 5000, "not TOML: maximum recursion depth"),
    ],
)
def test_unreadable_policy_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    """A file that is missing, not TOML or not text gives a one-line error with its path."""
    instance = replace(INSTANCE, folder=tmp_path)
    if content is not None:
        instance.promotion_policy.write_bytes(content)
    with pytest.raises(UsageError, match=message) as refusal:
        load_policy(instance)
    assert str(instance.promotion_policy) in str(refusal.value)

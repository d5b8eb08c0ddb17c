"""The policy of a challenger's traffic: what it refuses, whom a condition and a hash choose, and the experiment that runs."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.instance import CONTRACT, INSTANCE

from ctcd.contract.conditions import condition
from ctcd.contract.traffic import LEAD_SECONDS, Experiment, Mode, Shadow, TrafficPolicy, chosen, load_traffic
from ctcd.errors import UsageError

TEXT = """
default = "champion"

[shadow]
share = 1.0

[canary]
steps = [
    { share = 0.05, min_answers = 500 },
    { share = 0.25, min_answers = 2_000 },
]

[[route]]
when = 'grade == "Low" and stops > 10'
alias = "champion"

[[route]]
when = 'stops > 5 or maker in ("Acme", "Borealis")'
alias = "challenger"
"""
ROW: dict[str, Any] = {column.name: column.example for column in CONTRACT.request_columns}
VERSION = "5"


def policy(tmp_path: Path, text: str = TEXT) -> TrafficPolicy:
    path = tmp_path / "traffic.toml"
    path.write_text(text)
    found = load_traffic(path, CONTRACT)
    assert found is not None
    return found


def test_without_a_file_there_is_no_traffic() -> None:
    """The policy is optional: an instance without it has none, and its lock and its policies do not name it."""
    assert INSTANCE.traffic is None
    assert INSTANCE.traffic_policy not in INSTANCE.policies


@pytest.mark.parametrize("target", ["traffic.toml", "gone.toml"])
def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(tmp_path: Path, target: str) -> None:
    """The traffic that it was to describe would be off without a word: a link to itself or to a deleted file is refused."""
    path = tmp_path / "traffic.toml"
    path.symlink_to(tmp_path / target)
    with pytest.raises(UsageError, match="cannot be read"):
        load_traffic(path, CONTRACT)
    assert path in replace(INSTANCE, folder=tmp_path).policies


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("share = 1.0", "share = 1.01", r"shadow\.share: .* less than or equal to 1"),
        ("share = 1.0", "share = 0.0", r"shadow\.share"),
        ("share = 1.0", "shares = 1.0", r"shadow\.share: Field required; shadow\.shares: [^(]*$"),
        ("share = 0.05", "share = 0.3", "larger than the one before"),
        ("share = 0.25", "share = 1.0", r"canary\.steps 2\.share"),
        ("min_answers = 500", "min_answers = 0", r"canary\.steps 1\.min_answers: .*"),
        ('default = "champion"', "", "default: routes need one"),
        ('default = "champion"', 'default = "best"', "default"),
        ('alias = "challenger"', 'alias = "previous"', r"route 2\.alias: .*"),
        ("stops > 5", "halts > 5", r"route 2, when: 'halts' is not a column of requests, these are: machine, hours"),
        ('"Low"', '"low"', r"route 1, when: .*'low' is not a category of grade"),
        (TEXT, "", "neither"),
        (TEXT, "default = 'champion'", "it needs routes"),
        (TEXT, "[shadow", "not TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """Unknown keys, shares out of range, steps that do not rise, and conditions that do not fit the contract are named."""
    policy(tmp_path)
    assert TEXT.count(old) == 1
    with pytest.raises(UsageError, match=problem):
        policy(tmp_path, TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("values", "alias"),
    [
        ({"grade": "Low", "stops": 11.0}, "champion"),
        ({"grade": "Low", "stops": 10.0}, "challenger"),
        ({"stops": 5.0, "maker": "Acme"}, "challenger"),
        ({"stops": 5.0, "maker": "Cyclone"}, "champion"),
    ],
)
def test_the_first_route_whose_condition_is_met_decides(tmp_path: Path, values: dict[str, Any], alias: str) -> None:
    """A row that meets none goes to the default."""
    assert policy(tmp_path).router(CONTRACT)(ROW | values) == alias


MET = {
    "stops > 3": False,
    "stops >= 3": True,
    "2 < stops <= 3": True,
    "3 < stops": False,
    "stops != 3": False,
    "stops == 3 and hours == 3900": True,
    "stops == 4 or not hours < 3900": True,
    "not (stops == 3 or humidity > 1)": False,
    "shift in ('night', 'late_long')": False,
    "shift not in ['night']": True,
    "machine == 4711": True,
    "humidity is None": False,
    "humidity is not None and row['stops'] > -1": True,
    "parts == 'bearing,fan belt'": True,
}


@pytest.mark.parametrize("text", MET)
def test_a_condition_means_what_it_means_in_python(text: str) -> None:
    """It is met by a row exactly when Python's expression of the same text is true of it."""
    assert eval(text, {"row": ROW, **ROW}) is MET[text]  # noqa: S307 - our own texts, and the oracle
    assert condition(text, CONTRACT)(ROW) is MET[text]


@pytest.mark.parametrize("text", ["humidity > 1", "humidity < 1", "humidity != 1", "shift not in ('night',)"])
def test_a_missing_value_meets_no_comparison(text: str) -> None:
    """Neither one nor its opposite, as in SQL; `is None` asks for it."""
    row = ROW | {"humidity": None, "shift": None}
    assert condition(text, CONTRACT)(row) is False
    assert condition("humidity is None and shift is None", CONTRACT)(row) is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a condition"),
        ("stops >", "is not a condition"),
        ("(" * 300 + "stops > 1" + ")" * 300, "is not a condition"),
        ("stops", "not a comparison"),
        ("True", "not a comparison"),
        ("1 < 2", "compares no column"),
        ("stops > hours", "has to be compared with a number, not with hours"),
        ("stops > '1'", "has to be compared with a number, not with '1'"),
        ("stops > True", "has to be compared with a number, not with True"),
        ("stops > 1e999", "has to be compared with a number"),
        ("stops > " + "9" * 400, "has to be compared with a number"),
        ("stops > " + "-" * 900 + "1", "is nested too deeply"),
        ("maker == 3", "has to be compared with text, not with 3"),
        ("maker < 'B'", "maker has no order"),
        ("grade in 'Low'", "has to be a list of literals"),
        ("grade in ()", "has to be a list of literals"),
        ("stops is 3", "'is' is for None"),
        ("stops is None", "stops is never missing"),
        ("row['gradee'] == 'Low'", "'gradee' is not a column"),
        ("operator == 'Jane Doe'", "'operator' is not a column"),
        ("__import__('os').system('true')", "not a comparison"),
        ("stops.real > 1", "compares no column"),
        ("(lambda: 1)() > 1", "compares no column"),
        ("[each for each in (1, 2)] == stops", "has to be compared with a number"),
    ],
)
def test_what_is_no_condition_over_the_contract_is_refused(text: str, problem: str) -> None:
    """Nothing is evaluated: what is not a comparison of a column with literals that it may have is refused, by name."""
    with pytest.raises(UsageError, match=problem):
        condition(text, CONTRACT)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_hash_chooses_its_share_of_the_groups(share: float) -> None:
    """Of 20,000 groups within five standard deviations; all of a smaller share belong to every larger one."""
    groups = range(20_000)
    found = {group for group in groups if chosen("salt", group, share)}
    assert abs(len(found) - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5
    assert {group for group in groups if chosen("salt", group, share / 2)} < found
    assert all(chosen("salt", group, 1.0) for group in groups)


def test_each_experiment_chooses_other_groups() -> None:
    """The salt changes them: of the groups that one chooses, another one chooses its share only."""
    one = [group for group in range(20_000) if chosen("one", group, 0.5)]
    both = sum(chosen("another", group, 0.5) for group in one)
    assert 0.45 < both / len(one) < 0.55


def test_a_hash_chooses_the_same_groups_everywhere() -> None:
    """In every process and release, so that a group stays with its version: these are literal."""
    found = [group for group in range(40) if chosen("0123456789abcdef", group, 0.25)]
    assert found == [2, 4, 7, 12, 18, 21, 28, 29, 30, 33, 37]


def test_the_parts_of_an_experiment_follow_each_other(tmp_path: Path) -> None:
    """A step keeps id and start, and its share holds until it takes effect; another version is another experiment."""
    found = policy(tmp_path)
    first = found.experiment(Mode.CANARY, VERSION)
    effective = datetime.fromisoformat(first.effective).timestamp()
    lead = (datetime.fromisoformat(first.effective) - datetime.now(UTC)).total_seconds()
    assert LEAD_SECONDS - 10 < lead <= LEAD_SECONDS
    assert (first.step, first.share_at(effective - 0.001), first.share_at(effective)) == (1, 0.0, 0.05)
    running = replace(first, effective="2025-08-31T00:00:00+00:00")
    second = found.experiment(Mode.CANARY, VERSION, step=2, running=running)
    assert (second.id, second.started, second.step) == (first.id, first.started, 2)
    effective = datetime.fromisoformat(second.effective).timestamp()
    assert (second.share_at(effective - 0.001), second.share_at(effective)) == (0.05, 0.25)
    routed = found.experiment(Mode.ROUTE, VERSION, running=second)
    assert (routed.id, routed.step, routed.before, routed.share) == (first.id, 0, 0.0, 1.0)
    other = found.experiment(Mode.CANARY, "6", running=second)
    assert other.id != first.id
    assert other.before == 0.0


def test_a_kind_of_traffic_that_the_policy_does_not_have_cannot_be_started(tmp_path: Path) -> None:
    """Nor a step that it does not have."""
    found = policy(tmp_path, "[shadow]\nshare = 0.5\n")
    assert found.experiment(Mode.SHADOW, VERSION).share == 0.5
    for mode, section in ((Mode.CANARY, r"\[canary\]"), (Mode.ROUTE, r"\[\[route\]\]")):
        with pytest.raises(UsageError, match=section):
            found.experiment(mode, VERSION)
    for step in (0, 3):
        with pytest.raises(UsageError, match=f"there is no step {step}, there are 2"):
            policy(tmp_path).experiment(Mode.CANARY, VERSION, step=step)


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "both"},
        {"share": 0.0},
        {"share": 1.5},
        {"share": "all"},
        {"before": -0.1},
        {"id": ""},
        {"version": 5},
        {"effective": "soon"},
        {"extra": 1},
    ],
)
def test_what_is_no_experiment_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    """A tag that somebody has changed by hand has no effect."""
    known = vars(policy(tmp_path).experiment(Mode.SHADOW, VERSION))
    assert vars(Experiment.of(known)) == known
    with pytest.raises(UsageError, match="not an experiment"):
        Experiment.of(known | values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 5), ("id", " "), ("version", 2), ("mode", "all"), ("share", True), ("share", "0.5"), ("share", math.nan),
        ("step", "1"), ("step", True), ("step", -1), ("step", 1.0), ("started", 1), ("effective", "2026-01-01"),
        ("before", False), ("other", 1),
    ],
)  # fmt: skip
def test_each_value_of_an_experiment_has_its_type(name: str, value: object) -> None:
    """Each value has its type, also where Python would compute with another one."""
    known = vars(TrafficPolicy(shadow=Shadow(share=1.0)).experiment(Mode.SHADOW, "2"))
    assert Experiment.of(json.loads(json.dumps(known | {"share": 1}))).share == 1
    with pytest.raises(UsageError, match="not an experiment"):
        Experiment.of(known | {name: value})

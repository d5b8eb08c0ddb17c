from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import at_most
from support.frames import clean_tables, snapshot_frame
from support.instance import CONTRACT
from support.schemas import features_schema

from ctcd.contract.schemas import batch_schema, snapshot_schema
from ctcd.contract.validation import ContractBroken, ValidationReport, examine_chunks

SCHEMA = snapshot_schema(CONTRACT)


@pytest.fixture(scope="module")
def good() -> pd.DataFrame:
    """A valid snapshot."""
    return snapshot_frame(CONTRACT, rows=60)


def breaches_of(frame: pd.DataFrame, schema: pa.DataFrameSchema = SCHEMA) -> dict[str, int]:
    """Return every broken rule with the number of rows that break it."""
    report = examine_chunks([frame], schema, CONTRACT, where="x")
    return {f"{breach.column} {breach.rule}".strip(): breach.count for breach in report.breaches}


def refusal_of(frame: pd.DataFrame, schema: pa.DataFrameSchema = SCHEMA) -> ContractBroken:
    """Return the error with which a stage refuses an invalid frame."""
    report = examine_chunks([frame], schema, CONTRACT, where="snapshot of today")
    assert report.breaches
    return ContractBroken(report)


def with_value(frame: pd.DataFrame, column: str, value: object, rows: int = 2) -> pd.DataFrame:
    """Return the frame with a value in some rows of a column, whatever its type."""
    values = frame[column].astype(object)
    values.iloc[:rows] = value
    return frame.assign(**{column: values.infer_objects()})


def test_a_good_frame_has_a_report_without_breaches(good: pd.DataFrame) -> None:
    """The report on valid data has the number of rows and the contract's version."""
    report = examine_chunks([good], SCHEMA, CONTRACT, where="snapshot")
    assert report == ValidationReport(where="snapshot", contract_version=CONTRACT.version, rows=len(good), breaches=())


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("hours", 0, "hours is below 1"),
        ("hours", 20_001, "hours is above 20000"),
        ("hours", 1.5, "hours is not a whole number"),
        ("hours", None, "hours is missing"),
        ("hours", "old", "hours is not a whole number"),
        ("vibration", -0.1, "vibration is below 0"),
        ("vibration", np.inf, "vibration is above 100"),
        ("vibration", np.nan, "vibration is missing"),
        ("vibration", "high", "vibration is not a number"),
        ("grade", "_", "grade is not one of High, Fair, Low"),
        ("maker", "_____", "maker does not match the contract's pattern"),
        ("maker", "x" * 65, "maker is longer than 64 characters"),
        ("maker", None, "maker is missing"),
        ("condition", "Fair", "condition is not one of failing, worn, sound"),
        ("taken_on", "someday", "taken_on is not a calendar date"),
    ],
)
def test_each_broken_rule_is_reported_in_words(good: pd.DataFrame, column: str, value: object, rule: str) -> None:
    """An invalid value is reported under exactly the rule it breaks, with the number of rows."""
    assert breaches_of(with_value(good, column, value)) == {rule: 2}


def test_a_fraction_is_found_among_objects(good: pd.DataFrame) -> None:
    """An integer column of Python objects is not truncated to integers."""
    column = good["num_parts"].astype(object)
    column.iloc[3] += 0.5
    assert breaches_of(good.assign(num_parts=column))["num_parts is not a whole number"] == 1


def test_rules_over_several_columns_are_reported(good: pd.DataFrame) -> None:
    """A list whose length is not its count breaks the contract's rule, reported under its name and description."""
    assert breaches_of(with_value(good, "num_parts", 20, rows=3)) == {
        "breaks one_entry_per_part: parts has as many entries as num_parts says": 3
    }
    assert "parts has an unknown entry" in breaches_of(with_value(good, "parts", "gear box"))


def test_missing_and_unknown_columns_are_named(good: pd.DataFrame) -> None:
    """Every wrong column is named, and checks that cannot run because of it are not reported."""
    changed = good.drop(columns=["parts", "hours"]).assign(extra=1)
    assert breaches_of(changed) == {
        "extra is a column that is not in the contract": 0,
        "hours is a column that is missing": 0,
        "parts is a column that is missing": 0,
    }


def test_duplicate_keys_are_reported(good: pd.DataFrame) -> None:
    """A row with the key of an earlier row is reported."""
    assert breaches_of(pd.concat([good, good.iloc[:1]], ignore_index=True)) == {
        "duplicate key: taken_on, reading, machine": 1
    }


def test_a_frame_without_rows_is_refused(good: pd.DataFrame) -> None:
    """A frame without rows is refused."""
    assert str(refusal_of(good.iloc[:0])).startswith("snapshot of today: there are no rows")


def test_the_error_is_one_line_with_the_first_row(good: pd.DataFrame) -> None:
    """The message is one line with the rule, the count and the first row; the report has them separately."""
    refused, first = refusal_of(with_value(good, "hours", 0)), good.iloc[0]
    assert str(refused) == (
        f"snapshot of today: hours is below 1 in 2 of {len(good)} rows "
        f"(first: reading {first['reading']}, machine {first['machine']}, day {first['day']:%Y-%m-%d}: '0') "
        "(correct the data, or change the contract)"
    )
    [breach] = refused.report.breaches
    assert (breach.count, breach.share) == (2, 2 / len(good))
    assert [example.keys["reading"] for example in breach.examples] == [
        str(number) for number in good["reading"].iloc[:2]
    ]
    assert refused.exit_code == 3


def test_many_breaches_are_cut_short_in_the_message_only(good: pd.DataFrame) -> None:
    """The message shows the first five rules and counts the others; the report has them all."""
    changed = good
    for column in (
        "hours",
        "vibration",
        "stops",
        "grade",
        "wear",
        "humidity",
    ):
        changed = with_value(changed, column, -1)
    refused = refusal_of(changed)
    assert "; and 1 more" in str(refused)
    assert len(refused.report.breaches) == 6


@pytest.mark.slow
def test_personal_values_are_never_reported() -> None:
    """A personal value that breaks its rule is counted and located, but neither message nor report repeats it."""
    features, _ = clean_tables(CONTRACT, rows=30)
    secret = "Jane Secret " * 20
    schema = features_schema(CONTRACT)
    refused = refusal_of(with_value(features, "operator", secret), schema)
    assert "operator is longer than 100 characters in 2 of" in str(refused)
    assert "Secret" not in f"{refused} {refused.report!r}"
    refused = refusal_of(with_value(features.assign(operator=secret[:50]), "num_parts", 20), schema)
    assert "Secret" not in f"{refused} {refused.report!r}"


@pytest.mark.parametrize(
    "index",
    [lambda n: range(100, 100 + n), lambda n: ["x"] * n, lambda n: range(n - 1, -1, -1)],
    ids=["shifted", "same", "reversed"],
)
def test_any_index_will_do(good: pd.DataFrame, index: Callable[[int], object]) -> None:
    """Rows are identified by position, whatever the frame's index is."""
    changed = with_value(good, "hours", 0)
    changed.index = pd.Index(list(index(len(changed))))  # type: ignore[call-overload]  # any labels
    assert breaches_of(changed) == {"hours is below 1": 2}
    [breach] = examine_chunks([changed], SCHEMA, CONTRACT, where="x").breaches
    assert breach.examples[0].keys["reading"] == str(good["reading"].iloc[0])


def test_a_batch_needs_no_rules_over_columns(good: pd.DataFrame) -> None:
    """Rows to be scored are validated against the rules of single columns only."""
    changed = with_value(good, "num_parts", 20)
    assert breaches_of(changed, batch_schema(CONTRACT)) == {}
    assert breaches_of(with_value(changed, "num_parts", 21), batch_schema(CONTRACT)) == {"num_parts is above 20": 2}


@pytest.mark.slow
@settings(deadline=None, max_examples=at_most(25))
@given(rows=st.sets(st.integers(0, 59), min_size=1))
def test_exactly_the_broken_rows_are_counted(good: pd.DataFrame, rows: set[int]) -> None:
    """Whichever rows are invalid, exactly they are counted, and the first three are shown in order."""
    frame = good.copy()
    frame.loc[sorted(rows), "hours"] = 0
    [breach] = examine_chunks([frame], SCHEMA, CONTRACT, where="x").breaches
    assert breach.count == len(rows)
    assert [example.keys["reading"] for example in breach.examples] == [
        str(frame["reading"][row]) for row in sorted(rows)[:3]
    ]


@pytest.mark.slow
@settings(deadline=None, max_examples=at_most(25))
@given(data=st.data())
def test_rows_in_chunks_have_the_report_of_all_of_them(good: pd.DataFrame, data: st.DataObject) -> None:
    """However rows are cut into frames, the report is the one on all of them: counts, shares, examples, repeated keys."""
    frame = good.iloc[:40].copy()
    places = st.lists(st.integers(0, 39), max_size=6)
    for column, value in (("hours", 0), ("vibration", np.nan), ("grade", "_")):
        frame.loc[data.draw(places), column] = value
    again = frame.iloc[data.draw(places)]
    frame = pd.concat([frame, again], ignore_index=True)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(frame)), max_size=4))), len(frame)]
    parts = [frame.iloc[start:stop] for start, stop in pairwise(cuts)]
    whole = examine_chunks([frame], SCHEMA, CONTRACT, where="x")
    chunked = examine_chunks(parts, SCHEMA, CONTRACT, where="x")
    in_order = partial(sorted, key=lambda breach: (breach.column, breach.rule))
    assert in_order(chunked.breaches) == in_order(whole.breaches)
    repeats = [breach.count for breach in whole.breaches if breach.rule.startswith("duplicate key")]
    assert repeats == ([len(again)] if len(again) else [])


def test_keys_repeat_whatever_type_a_frame_has_them_in(good: pd.DataFrame) -> None:
    """Keys are compared by value, even if a reader returns text in one chunk and numbers in the next."""
    as_text = good.iloc[:3].assign(**{name: good[name].iloc[:3].astype(str) for name in ("reading", "machine")})
    as_text["taken_on"] = as_text["taken_on"].dt.strftime("%Y-%m-%d")
    broken = with_value(good.iloc[10:20], "reading", "?", rows=1)
    report = examine_chunks([good.iloc[:10], broken, as_text], SCHEMA, CONTRACT, where="x")
    found = {f"{breach.column} {breach.rule}".strip(): breach.count for breach in report.breaches}
    assert found == {"reading is not a whole number": 1, "duplicate key: taken_on, reading, machine": 3}


def test_no_frames_are_no_rows() -> None:
    """A source that yields no frame is reported like an empty frame."""
    [breach] = examine_chunks([], SCHEMA, CONTRACT, where="x").breaches
    assert breach.rule == "there are no rows"


def test_a_long_value_is_truncated(good: pd.DataFrame) -> None:
    """A very long value is truncated in the report."""
    [pattern, length] = refusal_of(with_value(good, "maker", "_" * 10**6)).report.breaches
    assert {pattern.examples[0].value, length.examples[0].value} == {"_" * 200 + "..."}

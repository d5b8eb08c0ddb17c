"""Whether the database and pandera agree about the rules of single columns."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from support.instance import CONTRACT, INSTANCE
from support.snapshots import loosen_snapshot_table, put_snapshot
from support.strategies import BrokenRow, broken_rows, valid_rows

from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.spec import Kind
from ctcd.contract.validation import MISSING, failures
from ctcd.monitoring import checkpoint
from ctcd.monitoring.expectations import Rule, snapshot_query, snapshot_rules
from ctcd.monitoring.tolerances import load_tolerances
from ctcd.store.engine import connect

pytestmark = pytest.mark.integration

DAY = date(2025, 8, 31)
SCHEMA = snapshot_schema(CONTRACT)
# A typed column cannot hold the other kinds of breakage.
STORABLE = ("minimum", "maximum", "category", "pattern", "max_length", "list", "required")


@pytest.fixture
def engine(each_store_url: str) -> Iterator[Engine]:
    """A store whose snapshot table has no constraints."""
    engine = connect(each_store_url)
    loosen_snapshot_table(engine, CONTRACT)
    yield engine
    engine.dispose()


def storable(drawn: BrokenRow) -> bool:
    return drawn.rule in STORABLE


def column_rules() -> list[Rule]:
    rules = snapshot_rules(CONTRACT, load_tolerances(INSTANCE), DAY, None)
    return [rule for rule in rules if not rule.compares and rule.column in SCHEMA.columns and "class " not in rule.rule]


def said_by_database(engine: Engine) -> Counter[tuple[str, str]]:
    rules = column_rules()
    query = snapshot_query(CONTRACT, DAY, engine.dialect)
    answers = checkpoint.run(engine, query, rules, name="agreement")
    return Counter({(rules[place].column, rules[place].rule): answer.failed for place, answer in answers.items()})


def said_by_pandera(frame: pd.DataFrame, *, blanks_count: bool) -> Counter[tuple[str, str]]:
    said: Counter[tuple[str, str]] = Counter()
    for failure in failures(frame, SCHEMA, CONTRACT):
        if not failure.column:
            continue  # rules over several columns are no part of the suite
        rule = _RULES[next(start for start in _RULES if failure.rule.startswith(start))]
        count = len(failure.rows)
        if rule == "is a known category":
            values = frame[failure.column].iloc[failure.rows]
            count -= 0 if blanks_count else int(values.str.rstrip(" ").isin(_categories(failure.column)).sum())
        said[failure.column, rule] += count
    for column in (*CONTRACT.model_inputs, CONTRACT.label):
        if column.categories:
            said[column.name, "does not end in a blank"] = int(frame[column.name].str.endswith(" ").sum())
    return said


_RULES = {
    MISSING: "is not missing",
    "is below": "is within its bounds",
    "is above": "is within its bounds",
    "is not one of": "is a known category",
    "is longer than": "is not too long",
    "has an unknown entry": "has known entries only",
    "does not match": "is spelled as the contract says",
}


def _categories(name: str) -> tuple[str | int | bool, ...]:
    [column] = [column for column in (*CONTRACT.model_inputs, CONTRACT.label) if column.name == name]
    return column.categories or ()


def snapshot_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[CONTRACT.group.name, *(column.name for column in CONTRACT.model_inputs)])
    frame[CONTRACT.key.name] = range(1, len(rows) + 1)
    frame[CONTRACT.label.name] = CONTRACT.classes[0]
    frame[CONTRACT.event_date.name] = frame[CONTRACT.snapshot_date] = pd.Timestamp(DAY)
    texts = [column.name for column in CONTRACT.model_inputs if column.kind not in (Kind.INTEGER, Kind.NUMBER)]
    return frame[list(SCHEMA.columns)].astype(dict.fromkeys(texts, "str"))


@settings(
    deadline=None,
    max_examples=4,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes a second: shrinking would take minutes
    # The engine is only read from example to example: each replaces the day's rows.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    # A query about many rows takes no longer than one about few.
    good=st.lists(valid_rows(CONTRACT), min_size=1, max_size=16),
    bad=st.just([]) | st.lists(broken_rows(CONTRACT).filter(storable), min_size=16, max_size=32),
)
def test_the_database_counts_what_pandera_does(
    engine: Engine, good: list[dict[str, Any]], bad: list[BrokenRow]
) -> None:
    """What pandera accepts passes in the database, and each broken rule of a column is counted alike by both."""
    frame = snapshot_of([*good, *(drawn.row for drawn in bad)])
    put_snapshot(engine, CONTRACT, frame, DAY)
    expected = said_by_pandera(frame, blanks_count=engine.dialect.name == "sqlite")
    assert +said_by_database(engine) == +expected
    assert bool(+expected) == bool(bad)


def test_any_class_name_can_be_monitored(store_url: str) -> None:
    """On MariaDB too, class names may contain characters with a meaning in SQL, SQLAlchemy or the driver."""
    odd = ("50% off", "it's", "a:b :c", 'say "no"', "back\\slash")
    engine = connect(store_url)
    frame = snapshot_of([dict.fromkeys(SCHEMA.columns)] * len(odd))
    loosen_snapshot_table(engine, CONTRACT)
    put_snapshot(engine, CONTRACT, frame.assign(condition=odd), DAY)
    contract = type(CONTRACT)(**{name: getattr(CONTRACT, name) for name in CONTRACT.__dataclass_fields__})
    contract.__dict__["classes"] = odd  # what its cached property would compute
    with engine.connect() as connection:
        rows = connection.execute(text(snapshot_query(contract, DAY, engine.dialect))).mappings().all()
    assert [sum(row[f"condition is {name}"] for row in rows) for name in odd] == [1] * len(odd)
    engine.dispose()

import dataclasses
import gzip
import json
import tracemalloc
from collections import Counter
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors
from support.examples import at_most
from support.frames import clean_tables, snapshot_frame, typed
from support.instance import CONTRACT, INSTANCE
from support.schemas import features_schema, labels_schema
from support.stores import TABLES, load, rows_of

from ctcd.contract.spec import names
from ctcd.derived import synthetic
from ctcd.errors import UsageError
from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade

END = date(2025, 8, 31)
LABEL = CONTRACT.label.name
GROUP = CONTRACT.group.name
DATE = CONTRACT.event_date.name


@pytest.mark.slow
@settings(deadline=None, max_examples=at_most(20))
@given(rows=st.integers(1, 300), seed=st.integers(-5, 2**40), months=st.integers(1, 14))
def test_clean_rows_keep_the_contract(rows: int, seed: int, months: int) -> None:
    """Without injected errors, every table passes its schema, has the rows asked for, and joins one to one on its keys."""
    features, labels = clean_tables(CONTRACT, rows=rows, seed=seed, months=months)
    assert len(features) == len(labels) == rows
    assert len(features.merge(labels, on=names(CONTRACT.keys), validate="one_to_one")) == rows
    assert list(features) == names(CONTRACT.feature_columns)
    assert list(labels) == names(CONTRACT.label_columns)
    assert features[DATE].max() <= pd.Timestamp(END)
    month = features[DATE].dt.to_period("M")
    assert month.min() >= pd.Period(END, "M") - (months - 1)
    assert not pd.DataFrame({"group": features[GROUP], "month": month}).duplicated().any()


@pytest.mark.slow
def test_class_shares_are_those_of_the_contract() -> None:
    """The share of each class is its hint's, to within one row."""
    labels = clean_tables(CONTRACT, rows=5_000)[1]
    assert CONTRACT.label.simulate is not None
    assert CONTRACT.label.simulate.shares is not None
    shares = labels[LABEL].value_counts(normalize=True)
    for name, share in CONTRACT.label.simulate.shares.items():
        assert shares[name] == pytest.approx(share, abs=1 / 5_000)


@pytest.mark.slow
def test_groups_have_several_months_and_agree_with_themselves() -> None:
    """A group has 1.9 rows on average, and two of its rows have the same class far more often than two random rows."""
    frame = snapshot_frame(CONTRACT, rows=10_000)
    assert frame.groupby(GROUP).size().mean() == pytest.approx(1.92, abs=0.05)
    pairs = frame.merge(frame, on=GROUP)
    pairs = pairs[pairs[f"{CONTRACT.key.name}_x"] < pairs[f"{CONTRACT.key.name}_y"]]
    assert (pairs[f"{LABEL}_x"] == pairs[f"{LABEL}_y"]).mean() == pytest.approx(0.74, abs=0.05)


@pytest.mark.slow
def test_numbers_follow_the_label_as_hinted() -> None:
    """Columns hinted to rise or fall with the score do so, those that are folded on both sides, and the others do not."""
    frame = snapshot_frame(CONTRACT, rows=5_000)
    assert CONTRACT.label.simulate is not None
    assert CONTRACT.label.simulate.shares is not None
    order = {name: i for i, name in enumerate(CONTRACT.label.simulate.shares)}
    target = frame[LABEL].map(order).astype(float).rank()
    seen = 0
    for column in CONTRACT.model_inputs:
        if column.simulate is None or not column.simulate.quantiles or column.simulate.times:
            continue
        rank = frame[column.name].rank(pct=True)
        signal = column.simulate.signal
        if column.simulate.folded:
            assert abs(rank.corr(target)) < 0.05, column.name
            rank = (rank - 0.5).abs()
        found = rank.corr(target)
        assert abs(found) < 0.05 if signal == 0 else 0.4 < found / signal < 1, column.name
        seen += 1
    assert seen > 5


def test_same_seed_same_bytes_and_another_seed_other_data(tmp_path: Path) -> None:
    """Files are a function of the arguments, down to the bytes, and writing twice leaves the same state."""
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.write(CONTRACT, tmp_path / folder, rows=200, seed=seed, end=END)
    again = synthetic.write(CONTRACT, tmp_path / "a", rows=200, seed=1, end=END)
    for table in (CONTRACT.features_table, CONTRACT.labels_table):
        a, b, c = ((tmp_path / folder / f"{table}.csv.gz").read_bytes() for folder in "abc")
        assert a == b
        assert a != c
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        f"{CONTRACT.labels_table}.csv.gz",
        f"{CONTRACT.features_table}.csv.gz",
    ]
    assert Path(again.features_file).parent == tmp_path / "a"
    assert json.loads(json.dumps(dataclasses.asdict(again)))["rows"] == 200


@pytest.mark.slow
@pytest.mark.parametrize("end", [date(2026, 2, 1), date(2026, 12, 31)])
def test_a_seed_draws_the_same_rows_whatever_the_last_day_is(end: date) -> None:
    """Only days move with it, and keep their order: a model trained on them is no other tomorrow."""
    first, second = (clean_tables(CONTRACT, rows=300, seed=2, end=day) for day in (END, end))
    for one, other in zip(first, second, strict=True):
        assert one.drop(columns=DATE).equals(other.drop(columns=DATE))
        assert one[DATE].is_monotonic_increasing
        assert other[DATE].is_monotonic_increasing
        assert other[DATE].max().date() <= end


@pytest.mark.slow
@settings(deadline=None, max_examples=at_most(15))
@given(rows=st.integers(2, 400), error_rate=st.floats(0, 0.4), seed=st.integers(0, 1000))
def test_injected_errors_are_counted_and_located_exactly(rows: int, error_rate: float, seed: int) -> None:
    """Dropping the reported lines leaves clean tables; the number of them is the share asked for."""
    tables = synthetic.generate(CONTRACT, rows=rows, seed=seed, end=END, error_rate=error_rate)
    for table, frame, schema in (
        (CONTRACT.features_table, tables.features, features_schema(CONTRACT)),
        (CONTRACT.labels_table, tables.labels, labels_schema(CONTRACT)),
    ):
        lines = [error.line for error in tables.errors if error.table == table]
        assert len(set(lines)) == len(lines) == round(error_rate * rows)
        clean = frame.drop(index=[line - 2 for line in lines])
        schema.validate(typed(clean, CONTRACT), lazy=True)


@pytest.mark.slow
def test_each_injected_error_alone_breaks_the_contract() -> None:
    """A corrupted cell that still has the type of its column is refused by the schema, whatever its kind."""
    rows = 400
    tables = synthetic.generate(CONTRACT, rows=rows, seed=3, end=END, error_rate=0.3)
    kinds = Counter(error.kind for error in tables.errors)
    assert set(kinds) == {
        "impossible date",
        "missing value",
        "text in a number",
        "out of bounds",
        "fraction of a whole number",
        "unknown list entry",
        "list count",
        "unknown category",
        "duplicate key",
    }
    schemas = {CONTRACT.features_table: features_schema(CONTRACT), CONTRACT.labels_table: labels_schema(CONTRACT)}
    frames = {CONTRACT.features_table: tables.features, CONTRACT.labels_table: tables.labels}
    # One of each kind a column: a schema is slow, and they are many.
    for error in {(error.table, error.column, error.kind): error for error in tables.errors}.values():
        frame = frames[error.table]
        bad = frame.iloc[[error.line - 2]]
        if error.kind == "duplicate key":
            # Its original stands before it.
            same = (frame[names(CONTRACT.keys)] == bad[names(CONTRACT.keys)].iloc[0]).all(axis=1)
            assert same[: error.line - 2].any()
            continue
        assert bad.iloc[0][error.column] == error.value
        with pytest.raises((ValueError, SchemaErrors)):
            schemas[error.table].validate(typed(bad, CONTRACT), lazy=True)


def test_report_agrees_with_the_files(tmp_path: Path) -> None:
    """The report's counts, shares and lines are those of the written files."""
    report = synthetic.write(CONTRACT, tmp_path, rows=1_000, seed=5, end=END, error_rate=0.01)
    assert {table: sum(kinds.values()) for table, kinds in report.injected.items()} == {
        CONTRACT.features_table: 10,
        CONTRACT.labels_table: 10,
    }
    lines = gzip.decompress(Path(report.features_file).read_bytes()).decode().splitlines()
    assert len(lines) == 1_001
    assert lines[0].split(",") == names(CONTRACT.feature_columns)
    for error in report.errors:
        if error.table == CONTRACT.features_table and error.value:
            assert error.value in lines[error.line - 1]
    assert sum(report.shares.values()) == pytest.approx(1)


def written_in_blocks(folder: Path, rows: int, *, error_rate: float = 0.01) -> synthetic.SyntheticReport:
    return synthetic.write(CONTRACT, folder, rows=rows, seed=4, end=END, error_rate=error_rate)


@pytest.mark.slow
def test_rows_of_several_blocks_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than are drawn at once have one header, no key or group twice, and their errors where the report says."""
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 300)
    report = written_in_blocks(tmp_path, 1_001)
    tables = synthetic.generate(CONTRACT, rows=1_001, seed=4, end=END, error_rate=0.01)
    features, labels = (
        pd.read_csv(path, dtype=str, keep_default_na=False) for path in (report.features_file, report.labels_file)
    )
    assert features.equals(tables.features)
    assert labels.equals(tables.labels)
    assert report.errors == tables.errors
    assert len(features) == len(labels) == report.rows == 1_001
    assert report.groups == features[GROUP].nunique()
    for table, frame, key in (
        (CONTRACT.features_table, features, names(CONTRACT.row_keys)),
        (CONTRACT.labels_table, labels, names(CONTRACT.row_keys)),
    ):
        errors = [error for error in report.errors if error.table == table]
        assert len({error.line for error in errors}) == len(errors) == 10
        for error in errors:
            assert frame.iloc[error.line - 2][error.column] == error.value
        valid = frame.drop(index=[error.line - 2 for error in errors])
        assert not valid[key].duplicated().any()
    of_blocks = [set(features[GROUP].iloc[start : start + 250]) for start in range(0, 1_000, 250)]
    assert len(set.union(*of_blocks)) == sum(map(len, of_blocks))
    given = labels[LABEL][labels[LABEL].isin(CONTRACT.classes)].value_counts(normalize=True)
    assert report.shares == pytest.approx(given.to_dict())


@pytest.mark.slow
def test_memory_of_writing_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as many rows have the same peak; they are drawn and written in blocks."""
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 500)
    written_in_blocks(tmp_path, 500, error_rate=0)  # what is loaded once
    peaks = []
    for rows in (1_000, 8_000):
        tracemalloc.start()
        try:
            written_in_blocks(tmp_path, rows, error_rate=0)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.slow
def test_ingest_quarantines_exactly_the_injected_errors(tmp_path: Path) -> None:
    """The quarantine holds the lines with injected errors, no more and no fewer, each under its column."""
    report = synthetic.write(CONTRACT, tmp_path / "raw", rows=2_000, seed=8, end=END, error_rate=0.015)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, INSTANCE.migrations)
    store = connect(url)
    load(store, tmp_path / "raw")
    found = {(row["table_name"], row["line"]): str(row["reasons"]) for row in rows_of(store, TABLES.quarantine)}
    store.dispose()
    injected = {(error.table, error.line): error for error in report.errors}
    assert len(injected) == 60
    assert found.keys() == injected.keys()
    for place, error in injected.items():
        assert ("duplicate key" if error.kind == synthetic.DUPLICATE else error.column) in found[place], error


def test_personal_values_are_made_up() -> None:
    """Personal columns hold text that cannot be a person's, and not the same for all."""
    features = synthetic.generate(CONTRACT, rows=300, seed=0, end=END).features
    for column in CONTRACT.personal:
        values = features[column.name]
        assert values.nunique() > 100
        assert values.str.startswith(("Synthetic Person ", "B-0")).all()


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"months": 0}, {"error_rate": -0.1}, {"error_rate": 1.0}, {"rows": 1, "error_rate": 0.9}]
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """An argument that makes no sense is named."""
    arguments = {"rows": 10, "months": 8, "error_rate": 0.0} | wrong
    with pytest.raises(UsageError, match="synthetic data"):
        synthetic.generate(CONTRACT, seed=0, end=END, **arguments)  # type: ignore[arg-type] # the mixed dict is the point


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A path that is a file ends in one line with the path."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="taken"):
        synthetic.write(CONTRACT, tmp_path / "taken", rows=10, seed=0, end=END)


def test_column_without_a_hint_is_named() -> None:
    """A number without a hint is refused with the name of the column."""
    column = next(column for column in CONTRACT.model_inputs if column.simulate and column.simulate.quantiles)
    draw = synthetic._Draw(CONTRACT, rows=5, seed=0, end=END, months=2)
    with pytest.raises(UsageError, match=column.name):
        draw.text(dataclasses.replace(column, simulate=None))

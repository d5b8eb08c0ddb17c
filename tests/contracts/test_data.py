"""The files derived from the contract are current, and generated data satisfies it."""

import shutil
from datetime import date
from pathlib import Path

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import at_most
from support.frames import snapshot_frame
from support.strategies import Row, valid_rows
from support.tested_instance import CONTRACT, INSTANCE, PAYLOAD

from ctcd.contract.schemas import batch_schema
from ctcd.contract.spec import Kind
from ctcd.contract.validation import examine_chunks
from ctcd.derived import synthetic
from ctcd.derived.lock import derive, stale
from ctcd.serving import broker
from ctcd.serving.http import openapi
from ctcd.store.engine import connect
from ctcd.store.ingest import ingest
from ctcd.store.migrations import revision, upgrade


def test_the_lock_is_current(tmp_path: Path) -> None:
    """`ctcd contract lock` was run after the last change of the contract."""
    files = derive(INSTANCE, openapi.document(CONTRACT, PAYLOAD), broker.document(CONTRACT, PAYLOAD))
    assert stale(files, INSTANCE.lock) == ()
    versions = shutil.copytree(INSTANCE.migrations, tmp_path / "versions")
    assert revision(f"sqlite:///{tmp_path / 'store.db'}", "next", CONTRACT, versions) is None


@given(st.lists(valid_rows(CONTRACT), min_size=1, max_size=5))
@settings(max_examples=at_most(25))
def test_drawn_rows_satisfy_the_contract(rows: list[Row]) -> None:
    """What the Hypothesis strategies draw passes the validation that batch scoring uses."""
    frame = pd.DataFrame(rows)
    for column in CONTRACT.model_inputs:
        if column.kind is Kind.TIME:  # with and without fractions of a second, which whoever reads a file understands
            frame[column.name] = pd.to_datetime(frame[column.name], format="ISO8601")
    assert examine_chunks([frame], batch_schema(CONTRACT), CONTRACT, where="drawn rows").breaches == ()


def test_synthetic_data_satisfies_and_covers_the_contract() -> None:
    """Synthetic data without injected errors is valid and has every class and every category."""
    frame = snapshot_frame(CONTRACT, rows=2_000)
    assert set(frame[CONTRACT.label.name]) == set(CONTRACT.classes)
    for column in CONTRACT.model_inputs:
        assert set(column.categories or ()) <= set(frame[column.name].dropna()), column.name


def test_injected_errors_are_quarantined(tmp_path: Path) -> None:
    """Ingest quarantines exactly the rows of synthetic data that were made to break the contract."""
    made = synthetic.write(CONTRACT, tmp_path / "raw", rows=2_000, seed=5, end=date(2025, 8, 31))
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url, INSTANCE.migrations)
    engine = connect(url)
    report = ingest(engine, CONTRACT, tmp_path / "raw", chunk_rows=1_000)
    engine.dispose()
    injected = {name: sum(kinds.values()) for name, kinds in made.injected.items()}
    assert {table.table: table.quarantined for table in report.tables} == injected
    assert all(injected.values())

import weakref
from datetime import date, timedelta
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from support.instance import CONTRACT
from support.snapshots import read_snapshot

from ctcd.contract.duplicates import SeenKeys
from ctcd.derived import synthetic
from ctcd.errors import NotFound, UsageError
from ctcd.settings import Settings, load_settings
from ctcd.stages import data, training
from ctcd.stages.connections import open_store
from ctcd.training.fingerprint import data_hash

DAY = date(2025, 8, 31)


@pytest.fixture
def settings(tmp_path: Path, migrated_file: bytes, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a home whose store has a snapshot of 40 rows, which are read 10 at a time."""
    (tmp_path / "store.db").write_bytes(migrated_file)
    monkeypatch.setenv("CTCD_HOME", str(tmp_path))
    settings = load_settings()
    synthetic.write(CONTRACT, tmp_path / "raw", rows=40, seed=7, end=DAY, error_rate=0.0)
    data.ingest(settings, tmp_path / "raw")
    data.snapshot(settings, DAY, months=9)
    monkeypatch.setattr("ctcd.store.snapshot.CHUNK_ROWS", 10)
    return settings


@pytest.mark.slow
def test_validation_remembers_one_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory does not grow with the rows: they come ordered by their keys, of which the last one says enough."""
    kept: list[int] = []

    class Counted(SeenKeys):
        def duplicated(self, keys: pd.DataFrame) -> NDArray[np.bool_]:
            found = super().duplicated(keys)
            kept.append(len(self._hashes) - 1)  # without the sentinel
            return found

    monkeypatch.setattr("ctcd.contract.validation.SeenKeys", Counted)
    assert data.validate_snapshot(settings, None).rows == 40
    assert kept == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_valid_snapshot_has_its_texts_as_categories(settings: Settings) -> None:
    """Its rows are those of the store, in their order, whatever the parts that they were read in."""
    valid = data.valid_snapshot(settings, None)
    store = open_store(settings)
    rows = read_snapshot(store, CONTRACT, DAY)
    store.dispose()
    texts = [name for name, kind in rows.dtypes.items() if kind == "str"]
    assert len(texts) > 2
    assert all(isinstance(kind, pd.CategoricalDtype) == (name in texts) for name, kind in valid.frame.dtypes.items())
    assert valid.frame.astype(dict.fromkeys(texts, "str")).equals(rows)
    assert data_hash(valid.frame, CONTRACT) == data_hash(rows, CONTRACT)


@pytest.mark.slow
def test_a_training_opens_the_store_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time connects, and looks whether the schema is up to date."""
    opened = Mock(wraps=open_store)
    monkeypatch.setattr(data, "open_store", opened)
    data.valid_snapshot(settings, None)
    assert opened.call_count == 1


@pytest.mark.slow
def test_a_snapshot_names_its_day_and_what_was_ingested_by_then(settings: Settings) -> None:
    """That of the given day, and not the newest; the rows go to whoever asks for them, and are not kept."""
    later = DAY + timedelta(days=1)
    data.snapshot(settings, later, months=9)
    assert data.valid_snapshot(settings, None).day == later
    assert [data.validate_snapshot(settings, day).where[-10:] for day in (DAY, later)] == [str(DAY), str(later)]
    valid = data.valid_snapshot(settings, DAY)
    assert valid.report.page == str(settings.reports / "validation" / f"{DAY}.html")
    assert Path(valid.report.page).is_file()
    assert (valid.day, valid.report.rows, valid.quarantined) == (DAY, 40, ())
    assert sorted(each.file for each in valid.sources) == sorted(
        path.name for path in (settings.home / "raw").iterdir()
    )
    assert {each.read for each in valid.sources} == {each.written for each in valid.sources} == {40}
    columns = list(valid.frame.columns)
    rows = valid.give_up()
    assert (len(rows), list(rows.columns)) == (40, columns)
    assert (len(valid.frame), list(valid.frame.columns)) == (0, columns)


def test_without_a_snapshot_there_is_none_to_validate(tmp_path: Path, migrated_file: bytes) -> None:
    """The error names the table, and the command that takes one."""
    (tmp_path / "store.db").write_bytes(migrated_file)
    for stage in (data.validate_snapshot, data.valid_snapshot):
        with pytest.raises(
            NotFound, match=rf"^{CONTRACT.snapshot_table}: there is no snapshot \(run: ctcd snapshot\)$"
        ):
            stage(load_settings().model_copy(update={"home": tmp_path}), None)


@pytest.mark.slow
def test_a_training_holds_the_rows_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once they are split, nobody holds the rows of the whole snapshot any more: there are millions of them."""
    held: list[bool] = []
    given: list[weakref.ref[pd.DataFrame]] = []

    def split(frame: pd.DataFrame, *_: object, **__: object) -> None:
        assert len(frame) == 40
        given.append(weakref.ref(frame))

    class Runs:
        def __init__(self, *_: object) -> None:
            pass

        def end_abandoned(self, _: str) -> None:
            pass

        def training_run(self, *_: object) -> None:
            held.append(given[0]() is not None)
            raise UsageError("that is all")

    monkeypatch.setattr("ctcd.training.train.split_by_group", split)
    monkeypatch.setattr("ctcd.training.train.TrainingRuns", Runs)
    monkeypatch.setattr("ctcd.registry.tracking.connect", lambda _: None)
    with pytest.raises(UsageError, match="that is all"):
        training.train(settings, DAY, profile="smoke", force=True, snapshot=data.valid_snapshot(settings, None))
    assert held == [False]

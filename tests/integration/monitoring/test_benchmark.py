"""The benchmarks of validation, ingest and memory measure what they say."""

import pytest

from benchmarks import ingest, memory, validation

pytestmark = pytest.mark.integration


def test_every_format_is_written_read_and_validated() -> None:
    """Few rows go through every child process; each time and peak is measured, and the rows keep the contract."""
    results = validation.run(rows=45)
    assert [result.file for result in results] == [".parquet", ".csv"]
    for result in results:
        assert result.rows == 45
        assert min(result.seconds, result.pandas_seconds) > 0
        assert min(result.peak_mib, result.pandas_peak_mib) > 50


def test_rows_are_ingested_and_inserted_plainly_into_both_stores() -> None:
    """The same rows by both ways; the server takes part in one of them."""
    results = ingest.run(None, [60])
    assert [each.store for each in results] == ["SQLite", "MariaDB"]
    for each in results:
        assert each.rows >= 2 * 60
        assert min(each.cpu_seconds, each.plain_cpu_seconds, each.times_plain) > 0
        assert min(each.peak_mib, each.plain_peak_mib) > 50


def test_each_phase_of_a_training_has_its_memory() -> None:
    """In the order of the training, in a process of its own; the first size has no growth."""
    results = memory.run(None, [1_000])
    assert [each.phase for each in results] == ["read", "hash", "split", "features", "fit", "conclude"]
    assert all(0 < each.before_mib <= each.peak_mib + 1 for each in results)
    assert {(each.before_kb_a_row, each.peak_kb_a_row) for each in results} == {(None, None)}

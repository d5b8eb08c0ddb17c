"""The benchmark of validation measures what it says."""

import pytest

from benchmarks import validation

pytestmark = pytest.mark.integration


def test_every_format_is_written_read_and_validated() -> None:
    """Few rows go through every child process; each time and peak is measured, and the rows keep the contract."""
    results = validation.run(rows=45)
    assert [result.file for result in results] == [".parquet", ".csv"]
    for result in results:
        assert result.rows == 45
        assert min(result.seconds, result.pandas_seconds) > 0
        assert min(result.peak_mib, result.pandas_peak_mib) > 50

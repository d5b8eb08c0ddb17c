import gzip
from pathlib import Path

import pandas as pd
import pytest
from support.frames import snapshot_frame
from support.instance import CONTRACT

from benchmarks.files import read_frames
from ctcd.contract.schemas import snapshot_schema
from ctcd.contract.validation import ValidationReport, examine_chunks
from ctcd.errors import DataRefused

SCHEMA = snapshot_schema(CONTRACT)


def saved(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def report_on(path: Path, *, rows: int) -> ValidationReport:
    return examine_chunks(read_frames(path, rows=rows), SCHEMA, CONTRACT, where="x")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
def test_a_file_has_the_report_of_its_frame(tmp_path: Path, name: str) -> None:
    """Read in chunks from any format, a file has the same report as its frame, missing values included."""
    frame = snapshot_frame(CONTRACT, rows=50)
    assert report_on(saved(frame, tmp_path / name), rows=15).breaches == ()
    frame.loc[[3, 30], "hours"] = 0
    frame.loc[:20, "shift"] = None  # whole chunks without a value
    frame.loc[40, "wear"] = None
    frame = pd.concat([frame, frame.iloc[10:12]])
    expected = examine_chunks([frame], SCHEMA, CONTRACT, where="x")
    assert len(expected.breaches) == 3
    found = report_on(saved(frame, tmp_path / name), rows=15)
    assert found.rows == expected.rows
    assert sorted(found.breaches, key=str) == sorted(expected.breaches, key=str)


@pytest.mark.slow
def test_text_is_what_it_says(tmp_path: Path) -> None:
    """A text that pandas would take for a missing value is a text, and an impossible date is no date."""
    frame = snapshot_frame(CONTRACT, rows=10).astype({"taken_on": "str"})
    frame.loc[0, "grade"] = "NA"
    frame.loc[1, "taken_on"] = "2025-02-29"
    found = {(breach.column, breach.rule) for breach in report_on(saved(frame, tmp_path / "x.csv"), rows=4).breaches}
    assert found == {("grade", "is not one of High, Fair, Low"), ("taken_on", "is not a calendar date")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b""),
        ("x.csv", b"a,b\n1,2,3\n1,2,3,4\n"),
        ("x.csv", b"a\n\xff\xfe\n"),
        ("x.csv.gz", b"not gzip"),
        ("x.csv.gz", gzip.compress(b"a\n" * 100_000, mtime=0)[:50]),
        ("x.parquet", b"not parquet"),
        ("missing.csv", None),
        ("missing.parquet", None),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    """An empty, cut, wrongly encoded or missing file ends in one line that names it."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataRefused, match=rf"{name}: cannot be read"):
        list(read_frames(tmp_path / name, rows=10))

import gzip
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from ctcd.errors import DataRefused, UsageError
from ctcd.store.sources import Source, find_sources


def source(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    return Source("t", path)


def lines_and_cells(file: Source, size: int = 2) -> list[tuple[int, tuple[str | None, ...]]]:
    found = []
    for chunk in file.chunks(size):
        rows = zip(*(chunk.cells[name].to_pylist() for name in chunk.cells.column_names), strict=True)
        found += list(zip(chunk.lines.tolist(), rows, strict=True))
    return found


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_row_is_known_by_the_line_it_begins_at(tmp_path: Path, name: str) -> None:
    """Lines are counted as an editor counts them: quoted line breaks, blank lines and a byte order mark included."""
    content = '\ufeffa, b \r\n1,"x\r\ny"\r\n\r\n2,"p""q"\r\n3,z'.encode()
    file = source(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert file.columns == ["a", "b"]
    assert file.rows is None
    assert lines_and_cells(file) == [(2, ("1", "x\r\ny")), (5, ("2", 'p"q')), (6, ("3", "z"))]


def test_rows_with_another_number_of_fields_are_told_apart(tmp_path: Path) -> None:
    """Too few and too many fields are reported with their lines; the rows around them are whole."""
    file = source(tmp_path / "t.csv", b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    chunks = list(file.chunks(10))
    assert [(record.first, len(record.cells)) for record in chunks[0].malformed] == [(3, 1), (4, 3)]
    assert lines_and_cells(file) == [(2, ("1", "2")), (5, ("7", "8"))]


def test_only_malformed_rows_make_an_empty_chunk(tmp_path: Path) -> None:
    """A chunk without a whole row still has its columns."""
    [chunk] = source(tmp_path / "t.csv", b"a,b\n1\n").chunks(10)
    assert chunk.cells.num_rows == 0
    assert chunk.cells.column_names == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv.gz", gzip.compress(b""), "the file is empty"),
        ("t.csv.gz", b"a,b\n1,2\n", "truncated or not a gzip file"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1000)[:-12], "truncated or not a gzip file"),
        ("t.csv", "a,b\nJos\xe9,2\n".encode("latin-1"), "not UTF-8 text"),
        ("t.csv", b'a,b\n1,2\n3,"4\n5,6\n', "line 3: not valid CSV: unexpected end of data"),
        ("t.csv", b'a,b\n1,2\n3,"4"5\n', "line 3: not valid CSV"),
        ("t.csv", b'a,b\n1,"2\n3,4\n5,6",7\n', "lines 2 to 4: one row with 3 fields instead of 2"),
        ("t.parquet", b"a,b\n1,2\n", "truncated or not a Parquet file"),
        ("t.parquet", b"", "truncated or not a Parquet file"),
    ],
    ids=[
        "empty",
        "empty-gz",
        "not-gz",
        "cut-gz",
        "latin-1",
        "open-quote",
        "inner-quote",
        "swallowed",
        "no-parquet",
        "empty-parquet",
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """A file that is empty, damaged or in another format ends in one error that names it."""
    with pytest.raises(DataRefused, match=message) as caught:
        lines_and_cells(source(tmp_path / name, content))
    assert str(tmp_path / name) in str(caught.value)


def test_parquet_is_read_as_text(tmp_path: Path) -> None:
    """Numbers, days and nulls of any Parquet type become the text that a CSV file would hold."""
    path = tmp_path / "t.parquet"
    table = pa.table(
        {
            "whole": pa.array([1, None, 3], pa.int32()),
            "number": pa.array([0.1, np.nan, 1e300], pa.float64()),
            "single": pa.array([0.1, 2.5, None], pa.float32()),
            "day": pa.array([pd.Timestamp("2025-01-31").date(), None, pd.Timestamp("2025-02-28").date()], pa.date32()),
            "kind": pa.array(["x", "y", None]).dictionary_encode(),
        }
    )
    pq.write_table(table, path)
    file = Source("t", path)
    assert file.rows == 3
    assert lines_and_cells(file) == [
        (1, ("1", "0.1", "0.1", "2025-01-31", "x")),
        (2, (None, None, "2.5", None, "y")),
        (3, ("3", "1e+300", None, "2025-02-28", None)),
    ]


def test_nested_parquet_columns_are_refused(tmp_path: Path) -> None:
    """A column that holds lists is named, with its type."""
    pq.write_table(pa.table({"a": [[1, 2]]}), tmp_path / "t.parquet")
    with pytest.raises(DataRefused, match=r"column a holds list<.*int64>, not plain values"):
        lines_and_cells(Source("t", tmp_path / "t.parquet"))


def test_a_folder_gives_its_tables_in_order(tmp_path: Path) -> None:
    """Required tables come first, in the order asked for; an optional one follows if it is there."""
    for name in ("b.csv", "a.csv.gz", "c.parquet", "other.csv"):
        (tmp_path / name).write_bytes(b"x")
    assert [file.table for file in find_sources(tmp_path, ["a", "b"], ["c"])] == ["a", "b", "c"]
    assert [file.table for file in find_sources(tmp_path, ["a", "b"], ["d"])] == ["a", "b"]
    (tmp_path / "d.CSV").write_text("x\n1\n")
    assert [file.table for file in find_sources(tmp_path, ["a", "b"], ["d"])] == ["a", "b", "d"]


def test_a_file_gives_the_table_it_is_named_for(tmp_path: Path) -> None:
    """A single file is accepted if its name is that of a table; its path is resolved."""
    (tmp_path / "b.csv").write_bytes(b"x")
    [file] = find_sources(tmp_path / ".." / tmp_path.name / "b.csv", ["a", "b"], ["c"])
    assert file == Source("b", tmp_path.resolve() / "b.csv")


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ([], "nowhere", "there is no such file or folder"),
        (["a.csv"], ".", r"there is no b\(.csv\|.csv.gz\|.parquet\)"),
        (["a.csv", "a.parquet", "b.csv"], ".", r"a.csv and a.parquet are the same table"),
        (["z.csv"], "z.csv", "the file name does not match a table"),
        (["a.xlsx"], "a.xlsx", "the file name does not match a table"),
    ],
    ids=["nothing", "half", "twice", "unknown", "suffix"],
)
def test_a_source_without_tables_is_refused(tmp_path: Path, files: list[str], given: str, message: str) -> None:
    """A path without tables is refused with what is expected."""
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=message):
        find_sources(tmp_path / given, ["a", "b"], ["c"])


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """An operating system's refusal ends in one error, not in a traceback."""
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataRefused, match="cannot be read: Is a directory"):
        _ = Source("t", tmp_path / "t.csv").columns


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "broken link"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for and a device would be read forever: neither is opened.

    Nor is a table left out of a folder because it cannot be read, as on a disk that is not mounted.
    """
    path = tmp_path / "t.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    (tmp_path / "a.csv").write_bytes(b"x")
    for tables in (["a", "t"], []), (["a"], ["t"]):
        with pytest.raises(UsageError, match=r"t\.csv: it is not a regular file"):
            find_sources(tmp_path, *tables)
    if kind in ("pipe", "device"):
        with pytest.raises(UsageError, match="not a regular file"):
            find_sources(path, ["t"], [])


def test_a_folder_that_may_not_be_read_is_not_one_without_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told that, and not to add a table that may be there; root may read every folder."""
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, Mock(side_effect=PermissionError))
    with pytest.raises(PermissionError):
        find_sources(tmp_path, ["a"], [])


@pytest.mark.parametrize("values", [[b"\xb1\xe8", b"Kim"], [b"Kim", None, b"\xff"]])
def test_text_that_is_not_utf8_is_named_by_its_column_only(tmp_path: Path, values: list[bytes | None]) -> None:
    """Parquet does not check the encoding of its text; here it is, before anything else reads it."""
    pq.write_table(pa.table({"a": pa.array(values, pa.binary()).view(pa.string())}), tmp_path / "t.parquet")
    with pytest.raises(DataRefused, match="column a is not UTF-8 text") as refused:
        list(Source("t", tmp_path / "t.parquet").chunks(10))
    assert "Kim" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_the_number_of_rows_is_estimated_while_a_file_is_read(tmp_path: Path, name: str) -> None:
    """From the first chunk on it is near the true number, more than what has been read, and exact with the last chunk."""
    many = 60_000
    frame = pd.DataFrame({"a": np.random.default_rng(7).integers(10**8, 10**9, many), "b": np.arange(many) + 10**6})
    if name.endswith("parquet"):
        frame.to_parquet(tmp_path / name, index=False)
    else:
        frame.to_csv(tmp_path / name, index=False)
    done = 0
    for chunk in Source("t", tmp_path / name).chunks(9_000):
        done += len(chunk.lines)
        assert chunk.total == pytest.approx(many, rel=0.15)
        assert (chunk.total > done) == (done < many)
    assert (done, chunk.total) == (many, many)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_header_is_read_as_a_name_that_every_library_takes(suffix: str, tmp_path: Path) -> None:
    """Percent signs, question marks, backticks and control characters are replaced; the cells are those of the column."""
    file = tmp_path / f"t{suffix}"
    cells = pa.table({"a %": ["1"], "b?": ["2"], "`c`": ["3"], "d\te": ["4"]})
    if suffix == ".csv":
        csv.write_csv(cells, file)
    else:
        pq.write_table(cells, file)
    source = Source("t", file)
    assert source.columns == ["a percent", "b_", "_c_", "d e"]
    (chunk,) = source.chunks(10, ["d e", "a percent"])
    assert chunk.cells.to_pydict() == {"d e": ["4"], "a percent": ["1"]}

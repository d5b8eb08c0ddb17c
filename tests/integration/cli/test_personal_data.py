"""No value of a personal column is in anything that a command prints or writes, whatever fails in it."""

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import make_url, text
from support.instance import CONTRACT
from support.marks import NAME, in_files, in_texts, with_names

import ctcd
from ctcd.cli.app import run
from ctcd.contract.spec import names
from ctcd.derived import synthetic
from ctcd.settings import load_settings
from ctcd.store.engine import connect, transaction

pytestmark = pytest.mark.integration

DAY = "2025-08-31"
STEPS = {
    "ingest": ("ingest", "raw"),
    "snapshot": ("snapshot", "--base-dt", DAY, "--months", "8"),
    "validate": ("validate",),
    "monitor": ("monitor", "--base-dt", DAY),
    "train": ("train", "--profile", "smoke"),
    "gate": ("gate", "--today", DAY),
    "promote": ("promote",),
    "predict a table": ("predict", CONTRACT.features_table, "--out", "scores.csv"),
    "predict a file": ("predict", f"raw/{CONTRACT.features_table}.csv.gz", "--out", "scores.csv"),
    "predict --new": ("predict", "--new"),
    "performance": ("performance", "--base-dt", DAY),
    "drift": ("drift", "--base-dt", DAY, "--period", "weekly"),
}
REFUSED = "predict a file"
"""The step that refuses its data: the file has rows that break the contract."""
FEW = 100
"""Rows of each table that are read while functions of the first step fail, one after the other."""
FAULTS = 3
"""Functions that fail one after the other in each step but the first, in which all do: it alone sees personal data."""
PACKAGE = str(Path(str(ctcd.__file__)).parent)
Key = tuple[str, str]


class Leak(Exception):
    """An exception of another library, whose message repeats a row."""


@contextmanager
def watched(visit: Callable[[Key], None]) -> Iterator[None]:
    """Call a function before each call of one of the engine's own, with its module and name; it may raise."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and f"{PACKAGE}/cli" not in code.co_filename:
            visit((code.co_filename, code.co_qualname))

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def failing(function: Key) -> Callable[[Key], None]:
    def visit(called: Key) -> None:
        if called == function:
            sys.setprofile(None)
            raise Leak(f"cannot write ({NAME} Beeblebrox, {NAME}-42)")

    return visit


def leaks(home: Path, shown: pytest.CaptureFixture[str]) -> list[str]:
    """Return where a name is: an output, or a file that is neither the store nor a raw table."""
    output = shown.readouterr()
    may = [path for kept in ("raw/*", "few/*", "*/store.db*") for path in home.parent.glob(kept)]
    return in_texts([NAME], stdout=output.out, stderr=output.err) + in_files([NAME], home.parent, besides=may)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    folder = tmp_path_factory.mktemp("personal")
    (folder / "var").mkdir()
    shutil.copy(empty_mlflow, folder / "var")
    synthetic.write(CONTRACT, folder / "raw", rows=2_000, seed=7, end=date.fromisoformat(DAY), error_rate=0.01)
    with_names(folder / "raw" / f"{CONTRACT.features_table}.csv.gz")
    (folder / "few").mkdir()
    for path in (folder / "raw").iterdir():
        pd.read_csv(path, dtype=str, keep_default_na=False, nrows=FEW).to_csv(folder / "few" / path.name, index=False)
    return folder


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CTCD_HOME", str(folder / "var"))
    for name in ("FEATURE_STORE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return folder / "var"


def test_no_fault_shows_a_personal_value(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whichever function of a step fails with a row in its message, the row is nowhere; without a fault neither."""
    for step, command in STEPS.items():
        code = 3 if step == REFUSED else 0
        called: dict[Key, None] = {}
        with watched(called.setdefault):
            assert run(list(command)) == code, capfd.readouterr().err
        assert leaks(home, capfd) == []
        functions = sorted(called)
        chosen = functions if step == "ingest" else random.Random(step).sample(functions, FAULTS)  # noqa: S311 - no secret
        failed = ("ingest", "few") if step == "ingest" else command
        for function in chosen:
            with watched(failing(function)):
                run([*failed, *(["--json"] if len(function[1]) % 2 else [])])
            assert leaks(home, capfd) == [], (step, function)
        # All of this can be repeated: the next step finds what it needs.
        assert run(list(command)) == code


def test_a_database_that_repeats_a_row_is_not_quoted(
    store_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    """Neither a column that has become too narrow nor a trigger whose message has the name brings it to an output."""
    url = make_url(store_url)
    monkeypatch.setenv("FEATURE_STORE_URL", url.render_as_string(hide_password=False))
    table, column = CONTRACT.personal_table, names(CONTRACT.personal)[0]
    engine = connect(store_url)
    says = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = NEW.{column}"
    for statement in (
        f"CREATE TRIGGER says BEFORE INSERT ON {table} FOR EACH ROW {says}",
        "DROP TRIGGER says",
        f"ALTER TABLE {table} MODIFY {column} VARCHAR(3)",
    ):
        with transaction(engine) as connection:
            connection.execute(text(statement))
        if statement.startswith("DROP"):
            continue
        assert run(["ingest", "raw"]) == 1
        assert "please report it" in capfd.readouterr().err.replace(NAME, "LEAK")
        assert run(["ingest", "raw", "--json"]) == 1
        assert leaks(home, capfd) == []
    assert load_settings().store_url == store_url


def test_text_in_another_encoding_is_refused_without_a_word_of_it(
    home: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A Parquet file that claims that EUC-KR is UTF-8 is bad data, in a personal column or in another one."""
    for column in (names(CONTRACT.personal)[0], names(CONTRACT.model_inputs)[0], CONTRACT.group.name):
        rows = pd.read_csv(folder / "raw" / f"{CONTRACT.features_table}.csv.gz", dtype=str, keep_default_na=False)
        table = pa.Table.from_pandas(rows, preserve_index=False)
        other = pa.array([f"{NAME} 김".encode("euc_kr")] * len(rows), pa.binary()).view(pa.string())
        table = table.set_column(table.column_names.index(column), column, other)
        file = folder / "raw" / f"{CONTRACT.features_table}.parquet"
        pq.write_table(table, file)
        assert run(["ingest", str(file)]) == 3
        file.unlink()
        message = capfd.readouterr().err
        assert f"column {column} is not UTF-8 text" in message
        assert NAME not in message
    assert leaks(home, capfd) == []

"""A million rows of each raw table into a store, on SQLite and on MariaDB, beside a plain insert of the same rows."""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import sqlalchemy
from pydantic import SecretStr

from benchmarks.children import Ended, ended
from benchmarks.files import read_frames
from ctcd.cli.output import table
from ctcd.settings import Settings, load_settings
from ctcd.store.engine import connect, transaction
from ctcd.store.migrations import upgrade

if TYPE_CHECKING:
    from support.mariadb import OwnServer

SIZES = (1_000_000,)
CHUNK_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class IngestResult:
    """`ctcd ingest` of valid rows into an empty store, in a process of its own, and the same files inserted plainly.

    Args:
        store: SQLite or MariaDB; MariaDB is a server of its own on this machine.
        rows: rows of all raw tables together.
        seconds: wall time, with the start of the process.
        rows_per_second: `rows` in that time.
        cpu_seconds: processor time of the process.
        server_cpu_seconds: that of the server meanwhile; 0 for SQLite.
        peak_mib: peak resident memory of the process, MiB; not below that of the benchmark itself.
        plain_seconds: wall time of pandas reading the files and SQLAlchemy inserting them by `executemany`, without any
            check, in one transaction for each file: the baseline.
        plain_cpu_seconds: processor time of that process.
        plain_peak_mib: its peak resident memory, MiB.
        times_plain: `seconds` as a multiple of `plain_seconds`.
    """

    store: str
    rows: int
    seconds: float
    rows_per_second: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_mib: float
    plain_seconds: float
    plain_cpu_seconds: float
    plain_peak_mib: float
    times_plain: float


def run(data: Path | None, sizes: Sequence[int] = SIZES) -> list[Any]:
    """Ingest so many rows of each table into both stores."""
    from support.mariadb import own_server

    del data  # rows in any number are always synthetic ones
    results = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="ctcd-ingest-") as home, own_server() as server:
            settings = load_settings().model_copy(update={"home": Path(home)})
            raw = Path(home, "raw")
            _command(settings, "", "generate", str(raw), "--rows", str(rows), "--error-rate", "0")
            results += [_measured(store, settings, raw, server) for store in ("SQLite", "MariaDB")]
    table(
        "Ingest into an empty store (baseline: pandas reads the files, SQLAlchemy inserts the rows)",
        ("store", "rows", "s", "rows/s", "processor s", "of the server", "peak MiB", "plain s", "times plain"),
        [
            (
                each.store,
                each.rows,
                round(each.seconds, 1),
                round(each.rows_per_second),
                round(each.cpu_seconds, 1),
                round(each.server_cpu_seconds, 1),
                round(each.peak_mib),
                round(each.plain_seconds, 1),
                round(each.times_plain, 2),
            )
            for each in results
        ],
    )
    return results


def _measured(store: str, settings: Settings, raw: Path, server: "OwnServer") -> IngestResult:
    process = psutil.Process(server.process.pid)
    with _empty(store, settings, server) as url:
        began = time.monotonic()
        plain = ended([sys.executable, "-m", "benchmarks.ingest", url, str(raw)])
        plain_seconds = time.monotonic() - began
    with _empty(store, settings, server) as url:
        before, began = _cpu(process), time.monotonic()
        ours = _command(settings, url, "ingest", str(raw))
        seconds, server_cpu = time.monotonic() - began, _cpu(process) - before
    rows = int(plain.output)
    return IngestResult(
        store=store,
        rows=rows,
        seconds=seconds,
        rows_per_second=rows / seconds,
        cpu_seconds=ours.cpu_seconds,
        server_cpu_seconds=server_cpu if store == "MariaDB" else 0.0,
        peak_mib=ours.peak_mib,
        plain_seconds=plain_seconds,
        plain_cpu_seconds=plain.cpu_seconds,
        plain_peak_mib=plain.peak_mib,
        times_plain=seconds / plain_seconds,
    )


@contextmanager
def _empty(store: str, settings: Settings, server: "OwnServer") -> Iterator[str]:
    """Give the URL of a new store with tables and no rows; it is deleted at the end."""
    from support.mariadb import database

    from benchmarks.instance import INSTANCE

    with tempfile.TemporaryDirectory(dir=settings.home) as folder, database(server.url) as empty:
        url = f"sqlite:///{folder}/store.db" if store == "SQLite" else empty.render_as_string(hide_password=False)
        upgrade(url, INSTANCE.migrations)
        yield url


def _command(settings: Settings, url: str, *words: str) -> Ended:
    environment = settings.model_copy(update={"feature_store_url": SecretStr(url)}).child_environment()
    return ended([str(Path(sys.executable).with_name("ctcd")), *words], environment)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _plain(url: str, raw: Path) -> None:
    """Insert the files of a folder into the tables of their names, and print the number of rows."""
    engine, rows = connect(url), 0
    for path in sorted(raw.iterdir()):
        with transaction(engine) as connection:
            for frame in read_frames(path, rows=CHUNK_ROWS):
                values = cast(
                    "list[dict[str, Any]]", frame.astype(object).where(frame.notna(), None).to_dict("records")
                )
                target = sqlalchemy.table(path.name.partition(".")[0], *map(sqlalchemy.column, values[0]))
                connection.execute(target.insert(), values)
                rows += len(frame)
    sys.stdout.write(f"{rows}\n")


if __name__ == "__main__":
    _plain(sys.argv[1], Path(sys.argv[2]))

"""Four replicas and one store at a tenth of 1,000 requests/s: what a request costs in rows, bytes, commits and connections."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from catboost import CatBoostClassifier, Pool
from pydantic import SecretStr
from sqlalchemy import Engine, func, select, text
from support.frames import snapshot_frame
from support.load import wait
from support.mariadb import OwnServer, database, own_server
from support.network import free_port

from benchmarks.instance import CONTRACT, INSTANCE
from benchmarks.repeating import repeating
from benchmarks.serving import MODEL, Service, measure, save, write_bodies
from ctcd.cli.output import table
from ctcd.deployment import bento
from ctcd.model.trees import CatBoost
from ctcd.serving.launch import running
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.serving.prediction_log.outbox_files import SUFFIX
from ctcd.settings import ModelSource, Settings, load_settings
from ctcd.store.engine import connect
from ctcd.store.migrations import upgrade
from ctcd.store.retention import partition
from ctcd.store.tables import build_tables
from ctcd.training.preprocess import fit_encoder

REPLICAS = 4
PER_REPLICA = 25
"""Requests per second that a replica is sent."""
CONNECTIONS = 4
"""Connections to each replica; each pauses after an answer, so that the rate is at most `PER_REPLICA`."""
SECONDS, AWAY_SECONDS = 60, 20
"""How long the replicas are under load with the store, and without it."""
LEAST_ROWS = 200_000
"""Rows of the log whose bytes are measured: those of the run, multiplied."""
LOOK_SECONDS = 0.25
_COUNTERS = ("Com_commit", "Com_insert", "Innodb_os_log_written", "Bytes_received")


@dataclass(frozen=True, kw_only=True)
class CapacityResult:
    """What the run has measured. Counts and bytes do not depend on other load of the machine; times do.

    Args:
        asked: requests per second that all replicas were asked at most.
        reached: answers per second.
        answers: answers to clients, also while the store was away.
        missing: those of them that the log does not have in the end; less than none if requests were answered after the load
            generator had ended.
        twice: rows of the log whose request id has another row.
        row_bytes: of a row in the log, data and all indexes, of `LEAST_ROWS`.
        index_bytes: those of them that are indexes besides the table.
        insert_bytes: sent to the store for a row, as SQL.
        redo_bytes: written to the store's redo log for a row.
        rows_per_commit: of the store, on average.
        commits_per_second: of the store.
        store_us: processor time of the store for a row, microseconds.
        worker_us: processor time of a worker for a request, microseconds.
        shipping_us: processor time of a shipping process for a row, microseconds.
        worker_bytes: what a worker writes for a request, nearly all of it to its outbox.
        depth: most predictions that waited in an outbox while the store answered.
        waiting_bytes: of a prediction that waits in the outbox.
        away_depth: predictions that waited in all outboxes after `AWAY_SECONDS` without the store.
        connections: most connections that the store had at the same time, without that of this benchmark.
    """

    replicas: int
    asked: int
    reached: float
    answers: int
    missing: int
    twice: int
    row_bytes: float
    index_bytes: float
    insert_bytes: float
    redo_bytes: float
    rows_per_commit: float
    commits_per_second: float
    store_us: float
    worker_us: float
    shipping_us: float
    worker_bytes: float
    depth: int
    waiting_bytes: float
    away_depth: int
    connections: int


def run(_data: Path | None) -> list[CapacityResult]:
    """Put the replicas under load, with the store and without it, and let them catch up."""
    with (
        TemporaryDirectory(prefix="ctcd-bench-") as folder,
        own_server("--innodb-flush-log-at-trx-commit=1") as server,  # as in production
        database(server.url) as store,
        ExitStack() as stack,
    ):
        url = store.render_as_string(hide_password=False)
        upgrade(url, INSTANCE.migrations)
        engine = connect(url)
        partition(engine, CONTRACT, datetime.now(UTC).date())
        result = _measured(Path(folder), url, engine, server, stack)
        engine.dispose()
    table(
        f"{REPLICAS} replicas on one machine, {result.asked} requests/s; targets: none missing, none twice",
        ("measurement", "value"),
        [(name, round(value, 1)) for name, value in asdict(result).items()],
    )
    return [result]


def _measured(place: Path, url: str, engine: Engine, server: OwnServer, stack: ExitStack) -> CapacityResult:
    homes = [place / f"replica-{number}" for number in range(REPLICAS)]
    replicas = _start(place, homes, url, server, stack)
    outboxes = [stack.enter_context(closing(Outbox.attach(file_of(home)))) for home in homes]
    answers = _load(replicas, place, 1, 0)  # warm-up
    wait(lambda: all(each.refresh() == 0 for each in outboxes), 60)
    depth, connected = [0], [0]

    def look() -> None:
        depth[0] = max(depth[0], *(each.refresh() for each in outboxes))
        connected[0] = max(connected[0], _status(engine)["Threads_connected"] - 1)

    pause = CONNECTIONS * 1_000 // PER_REPLICA
    written, cpu, before, began = _written(replicas), _cpu(replicas), _status(engine), time.perf_counter()
    with repeating(look, pause=LOOK_SECONDS):
        asked = _load(replicas, place, SECONDS, pause)
    seconds = time.perf_counter() - began
    wait(lambda: all(each.refresh() == 0 for each in outboxes), 60)
    written, cpu = _written(replicas) - written, [now - then for now, then in zip(_cpu(replicas), cpu, strict=True)]
    used = {name: value - before[name] for name, value in _status(engine).items()}
    answers += asked
    engine.dispose()
    server.stop()
    for each in replicas:
        each.store = each.pid  # its processor time is not looked at any more, and its process is gone
    answers += _load(replicas, place, AWAY_SECONDS, pause)
    away = sum(each.refresh() for each in outboxes)
    waiting = sum(_used(file_of(home)) for home in homes) / away
    server.start()
    wait(lambda: all(each.refresh() == 0 for each in outboxes), 120)
    log = build_tables(CONTRACT).predictions
    with engine.connect() as connection:
        rows, ids = connection.execute(
            select(func.count(), func.count(log.c.request_id.distinct())).select_from(log)
        ).one()
    row, index = _row_bytes(engine)
    return CapacityResult(
        replicas=REPLICAS,
        asked=REPLICAS * PER_REPLICA,
        reached=asked / seconds,
        answers=answers,
        missing=answers - ids,
        twice=rows - ids,
        row_bytes=row,
        index_bytes=index,
        insert_bytes=used["Bytes_received"] / asked,
        redo_bytes=used["Innodb_os_log_written"] / asked,
        rows_per_commit=asked / used["Com_commit"],
        commits_per_second=used["Com_commit"] / seconds,
        store_us=cpu[2] / asked * 1e6,
        worker_us=cpu[0] / asked * 1e6,
        shipping_us=cpu[1] / asked * 1e6,
        worker_bytes=written / asked,
        depth=depth[0],
        waiting_bytes=waiting,
        away_depth=away,
        connections=connected[0],
    )


def _start(place: Path, homes: list[Path], url: str, server: OwnServer, stack: ExitStack) -> list[Service]:
    frame = snapshot_frame(CONTRACT, rows=5_000, base_dt=load_settings().today())
    target = frame.pop(CONTRACT.label.name).map(CONTRACT.classes.index).to_numpy()
    trees = CatBoost(fit_encoder(frame, CONTRACT))
    trees.model = CatBoostClassifier(
        iterations=50, depth=6, loss_function="MultiClass", allow_writing_files=False, verbose=False, random_seed=1
    ).fit(Pool(trees.encode_frame(frame), target))
    save(trees, place)
    write_bodies(frame, place)
    services = []
    for home in homes:
        settings = Settings(
            home=home,
            port=free_port(),
            feature_store_url=SecretStr(url),
            model_source=ModelSource.BENTO,
            outbox_max_records=10**7,
        )
        tag = bento.build(MODEL, place / trees.name, settings, INSTANCE).tag
        service = stack.enter_context(running(tag, settings))
        services.append(Service(home.name, settings.port, service.process.pid, server.process.pid))
    return services


def _load(replicas: list[Service], place: Path, seconds: int, pause_ms: int) -> int:
    """Put all replicas under load at the same time; return the number of answers.

    Raises:
        RuntimeError: a request was refused.
    """
    with ThreadPoolExecutor(len(replicas)) as pool:
        rounds = list(pool.map(lambda each: measure(each, place, CONNECTIONS, seconds, pause_ms=pause_ms), replicas))
    if any(each.errors for each in rounds):
        raise RuntimeError("a request was refused")
    return sum(each.requests for each in rounds)


def file_of(home: Path) -> Path:
    """Return the outbox of a service with one worker."""
    [file] = (home / "outbox").glob(f"*{SUFFIX}")
    return file


def _used(file: Path) -> int:
    """Return the bytes of the pages in use of an outbox, whether they are in the file or in its log."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as outbox:
        pages, free, size = (
            outbox.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def _written(replicas: list[Service]) -> int:
    """Return the bytes that the workers have written."""
    return sum(psutil.Process(each.pid).io_counters().write_chars for one in replicas for each in one.processes())


def _cpu(replicas: list[Service]) -> list[float]:
    """Return the processor time used so far by all workers, by their shipping processes and by the store."""
    times = [each.cpu_seconds() for each in replicas]
    return [sum(each[0] for each in times), sum(each[1] for each in times), times[0][2]]


def _status(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        found: dict[str, str] = dict(connection.execute(text("SHOW GLOBAL STATUS")).all())
    return {name: int(found[name]) for name in (*_COUNTERS, "Threads_connected")}


def _row_bytes(engine: Engine) -> tuple[float, float]:
    """Return the bytes of a row of the log, and those of them that are indexes, after multiplying its rows."""
    log = build_tables(CONTRACT).predictions
    names = [column.name for column in log.columns if column.name not in ("id", "request_id")]
    columns, quote = ", ".join(f"`{name}`" for name in names), engine.dialect.identifier_preparer.quote
    random = (
        "LOWER(INSERT(INSERT(INSERT(INSERT(HEX(RANDOM_BYTES(16)), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-'))"
    )
    with engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(log)) or 0
        while rows < LEAST_ROWS:
            connection.exec_driver_sql(
                f"INSERT INTO {quote(log.name)} (request_id, {columns}) SELECT {random}, {columns} FROM {quote(log.name)}"  # noqa: S608 - our own names
                f" LIMIT {LEAST_ROWS - rows}"
            )
            connection.commit()
            rows = connection.scalar(select(func.count()).select_from(log)) or 0
        connection.exec_driver_sql(f"ANALYZE TABLE {quote(log.name)}").all()
        data, index = connection.execute(
            text(
                "SELECT data_length, index_length FROM information_schema.tables WHERE table_schema = DATABASE()"
                " AND table_name = :name"
            ),
            {"name": log.name},
        ).one()
    return (int(data) + int(index)) / rows, int(index) / rows

"""One request alone: our service against the bare FastAPI one and the disk, and where the difference goes."""

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from catboost import CatBoostClassifier
from pydantic import SecretStr
from support.network import free_port

from benchmarks.instance import CONTRACT, INSTANCE
from benchmarks.services import BARE_MODEL
from benchmarks.serving import (
    MODEL,
    PAGE,
    PEER,
    PEER_COMMAND,
    RatioResult,
    Service,
    alone,
    measure,
    other_service,
    prepare,
    sync_ms,
)
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.contract.spec import names
from ctcd.deployment import bento
from ctcd.model.estimator import CATBOOST
from ctcd.model.scorer import Scorer
from ctcd.model.served import Served
from ctcd.serving.launch import running
from ctcd.serving.prediction_log import records
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.settings import ModelSource, Settings

ROUNDS, SECONDS = 15, 1
REPEATS = 300


@dataclass(frozen=True, kw_only=True)
class AloneResult:
    """What an answer, or a part of it, takes.

    Args:
        what: the answer of a service at one connection, or a part of it that is done again in this process.
        median_us: median time, microseconds, with all waits.
        cpu_us: processor time, microseconds, of all threads; it hardly depends on other load of the machine.
    """

    what: str
    median_us: float
    cpu_us: float


def run(_data: Path | None) -> list[Any]:
    """Measure both services and the disk in short alternating rounds, then the parts one after the other."""
    with own_store(INSTANCE.migrations) as store, ExitStack() as stack:
        place = store.folder
        rows = prepare(place, store.url, ())
        settings = Settings(
            home=place / "ours",
            port=free_port(),
            feature_store_url=SecretStr(store.url),
            model_source=ModelSource.BENTO,
            outbox_max_records=10**7,
        )
        tag = bento.build(MODEL, place / CATBOOST, settings, INSTANCE).tag
        service = stack.enter_context(running(tag, settings))
        server = store.server.process.pid
        ours = Service("ours", settings.port, service.process.pid, server)
        others = Settings(home=place / "others", feature_store_url=SecretStr(store.url))
        peer = stack.enter_context(other_service(PEER, PEER_COMMAND, place, others, server))
        for each in (ours, peer):
            measure(each, place, 1, SECONDS)  # warm-up
        mine, theirs, syncs = [], [], []
        for _ in range(ROUNDS):
            mine.append(measure(ours, place, 1, SECONDS))
            theirs.append(measure(peer, place, 1, SECONDS))
            syncs.append(sync_ms(place))
        ratio = alone(mine, theirs, syncs)
        results = [
            AloneResult(
                what=name,
                median_us=statistics.median(each.p50_ms for each in found) * 1_000,
                cpu_us=statistics.median(each.cpu_us for each in found),
            )
            for name, found in (("answer of ours", mine), (f"answer of {PEER}", theirs))
        ]
        results += _parts(place, rows)
    table(
        f"One request alone, medians of {ROUNDS} alternating rounds",
        ("what", "median us", "processor us"),
        [(each.what, round(each.median_us), round(each.cpu_us)) for each in results],
    )
    _show(ratio)
    return [*results, ratio]


def _show(ratio: RatioResult) -> None:
    table(
        "Compared with the target",
        ("measurement", "value", "target"),
        [(ratio.what, round(ratio.ratio, 2), f"at most {ratio.wanted:g}")],
    )


def _parts(place: Path, rows: list[dict[str, Any]]) -> list[AloneResult]:
    served = Served(scorer=Scorer.load(place / CATBOOST), info=MODEL)
    bare = CatBoostClassifier().load_model(str(place / BARE_MODEL))
    columns = tuple(names(CONTRACT.request_columns))
    inputs = names(CONTRACT.model_inputs)
    row = rows[0]
    plain = ["" if row[name] is None else row[name] for name in inputs]
    values = records.values_of(columns)(row)
    found = served.scorer.predict([row])

    def record() -> bytes:
        return records.encode(
            [values],
            columns=columns,
            group=records.group_name(CONTRACT),
            request_ids=[str(uuid4())],
            predictions=found,
            elapsed_ms=[1.0],
            origin=served.origin(None),
            created_at=datetime.now(UTC),
        )

    body = record()
    (place / "parts").mkdir()
    page = bytes(PAGE)
    with (
        (place / "synced").open("rb+", buffering=0) as file,
        closing(Outbox.claim(place / "parts", max_records=10**6)) as outbox,
        ThreadPoolExecutor(1) as thread,
    ):

        def sync() -> None:
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())

        parts: dict[str, Callable[[], object]] = {
            "score a row": lambda: served.scorer.predict([row]),
            "score a row, as the bare service does": lambda: bare.predict_proba(plain, thread_count=1).tolist(),
            "write its record": record,
            "commit its record": lambda: outbox.append([body]),
            "overwrite 8 KiB, and one fdatasync": sync,
        }
        results = [_part(name, work) for name, work in parts.items()]
        results.append(asyncio.run(_handed_over(thread)))
    return results


def _part(name: str, work: Callable[[], object]) -> AloneResult:
    times, before = [], time.process_time()
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return _result(name, times, time.process_time() - before)


async def _handed_over(thread: ThreadPoolExecutor) -> AloneResult:
    """Measure how an event loop hands something over to a thread that waits for it, and is told that it is done."""
    loop, times, before = asyncio.get_running_loop(), [], time.process_time()
    for _ in range(REPEATS):
        done = loop.create_future()
        began = time.perf_counter()
        thread.submit(loop.call_soon_threadsafe, done.set_result, None)
        await done
        times.append(time.perf_counter() - began)
    return _result("hand over to a thread, and back", times, time.process_time() - before)


def _result(name: str, times: list[float], cpu: float) -> AloneResult:
    return AloneResult(what=name, median_us=statistics.median(times) * 1e6, cpu_us=cpu / len(times) * 1e6)

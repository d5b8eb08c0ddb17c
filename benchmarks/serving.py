"""Our service against the alternatives: throughput, tail latency and memory, in one run of short alternating rounds."""

import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from catboost import CatBoostClassifier, Pool
from pydantic import SecretStr
from support.frames import snapshot_frame
from support.network import free_port

from benchmarks.instance import CONTRACT, INSTANCE
from benchmarks.services import BARE_MODEL, NAIVE_MODEL, NAIVE_ROWS, STORE
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.contract.spec import Kind, names
from ctcd.deployment import bento
from ctcd.model.estimator import CATBOOST, Estimator, LabelledPart, find_estimator
from ctcd.model.probes import save_probes
from ctcd.model.scorer import Scorer
from ctcd.model.served import ModelInfo
from ctcd.model.trees import CatBoost
from ctcd.serving.launch import running
from ctcd.settings import LogLevel, ModelSource, Settings, load_settings
from ctcd.training.preprocess import fit_encoder
from ctcd.training.trial import prepared

ROOT = Path(__file__).parents[1]
ROUNDS, SECONDS = 5, 4
CONNECTIONS = 32
TREES, DEPTH = 400, 6
BATCH_ROWS = 10_000
SOAK_ROUNDS = 6
PEER = "FastAPI, CatBoost on a list"
PEER_COMMAND = "uvicorn", "benchmarks.services.bare:app", "--no-access-log"
PAGE, SYNCS, SYNC_PAUSE = 8_192, 200, 0.001
"""Bytes that a commit of one prediction writes, about, and how many are synced for a median, with pauses in seconds."""
PIPELINES = ("hist_gradient_boosting", "logistic_regression")
"""Estimators that are measured beside CatBoost."""

MODEL = ModelInfo(
    model_name=CONTRACT.name, version="1", alias="none", run_id="none", model_uri="none", creation_time="none"
)


@dataclass(frozen=True, kw_only=True)
class ServiceResult:
    """One service under load; medians over the rounds.

    Args:
        service: name of the service.
        workers: number of worker processes.
        connections: number of connections of the load generator, each sending requests without a pause.
        requests_per_second: answered requests per second.
        p50_ms: median time of an answer, milliseconds.
        p95_ms: 95th percentile of the time of an answer, milliseconds.
        p99_ms: 99th percentile of the time of an answer, milliseconds.
        errors: answers other than 200, timeouts and broken connections, in all rounds.
        cpu_us: processor time of its workers per request, microseconds; independent of other load on the machine.
        shipping_us: processor time of its shipping processes per request, microseconds.
        store_us: processor time of the database server per request, microseconds.
        client_us: processor time of the load generator, on the same machine, per request, microseconds.
        cores: number of cores that all of them kept busy.
        worker_mib: resident memory of its largest worker, MiB.
    """

    service: str
    workers: int
    connections: int
    requests_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    cpu_us: float
    shipping_us: float
    store_us: float
    client_us: float
    cores: float
    worker_mib: float


@dataclass(frozen=True, kw_only=True)
class RatioResult:
    """The ratio of two measurements, median over the rounds, or a measurement by itself.

    Args:
        what: what was measured.
        ratio: the value.
        wanted: its lower limit; the upper limit if `lower` is set.
        lower: whether less is better.
    """

    what: str
    ratio: float
    wanted: float
    lower: bool = False


@dataclass
class Service:
    """A service that runs."""

    name: str
    port: int
    pid: int
    store: int
    """Process id of the database server."""
    workers: int = 1

    def processes(self) -> list[psutil.Process]:
        """Return the processes that answer requests."""
        root = psutil.Process(self.pid)
        family = [each for each in root.children(recursive=True) if "_bentoml_impl.worker.service" in each.cmdline()]
        return family or [root]

    def cpu_seconds(self) -> tuple[float, float, float, float]:
        """Return the processor time used so far by the workers, their shipping processes, the store and the load generators."""
        family = psutil.Process(self.pid).children(recursive=True)
        shipping = [each for each in family if "ctcd.serving.prediction_log.shipping" in each.cmdline()]
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            _seconds(self.processes()),
            _seconds(shipping),
            _seconds([psutil.Process(self.store)]),
            ended.ru_utime + ended.ru_stime,
        )

    def mib(self) -> float:
        """Return the resident memory of the largest worker, MiB."""
        return float(max(each.memory_info().rss for each in self.processes()) / 2**20)


def _seconds(processes: list[psutil.Process]) -> float:
    times = [each.cpu_times() for each in processes]
    return float(sum(each.user + each.system for each in times))


@dataclass
class Round:
    """What a service did in one round; see `ServiceResult`."""

    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    cpu_us: float
    shipping_us: float
    store_us: float
    client_us: float
    cores: float
    requests: int


def run(_data: Path | None) -> list[Any]:
    """Measure everything; return the results of the services, followed by the ratios."""
    with own_store(INSTANCE.migrations) as store, ExitStack() as stack:
        place, url = store.folder, store.url
        rows = prepare(place, url, PIPELINES)
        services, start_seconds = _start(place, url, store.server.process.pid, stack)
        rounds: dict[tuple[str, int], list[Round]] = defaultdict(list)
        syncs: list[float] = []
        for each in services:
            measure(each, place, CONNECTIONS, 1)  # warm-up
        for connections in (CONNECTIONS, 1):
            for _ in range(ROUNDS):
                for each in services:
                    rounds[each.name, connections].append(measure(each, place, connections, SECONDS))
                if connections == 1:
                    syncs.append(sync_ms(place))
        results: list[Any] = [
            _summarise(each, connections, rounds[each.name, connections])
            for connections in (CONNECTIONS, 1)
            for each in services
        ]
        ours, memory = services[0], {each.name: each.mib() for each in services}
        results += [*_ratios(rounds, memory, start_seconds), alone(rounds["ours", 1], rounds[PEER, 1], syncs)]
        results += [_batch(ours, place, rows), _flatness(ours, place)]
    _show(results)
    return results


def _show(results: list[Any]) -> None:
    services = [each for each in results if isinstance(each, ServiceResult)]
    table(
        f"POST /predict, medians of {ROUNDS} alternating rounds of {SECONDS} s, MariaDB running",
        ("service", "connections", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors", "worker MiB"),
        [
            (
                each.service,
                each.connections,
                round(each.requests_per_second),
                round(each.p50_ms, 2),
                round(each.p95_ms, 2),
                round(each.p99_ms, 2),
                each.errors,
                round(each.worker_mib),
            )
            for each in services
        ],
    )
    table(
        "Processor time of a request, microseconds",
        ("service", "connections", "worker", "shipping", "store", "wrk", "cores busy"),
        [
            (
                each.service,
                each.connections,
                round(each.cpu_us),
                round(each.shipping_us),
                round(each.store_us),
                round(each.client_us),
                round(each.cores, 2),
            )
            for each in services
        ],
    )
    table(
        "Compared with the targets",
        ("measurement", "value", "target"),
        [
            (each.what, round(each.ratio, 2), f"{'at most' if each.lower else 'at least'} {each.wanted:g}")
            for each in results
            if isinstance(each, RatioResult)
        ],
    )


def prepare(place: Path, url: str, pipelines: tuple[str, ...]) -> list[dict[str, Any]]:
    """Train the models, those of pipelines only if they are named, draw the request bodies and write them to `place`; return the rows of the bodies."""
    frame = snapshot_frame(CONTRACT, rows=20_000, base_dt=load_settings().today())
    target = frame.pop(CONTRACT.label.name).map(CONTRACT.classes.index).to_numpy()
    inputs = names(CONTRACT.model_inputs)
    texts = [column.name for column in CONTRACT.model_inputs if column.kind in (Kind.CATEGORY, Kind.LIST)]
    options: dict[str, Any] = {
        "iterations": TREES,
        "depth": DEPTH,
        "learning_rate": 0.1,
        "max_ctr_complexity": 1,
        "loss_function": "MultiClass",
        "allow_writing_files": False,
        "verbose": False,
        "random_seed": 1,
    }
    trees = CatBoost(fit_encoder(frame, CONTRACT))
    trees.model = CatBoostClassifier(**options).fit(Pool(trees.encode_frame(frame), target))
    save(trees, place)
    for name in pipelines:
        pipeline = prepared(find_estimator(name), frame, trees.encoder)
        part = LabelledPart(pipeline.encode_frame(frame), target, [])
        few = LabelledPart(part.features.head(BATCH_ROWS), target[:BATCH_ROWS], [])
        pipeline.fit(part, few, pipeline.params(), seed=1, threads=1, on_round=lambda _: None)
        save(pipeline, place)

    from sklearn.preprocessing import RobustScaler

    plain = frame[inputs].copy()
    plain[texts] = plain[texts].fillna("").astype(object)
    CatBoostClassifier(**options, cat_features=texts).fit(plain, target).save_model(str(place / BARE_MODEL))
    scalers = {name: RobustScaler().fit(plain[[name]]) for name in inputs if name not in texts}
    plain[list(scalers)].to_parquet(place / NAIVE_ROWS)
    for name, scaler in scalers.items():
        plain[name] = scaler.transform(plain[[name]])
    CatBoostClassifier(**options, cat_features=texts).fit(plain, target).save_model(str(place / NAIVE_MODEL))
    (place / STORE).write_text(url, encoding="utf-8")
    return write_bodies(frame, place)


def write_bodies(frame: pd.DataFrame, place: Path) -> list[dict[str, Any]]:
    """Write request bodies for the load generator; return their rows, and more."""
    columns = [CONTRACT.group.name, *names(CONTRACT.model_inputs)]
    rows: list[dict[str, Any]] = json.loads(
        frame[columns].head(BATCH_ROWS).to_json(orient="records", double_precision=15)
    )
    (place / "bodies.jsonl").write_text("".join(json.dumps({"data": row}) + "\n" for row in rows[:200]))
    return rows


def save(estimator: Estimator, place: Path) -> None:
    """Write an estimator, as a scorer, to the folder of its name in `place`."""
    scorer = Scorer(
        name=CONTRACT.name,
        contract_version=CONTRACT.version,
        classes=CONTRACT.classes,
        estimator=estimator,
        params={},
    )
    scorer.save(place / estimator.name)
    save_probes(scorer, CONTRACT, place / estimator.name)


def _start(place: Path, url: str, server: int, stack: ExitStack) -> tuple[list[Service], float]:
    services, seconds = [], 0.0
    kinds = [("ours", CATBOOST, 1), ("ours, two workers", CATBOOST, 2)] + [
        (f"ours, {name}", name, 1) for name in PIPELINES
    ]
    for name, estimator, workers in kinds:
        settings = Settings(
            home=place / f"ours-{estimator}-{workers}",
            port=free_port(),
            workers=workers,
            feature_store_url=SecretStr(url),
            model_source=ModelSource.BENTO,
            log_level=LogLevel.INFO,
            outbox_max_records=10**7,
        )
        tag = bento.build(MODEL, place / estimator, settings, INSTANCE).tag
        began = time.monotonic()
        service = stack.enter_context(running(tag, settings))
        seconds = seconds or time.monotonic() - began
        services.append(Service(name, settings.port, service.process.pid, server, workers))
    settings = Settings(home=place / "others", feature_store_url=SecretStr(url))
    for name, command in (
        (PEER, PEER_COMMAND),
        ("BentoML, a constant", ("bentoml", "serve", "benchmarks.services.constant:Constant")),
        ("naive", ("bentoml", "serve", "benchmarks.services.naive:Naive")),
    ):
        services.append(stack.enter_context(other_service(name, command, place, settings, server)))
    return services, seconds


@contextmanager
def other_service(
    name: str, command: tuple[str, ...], place: Path, settings: Settings, server: int
) -> Iterator[Service]:
    """Run a command that serves, until the block ends."""
    port = free_port()
    full = [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)]
    # A home of its own, as services that share one share their metrics.
    home = place / f"home-{port}"
    environment = settings.child_environment() | {
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }
    with (place / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(full, cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own command
    try:
        _wait(port, process, place / "bodies.jsonl", place / f"{port}.log")
        yield Service(name, port, process.pid, server)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(30)
        for each in psutil.wait_procs(family, timeout=5)[1]:
            each.kill()


def _wait(port: int, process: "subprocess.Popen[bytes]", bodies: Path, log: Path) -> None:
    body = bodies.read_text().partition("\n")[0]
    for _ in range(600):
        time.sleep(0.1)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if process.poll() is not None:
            break
    raise RuntimeError(f"a service did not start:\n{log.read_text()[-2000:]}")


def measure(service: Service, place: Path, connections: int, seconds: int, *, pause_ms: int = 0) -> Round:
    """Put a service under load for some seconds; each connection pauses after an answer."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(ROOT / "benchmarks/wrk.lua"),
    ]
    command += [f"http://127.0.0.1:{service.port}/predict", "--", str(place / "bodies.jsonl")]
    command += [str(pause_ms)] if pause_ms else []
    before = service.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command
    cpu = [now - then for now, then in zip(service.cpu_seconds(), before, strict=True)]
    found = json.loads(done.stdout.partition("RESULT ")[2])
    worker, shipping, store, client = (each / max(found["requests"], 1) * 1e6 for each in cpu)
    return Round(
        rps=found["requests"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p95_ms=found["p95_ms"],
        p99_ms=found["p99_ms"],
        errors=found["errors"],
        cpu_us=worker,
        shipping_us=shipping,
        store_us=store,
        client_us=client,
        cores=sum(cpu) / found["seconds"],
        requests=found["requests"],
    )


def _summarise(service: Service, connections: int, rounds: list[Round]) -> ServiceResult:
    def median(name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in rounds))

    return ServiceResult(
        service=service.name,
        workers=service.workers,
        connections=connections,
        requests_per_second=median("rps"),
        p50_ms=median("p50_ms"),
        p95_ms=median("p95_ms"),
        p99_ms=median("p99_ms"),
        errors=sum(each.errors for each in rounds),
        cpu_us=median("cpu_us"),
        shipping_us=median("shipping_us"),
        store_us=median("store_us"),
        client_us=median("client_us"),
        cores=median("cores"),
        worker_mib=service.mib(),
    )


def _ratios(
    rounds: dict[tuple[str, int], list[Round]], memory: dict[str, float], start_seconds: float
) -> list[RatioResult]:
    def against(other: str, wanted: float) -> RatioResult:
        pairs = zip(rounds["ours", CONNECTIONS], rounds[other, CONNECTIONS], strict=True)
        ratio = float(statistics.median(mine.rps / theirs.rps for mine, theirs in pairs))
        return RatioResult(what=f"requests/s: ours / {other}", ratio=ratio, wanted=wanted)

    both = zip(rounds["ours, two workers", CONNECTIONS], rounds["ours", CONNECTIONS], strict=True)
    tails = [each.p99_ms / each.p50_ms for each in rounds["ours", CONNECTIONS]]
    alone = [each.p99_ms for each in rounds["ours", 1]]
    return [
        against(PEER, 0.9),
        against("BentoML, a constant", 1.8),
        against("naive", 40.0),
        RatioResult(
            what="requests/s: two workers / one",
            ratio=float(statistics.median(a.rps / b.rps for a, b in both)),
            wanted=1.6,
        ),
        RatioResult(
            what=f"ours, p99 / p50 at {CONNECTIONS} connections",
            ratio=float(statistics.median(tails)),
            wanted=3.0,
            lower=True,
        ),
        RatioResult(
            what="ours, p99 at one connection, ms", ratio=float(statistics.median(alone)), wanted=5.0, lower=True
        ),
        RatioResult(what="ours, start to ready, seconds", ratio=start_seconds, wanted=6.0, lower=True),
        RatioResult(
            what="worker memory: ours - BentoML's constant, MiB",
            ratio=memory["ours"] - memory["BentoML, a constant"],
            wanted=300.0,
            lower=True,
        ),
    ]


def sync_ms(place: Path) -> float:
    """Return the median time of one `fdatasync`, milliseconds, after as many bytes were overwritten as a commit writes."""
    times, page = [], os.urandom(PAGE)
    with (place / "synced").open("wb+", buffering=0) as file:
        file.write(page * SYNCS)
        os.fsync(file.fileno())
        for number in range(SYNCS):
            time.sleep(SYNC_PAUSE)  # or a busy machine lets others go first, as it does not with a service that waits
            os.pwrite(file.fileno(), page[::-1], number * PAGE)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1_000


def alone(ours: list[Round], peer: list[Round], syncs: list[float]) -> RatioResult:
    """Return what an answer at one connection takes longer than the peer's, as a multiple of one `fdatasync`."""
    rounds = zip(ours, peer, syncs, strict=True)
    return RatioResult(
        what=f"one connection: (p50 of ours - p50 of FastAPI) / fdatasync, {statistics.median(syncs):.2f} ms",
        ratio=float(statistics.median((mine.p50_ms - theirs.p50_ms) / sync for mine, theirs, sync in rounds)),
        wanted=1.5,
        lower=True,
    )


def _batch(service: Service, place: Path, rows: list[dict[str, Any]]) -> RatioResult:
    """Return the ratio of rows per second: `/predict_batch` to CatBoost alone, on the same rows."""
    model = CatBoostClassifier().load_model(str(place / BARE_MODEL))
    inputs = names(CONTRACT.model_inputs)
    plain = [["" if row[name] is None else row[name] for name in inputs] for row in rows]
    body = json.dumps({"data": rows})
    ratios = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model.predict_proba(plain)
        alone = time.perf_counter() - began
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        began = time.perf_counter()
        connection.request("POST", "/predict_batch", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        ours = time.perf_counter() - began
        connection.close()
        if response.status != 200 or len(json.loads(content)["predictions"]) != len(rows):
            raise RuntimeError(f"the batch was answered with {response.status}")
        ratios.append(alone / ours)
    return RatioResult(
        what="rows/s: /predict_batch / CatBoost alone", ratio=float(statistics.median(ratios)), wanted=0.5
    )


def _flatness(service: Service, place: Path) -> RatioResult:
    """Return by how much the memory of the worker grows in the second half of a long run, MiB."""
    sizes = []
    for _ in range(SOAK_ROUNDS):
        measure(service, place, CONNECTIONS, SECONDS)
        sizes.append(service.mib())
    grown = sizes[-1] - sizes[SOAK_ROUNDS // 2 - 1]
    return RatioResult(what="ours, growth of memory in a long run, MiB", ratio=grown, wanted=5.0, lower=True)

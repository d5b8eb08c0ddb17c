"""The cost of a challenger: shadow, canary and route against a service without one, in one run."""

import json
import math
import os
import statistics
from collections import defaultdict
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
from support.instance import CONTRACT, INSTANCE
from support.load import BODIES, wait

from benchmarks.capacity import file_of
from benchmarks.faults import prepare
from benchmarks.serving import TREES, Round, Service, measure
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.contract.policy_file import read_policy
from ctcd.contract.traffic import Mode, TrafficPolicy
from ctcd.registry import traffic
from ctcd.serving.launch import running
from ctcd.serving.prediction_log.outbox import Outbox

ROUNDS, SECONDS = 10, 4
CONNECTIONS = 32
KINDS: tuple[Mode | None, ...] = (None, Mode.SHADOW, Mode.CANARY, Mode.ROUTE)
POLICY = """
default = "champion"
[shadow]
share = 1.0
[canary]
steps = [{ share = 0.5, min_answers = 1 }]
[[route]]
when = "stops > 3 and hours > 100"
alias = "challenger"
"""


@dataclass(frozen=True, kw_only=True)
class VariantsResult:
    """One kind of traffic under one load; medians over alternating rounds, ratios of each round to the service without one.

    Args:
        traffic: kind of traffic, or none.
        pause_ms: mean pause of a connection after an answer: none gives the peak rate, the other one at most half of it.
        requests_per_second: answered requests per second.
        p50_ms: median time of an answer, milliseconds.
        p99_ms: its 99th percentile, milliseconds.
        p99_ratio: the same compared with the service without a challenger.
        cpu_us: processor time of the workers per request, microseconds.
        cpu_ratio: the same compared likewise.
        shipping_us: processor time of the shipping processes per request, microseconds, with that of a shadow.
        errors: answers other than 200, timeouts and broken connections, in all rounds.
    """

    traffic: str
    pause_ms: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    p99_ratio: float
    cpu_us: float
    cpu_ratio: float
    shipping_us: float
    errors: int


def run(_data: Path | None) -> list[VariantsResult]:
    """Serve the same two versions with each kind of traffic, and put the services under load in alternating short rounds."""
    with own_store(INSTANCE.migrations) as store, ExitStack() as stack:
        place, url = store.folder, store.url
        bodies = [json.loads(body)["data"] | {"machine": number} for number, body in enumerate(BODIES, 1)]
        (place / "bodies.jsonl").write_text("".join(json.dumps({"data": row}) + "\n" for row in bodies))
        services = [_start(kind, place, url, store.server.process.pid, stack) for kind in KINDS]
        _set_apart(services, store.server.process.pid, stack)
        outboxes = [stack.enter_context(closing(Outbox.attach(file_of(place / each.name)))) for each in services]
        rounds = defaultdict(list)

        def measured(number: int, pause: int = 0) -> Round:
            _, before, *_ = services[number].cpu_seconds()
            found = measure(services[number], place, CONNECTIONS, SECONDS, pause_ms=pause)
            # What is left to ship, and for a shadow to score, would slow down the next service instead of this one.
            wait(lambda: outboxes[number].refresh() == 0, 60)
            _, after, *_ = services[number].cpu_seconds()
            return replace(found, shipping_us=(after - before) / found.requests * 1e6)

        def load(pause: int) -> None:
            for _ in range(ROUNDS):
                for number, each in enumerate(services):
                    rounds[each.name, pause].append(measured(number, pause))

        for number in range(len(services)):
            measured(number)  # warm-up
        load(0)
        peak = statistics.median(each.rps for each in rounds["none", 0])
        load(math.ceil(CONNECTIONS * 1_000 / (peak / 2)))
    results = []
    for (name, pause), found in rounds.items():
        base = rounds["none", pause]

        def median(field: str, found: list[Any] = found) -> float:
            return float(statistics.median(getattr(each, field) for each in found))

        def ratio(field: str, found: list[Any] = found, base: list[Any] = base) -> float:
            pairs = zip(found, base, strict=True)
            return float(statistics.median(getattr(one, field) / getattr(other, field) for one, other in pairs))

        results.append(
            VariantsResult(
                traffic=name,
                pause_ms=pause,
                requests_per_second=median("rps"),
                p50_ms=median("p50_ms"),
                p99_ms=median("p99_ms"),
                p99_ratio=ratio("p99_ms"),
                cpu_us=median("cpu_us"),
                cpu_ratio=ratio("cpu_us"),
                shipping_us=median("shipping_us"),
                errors=sum(each.errors for each in found),
            )
        )
    columns = [each.name for each in fields(VariantsResult)]
    table(
        f"POST /predict with a challenger, medians of {ROUNDS} alternating rounds of {SECONDS} s",
        columns,
        [
            [round(value, 2) if isinstance(value, float) else value for value in asdict(each).values()]
            for each in results
        ],
    )
    return results


def _set_apart(services: list[Service], store: int, stack: ExitStack) -> None:
    """Give the workers a core that neither the clients nor the store use, which elsewhere are on other machines.

    The store uses only what the clients leave of the others: a shadow doubles what it writes.
    """
    cores = os.sched_getaffinity(0)
    own = {min(cores)}
    stack.callback(os.sched_setaffinity, 0, cores)
    workers = {process.pid for each in services for process in each.processes()}
    family = {process.pid for each in services for process in psutil.Process(each.pid).children(recursive=True)}
    for process in workers | family | {store, os.getpid()}:
        for task in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(task.name), own if process in workers else cores - own or cores)
            if process == store:
                os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def _start(kind: Mode | None, place: Path, url: str, server: int, stack: ExitStack) -> Service:
    name = kind.value if kind else "none"
    settings, registry, tag = prepare(place / name, url, (TREES, TREES + 10))
    settings = settings.model_copy(update={"workers": 1, "follow_seconds": 3_600.0, "outbox_max_records": 10**7})
    if kind:
        [contracts] = settings.bentoml_home.glob("bentos/*/*/src/contracts")
        (contracts / "traffic.toml").write_text(POLICY)
        policy = read_policy(TrafficPolicy, contracts / "traffic.toml")
        made = policy.experiment(kind, "2")
        traffic.write(registry.client, CONTRACT.name, replace(made, effective=made.started))
    service = stack.enter_context(running(tag, settings))
    return Service(name, settings.port, service.process.pid, server)

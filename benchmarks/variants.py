"""The cost of a challenger: shadow, canary and route against a service without one, in one run."""

import json
import math
import os
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from support.instance import CONTRACT, INSTANCE
from support.load import BODIES

from benchmarks.faults import prepare
from benchmarks.serving import TREES, Service, measure
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.contract.policy_file import read_policy
from ctcd.contract.traffic import Mode, TrafficPolicy
from ctcd.registry import traffic
from ctcd.serving.launch import running

ROUNDS, SECONDS = 12, 2
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
        _lower_priority(store.server.process.pid)
        services = [_start(kind, place, url, store.server.process.pid, stack) for kind in KINDS]
        for each in services:
            measure(each, place, CONNECTIONS, 2)  # warm-up
        rounds = defaultdict(list)

        def load(pause: int) -> None:
            for _ in range(ROUNDS):
                for each in services:
                    rounds[each.name, pause].append(measure(each, place, CONNECTIONS, SECONDS, pause_ms=pause))

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


def _lower_priority(process: int) -> None:
    """Let the store use only what the service leaves of the cores: elsewhere it is on another machine.

    A shadow doubles what it writes, which would delay the answers here, and only here.
    """
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def _start(kind: Mode | None, place: Path, url: str, server: int, stack: ExitStack) -> Service:
    name = kind.value if kind else "none"
    settings, registry, tag = prepare(place / name, url, (TREES, TREES + 10))
    settings = settings.model_copy(update={"workers": 1, "follow_seconds": 3_600.0, "outbox_max_records": 10**7})
    if kind:
        [contracts] = settings.bentoml_home.glob("bentos/*/*/src/contracts")
        (contracts / "traffic.toml").write_text(POLICY)
        policy = read_policy(TrafficPolicy, contracts / "traffic.toml")
        traffic.write(registry.client, CONTRACT.name, policy.experiment(kind, "2", lead=0))
    service = stack.enter_context(running(tag, settings))
    return Service(name, settings.port, service.process.pid, server)

"""The cost of compositions of services: `examples/patterns` against the single service, in alternating rounds."""

import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from support.frames import snapshot_frame
from support.network import free_port
from support.patterns import COMPOSITIONS
from support.serving import model_info, pinned, save_model, small_scorer

from benchmarks.instance import CONTRACT, INSTANCE
from benchmarks.serving import TREES, Round, Service, measure, other_service, write_bodies
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.contract.spec import Contract
from ctcd.deployment import bento
from ctcd.serving.launch import running
from ctcd.settings import load_settings
from examples.patterns.informed import informed

ROUNDS, SECONDS = 5, 3
CONNECTIONS = (1, 8)
SINGLE = "single service"


@dataclass(frozen=True, kw_only=True)
class PatternResult:
    """One composition, or the single service, under load; medians over the rounds.

    Args:
        connections: number of connections of the load generator, each sending requests without a pause.
        p50_ms: median time of an answer, milliseconds.
        cpu_us: processor time of its services per request, microseconds.
        p50_ratio: its median time as a multiple of the single service's.
        throughput_ratio: its requests per second as a share of the single service's.
        cpu_ratio: its processor time as a multiple of the single service's.
        errors: responses other than 200, in all rounds.
    """

    composition: str
    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    p50_ratio: float
    throughput_ratio: float
    cpu_ratio: float
    errors: int


def run(_data: Path | None) -> list[Any]:
    """Measure all of them."""
    with own_store(INSTANCE.migrations) as store, ExitStack() as stack:
        place, url = store.folder, store.url
        write_bodies(snapshot_frame(CONTRACT, rows=1_000, base_dt=load_settings().today()), place)
        services = _start(place, url, store.server.process.pid, stack)
        rounds: dict[tuple[str, int], list[Round]] = defaultdict(list)
        for each in services:
            measure(each, place, 1, 1)  # warm-up
        for connections in CONNECTIONS:
            for _ in range(ROUNDS):
                for each in services:
                    rounds[each.name, connections].append(measure(each, place, connections, SECONDS))
    names = [each.name for each in services]
    results = [_summarise(name, connections, rounds) for connections in CONNECTIONS for name in names]
    table(
        f"POST /predict, medians of {ROUNDS} alternating rounds of {SECONDS} s; multiples of the single service",
        ("composition", "connections", "requests/s", "p50 ms", "p99 ms", "worker us", "p50", "requests/s", "worker us"),
        [
            (
                each.composition,
                each.connections,
                round(each.requests_per_second),
                round(each.p50_ms, 2),
                round(each.p99_ms, 2),
                round(each.cpu_us),
                round(each.p50_ratio, 2),
                f"{each.throughput_ratio:.2f}",
                round(each.cpu_ratio, 2),
            )
            for each in results
        ],
    )
    return list(results)


def _start(place: Path, url: str, server: int, stack: ExitStack) -> list[Service]:
    model, info = small_scorer(TREES, CONTRACT), model_info(CONTRACT)
    second: dict[str, Contract] = {"chain": informed(CONTRACT), "ensemble": CONTRACT}
    services: list[Service] = []
    for name in (SINGLE, *COMPOSITIONS):
        folder = save_model(model, place / f"model-{len(services)}", info, CONTRACT)
        settings = pinned(
            place / f"home-{len(services)}",
            folder,
            port=free_port(),
            contracts=INSTANCE.folder,
            feature_store_url=SecretStr(url),
            outbox_max_records=10**7,
        )
        if name == SINGLE:
            tag = bento.build(info, folder, settings, INSTANCE).tag
            process = stack.enter_context(running(tag, settings)).process
            services.append(Service(name, settings.port, process.pid, server))
            continue
        if contract := second.get(name):
            save_model(small_scorer(TREES, contract), folder / "second", replace(info, version="9"), contract)
        command = ("bentoml", "serve", f"examples.patterns.{name}:{COMPOSITIONS[name]}")
        services.append(stack.enter_context(other_service(name, command, place, settings, server)))
    return services


def _summarise(name: str, connections: int, rounds: dict[tuple[str, int], list[Round]]) -> PatternResult:
    mine, single = rounds[name, connections], rounds[SINGLE, connections]

    def median(field: str) -> float:
        return float(statistics.median(getattr(each, field) for each in mine))

    def ratio(field: str) -> float:
        pairs = zip(mine, single, strict=True)
        return float(statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs))

    return PatternResult(
        composition=name,
        connections=connections,
        requests_per_second=median("rps"),
        p50_ms=median("p50_ms"),
        p99_ms=median("p99_ms"),
        cpu_us=median("cpu_us"),
        p50_ratio=ratio("p50_ms"),
        throughput_ratio=ratio("rps"),
        cpu_ratio=ratio("cpu_us"),
        errors=sum(each.errors for each in mine),
    )

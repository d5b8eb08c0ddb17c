"""The simulated clients: each sends rows that satisfy the contract and checks the answers. Run by `python -m load`."""

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from load.service_levels import Measured, users_at
from locust import FastHttpUser, LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from ctcd.contract.instance import load_instance
from ctcd.contract.service_levels import Shape, load_service_levels
from ctcd.settings import load_settings

INSTANCE = load_instance(load_settings().contracts)

SHAPE: list[Shape] = []
"""The load shape of this run, set once the options are parsed."""
BODIES: list[str] = []
ERRORS: Counter[str] = Counter()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # Locust left it untyped
def _options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--shape", required=True)
    parser.add_argument("--payloads", type=Path, required=True)
    parser.add_argument("--summary", type=Path, required=True)
    parser.add_argument("--key", default="", is_secret=True, env_var="LOAD_KEY")


@events.init.add_listener  # type: ignore[untyped-decorator] # as above
def _prepare(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    assert options is not None
    shape = load_service_levels(INSTANCE).shape(options.shape)
    SHAPE.append(shape)
    low, high = shape.wait_seconds
    Client.wait_time = lambda _self: random.uniform(low, high)  # noqa: S311 - think time needs no secure randomness
    Client.default_headers = {"X-API-Key": options.key} if options.key else {}
    BODIES.extend(options.payloads.read_text(encoding="utf-8").splitlines())


class Client(FastHttpUser):
    """Requests one prediction after another."""

    network_timeout = connection_timeout = 10.0
    _bodies = itertools.count()

    @task
    def predict(self) -> None:
        body = BODIES[next(self._bodies) % len(BODIES)]
        # A redirect would take the key to another host.
        with self.client.post(
            "/predict",
            data=body,
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
            catch_response=True,
        ) as response:
            problem = _problem(response)
            if problem:
                ERRORS[problem] += 1
                response.failure(problem)


def _problem(response: Any) -> str:
    """Return what is wrong with an answer; empty if nothing is."""
    if response.status_code != 200:
        return f"status {response.status_code}"
    try:
        answer = json.loads(response.text)
        if answer["predict"] in INSTANCE.contract.classes and 0 < answer["confidence"] <= 1:
            return "" if response.headers.get("x-model-version") == answer["model_version"] else "no version"
    except (ValueError, KeyError, TypeError):
        return "no prediction"
    return "a wrong prediction"


class Load(LoadTestShape):
    """Follows the stages of the load shape."""

    def tick(self) -> tuple[int, float] | None:
        return users_at(SHAPE[0], self.get_run_time())  # type: ignore[no-untyped-call] # as above


@events.quitting.add_listener  # type: ignore[untyped-decorator] # as above
def _summarise(environment: Environment, **_: Any) -> None:
    total = environment.stats.total
    options = environment.parsed_options
    assert options is not None

    def percentile(share: float) -> float:
        return float(total.get_response_time_percentile(share) or 0.0)

    measured = Measured(
        shape=options.shape,
        requests=total.num_requests,
        failures=total.num_failures,
        requests_per_second=float(total.total_rps),
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        max_ms=float(total.max_response_time),
        errors=dict(ERRORS),
    )
    options.summary.write_text(measured.model_dump_json(indent=2) + "\n", encoding="utf-8")
    # The limits decide, not Locust's own count of failures.
    environment.process_exit_code = 0

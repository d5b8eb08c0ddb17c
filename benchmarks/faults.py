"""A running service under load while one thing after the other goes wrong: is any answer refused, late, lost or logged twice?"""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
from mlflow import MlflowClient
from pydantic import SecretStr
from support.hostile import hostile_bodies
from support.instance import CONTRACT, INSTANCE
from support.load import Answers, load, wait
from support.mariadb import OwnServer
from support.network import free_port
from support.serving import EXAMPLE, logged, pinned, small_scorer

from benchmarks.repeating import repeating
from benchmarks.stores import own_store
from ctcd.cli.output import table
from ctcd.deployment import bento
from ctcd.model.pyfunc import log_model
from ctcd.model.trees import MODEL_FILE
from ctcd.registry import tracking
from ctcd.registry.versions import CHAMPION, Registry
from ctcd.serving.launch import RunningService, running
from ctcd.serving.prediction_log.outbox import Outbox
from ctcd.settings import ModelSource, Settings

SECONDS = 15.0
"""How long a part takes, at least."""
SILENT = 400
"""Connections that send half a request: fewer than the service accepts from one address."""
WORKER, SHIPPING = "_bentoml_impl.worker.service", "ctcd.serving.prediction_log.shipping"
"""What the command lines of a worker and of a shipping process contain."""


@dataclass(frozen=True, kw_only=True)
class FaultResult:
    """What clients and probes saw during one part.

    Args:
        part: what went wrong meanwhile.
        seconds: how long it took.
        answered: predictions answered per second.
        refused: answers other than 200.
        broken: requests whose connection broke before the answer.
        livez_ms: longest answer of /livez, milliseconds.
        worker_mib: resident memory of the largest worker, MiB.
    """

    part: str
    seconds: float
    answered: float
    refused: int
    broken: int
    livez_ms: float
    worker_mib: float


@dataclass(frozen=True, kw_only=True)
class LogResult:
    """What the prediction log has in the end.

    Args:
        answered: predictions that clients got.
        lost: those of them that are not in the log.
        twice: request ids that are in it more than once.
        unseen: rows of answers that no client got, because their connection broke.
        dead_letters: records that cannot be read, planted by the disturbed.
    """

    answered: int
    lost: int
    twice: int
    unseen: int
    dead_letters: int


@dataclass
class _Disturbed:
    """The parts that can be disturbed."""

    settings: Settings
    service: RunningService
    server: OwnServer
    client: MlflowClient
    bodies: list[bytes]
    """The worst batches; made before anything is measured, because that takes as long as to refuse them."""

    def processes(self, mark: str) -> list[psutil.Process]:
        family = psutil.Process(self.service.process.pid).children(recursive=True)
        return [each for each in family if mark in each.cmdline()]

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection(self.settings.host, self.settings.port, timeout=60)
        try:
            connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def nothing(self) -> None:
        """Leave it alone."""

    def hostile(self) -> None:
        """Send the ten worst batches of the largest size."""
        for body in self.bodies:
            self.ask("/predict_batch", body)

    def broken_version(self) -> None:
        """Make a damaged version the champion, until it is refused; then a good one."""
        self.client.set_registered_model_alias(CONTRACT.name, CHAMPION, "2")
        wait(lambda: json.loads(self.ask("/model-info")[1])["refused"] is not None)
        self.client.set_registered_model_alias(CONTRACT.name, CHAMPION, "1")
        wait(lambda: json.loads(self.ask("/model-info")[1])["refused"] is None)

    def garbage(self) -> None:
        """Put a record of another version into an outbox, and a file beside it that is none."""
        path = next(self.settings.outbox.glob("*.outbox"))
        outbox = Outbox(path, None, max_records=10**9)
        outbox.append([b'{"format":2}'])
        outbox.close()
        path.with_name("0.outbox").write_bytes(b"garbage" * 1_000)

    def silent(self) -> None:
        """Open connections that send half a request, and keep them."""
        with ExitStack() as stack:
            for _ in range(SILENT):
                client = stack.enter_context(socket.create_connection((self.settings.host, self.settings.port)))
                client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n")
            time.sleep(SECONDS)

    def killed(self) -> None:
        """Kill a process that ships, then a worker."""
        for mark in (SHIPPING, WORKER):
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                self.processes(mark)[0].kill()
            time.sleep(SECONDS / 2)

    def store_away(self) -> None:
        """Stop the database, and start it again."""
        self.server.kill()
        time.sleep(SECONDS)
        self.server.start()

    @contextmanager
    def watching(self) -> Iterator[dict[str, float]]:
        """Ask /livez all the time; yield its longest answer, seconds, and the memory of the largest worker, bytes."""
        seen = {"livez": 0.0, "rss": 0.0}

        def look() -> None:
            began = time.perf_counter()
            with suppress(OSError, HTTPException):  # of a worker that was killed
                self.ask("/livez")
                seen["livez"] = max(seen["livez"], time.perf_counter() - began)
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                sizes = [each.memory_info().rss for each in self.processes(WORKER)]
                seen["rss"] = max(seen["rss"], *sizes)

        with repeating(look, pause=0.05):
            yield seen


def run(_data: Path | None) -> list[FaultResult | LogResult]:
    """Go through all parts; the first one is without any disturbance."""
    with own_store(INSTANCE.migrations) as store:
        url, server = store.url, store.server
        settings, registry, tag = prepare(store.folder, url, (20, 30))
        _damage(settings, registry, "2")
        lists = next(column.name for column in CONTRACT.model_inputs if column.list_of)
        bodies = list(hostile_bodies(EXAMPLE, lists, settings.batch_max_bytes).values())
        with running(tag, settings) as service, load(service) as answers:
            disturbed = _Disturbed(settings, service, server, registry.client, bodies)
            wait(lambda: len(answers.ids) > 100)
            parts: dict[str, Callable[[], None]] = {
                "nothing": disturbed.nothing,
                "the ten worst batches": disturbed.hostile,
                "a champion that is broken": disturbed.broken_version,
                "records and files that cannot be read": disturbed.garbage,
                f"{SILENT} silent connections": disturbed.silent,
                "kill -9 of shipping and worker": disturbed.killed,
                "the database is away": disturbed.store_away,
            }
            results = [_part(name, part, disturbed, answers) for name, part in parts.items()]
        # A service that starts again takes over what the others have left.
        with running(tag, settings):
            wait(lambda: set(answers.ids) <= {row["request_id"] for row in logged(url)})
        log = _log(answers, url, settings)
    _show(results, log)
    return [*results, log]


def prepare(home: Path, store: str, iterations: Sequence[int]) -> tuple[Settings, Registry, str]:
    """Register a version for each number of iterations; return the tag of the Bento of the first one, which is the champion."""
    settings = pinned(home, port=free_port(), feature_store_url=SecretStr(store), workers=2).model_copy(
        update={
            "model_source": ModelSource.REGISTRY,
            "mlflow_tracking_uri": SecretStr(f"sqlite:///{home / 'mlflow.db'}"),
        }
    )
    client = tracking.connect(settings)
    registry = Registry(client, CONTRACT, settings)
    experiment = tracking.experiment_id(client, CONTRACT, settings)
    for number in iterations:
        run_id = client.create_run(experiment).info.run_id
        log_model(client, small_scorer(number), CONTRACT, run_id=run_id)
        client.set_terminated(run_id)
        registry.register(run_id)
    client.set_registered_model_alias(CONTRACT.name, CHAMPION, "1")
    champion = registry.champion()
    folder = registry.scorer_folder(champion, home / "scorers")
    return settings, registry, bento.build(champion.model_info(), folder, settings, INSTANCE).tag


def _damage(settings: Settings, registry: Registry, version: str) -> None:
    """Cut a byte off the trees of a version, in MLflow's own files."""
    whole = (registry.scorer_folder(registry.info(version), settings.scorers) / MODEL_FILE).read_bytes()
    [stored] = [path for path in settings.artifacts.rglob(MODEL_FILE) if path.read_bytes() == whole]
    stored.write_bytes(whole[:-1])


def _part(name: str, part: Callable[[], None], disturbed: _Disturbed, answers: Answers) -> FaultResult:
    refused, broken, before, began = answers.refused, answers.broken, len(answers.ids), time.perf_counter()
    with disturbed.watching() as seen:
        part()
        time.sleep(max(0.0, began + SECONDS - time.perf_counter()))
    seconds = time.perf_counter() - began
    return FaultResult(
        part=name,
        seconds=seconds,
        answered=(len(answers.ids) - before) / seconds,
        refused=answers.refused - refused,
        broken=answers.broken - broken,
        livez_ms=seen["livez"] * 1_000,
        worker_mib=seen["rss"] / 2**20,
    )


def _log(answers: Answers, url: str, settings: Settings) -> LogResult:
    ids = Counter(str(row["request_id"]) for row in logged(url))
    dead = 0
    for path in settings.outbox.glob("*.outbox"):
        outbox = Outbox.attach(path)
        dead += outbox.dead_letters
        outbox.close()
    return LogResult(
        answered=len(answers.ids),
        lost=len(set(answers.ids) - set(ids)),
        twice=sum(count > 1 for count in ids.values()),
        unseen=len(set(ids) - set(answers.ids)),
        dead_letters=dead,
    )


def _show(results: list[FaultResult], log: LogResult) -> None:
    table(
        "Under load, while this goes wrong (baseline: nothing)",
        ("part", "seconds", "answered/s", "refused", "broken", "/livez ms", "worker MiB"),
        [
            (
                each.part,
                round(each.seconds, 1),
                round(each.answered),
                each.refused,
                each.broken,
                round(each.livez_ms),
                round(each.worker_mib),
            )
            for each in results
        ],
    )
    values = asdict(log)
    table("The prediction log in the end; targets: none lost, none twice", tuple(values), [tuple(values.values())])
